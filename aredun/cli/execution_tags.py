"""The tags that `aredun run` gives to an execution, the same as `redun run`."""

from __future__ import annotations

import asyncio
import getpass
import os
from typing import Any

from aredun.formats.tag_syntax import DOC_KEY, PROJECT_KEY, USER_KEY, VERSION_KEY
from aredun.formats.versions import get_own_version

USER_ENV = "REDUN_USER"
GIT_TAGS = (
    ("git_commit", "REDUN_GIT_COMMIT", ("rev-parse", "--verify", "HEAD")),
    ("git_origin_url", "REDUN_GIT_ORIGIN_URL", ("remote", "get-url", "origin")),
)


async def get_execution_tags(
    user: str | None = None, project: str | None = None, doc: str | None = None
) -> list[tuple[str, Any]]:
    """Return the default tags of an execution (mirrors redun's `get_default_execution_tags`).

    Cloud accounts are left out: asking for them would contact servers at each run.

    Parameters
    ----------
    user : str | None
        By default `$REDUN_USER`, else the login name.
    project, doc : str | None
        Left out if not given.
    """
    tags: list[tuple[str, Any]] = [(VERSION_KEY, f"aredun {get_own_version()}")]
    for key, variable, command in GIT_TAGS:
        value = os.environ.get(variable) or await _ask_git(*command)
        if value:
            tags.append((key, value))
    tags.append((USER_KEY, user or os.environ.get(USER_ENV) or _get_login_name()))
    if project:
        tags.append((PROJECT_KEY, project))
    if doc:
        tags.append((DOC_KEY, doc))
    return tags


def _get_login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a uid that has no name.
        return str(os.getuid())


async def _ask_git(*arguments: str) -> str | None:
    try:
        process = await asyncio.create_subprocess_exec(
            "git", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except FileNotFoundError:
        return None
    output, _ = await process.communicate()
    return output.decode().strip() if process.returncode == 0 else None
