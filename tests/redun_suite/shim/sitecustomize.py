"""Lets redun's tests, written for moto 4, run on moto 5, in the processes that those tests start, too."""

from __future__ import annotations

import datetime
import importlib.abc
import importlib.util
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

# moto 5 has one decorator for all services; redun's tests name those of moto 4.
MOTO_4 = (
    "mock_s3",
    "mock_secretsmanager",
    "mock_ec2",
    "mock_ecs",
    "mock_logs",
    "mock_glue",
    "mock_batch",
    "mock_iam",
)


def add_decorators(moto: ModuleType) -> None:
    """Give moto a decorator for each service."""
    for name in MOTO_4:
        if not hasattr(moto, name):
            setattr(moto, name, moto.mock_aws)


def keep_frozen_utc(utils: ModuleType) -> None:
    """Let moto's clock show UTC where freezegun has frozen it in another time zone."""

    def utcnow() -> datetime.datetime:
        # freezegun shifts `now(tz)`, which moto asks on this Python, by the frozen zone's offset.
        return datetime.datetime.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)

    utils.utcnow = utcnow  # type: ignore[attr-defined]  # of moto.core.utils


def pass_on_stream(response: ModuleType) -> None:
    """Let the body of a response answer for the stream in it, as that of older aiobotocores did."""

    class StreamingBody(response.StreamingBody):  # type: ignore[misc, name-defined]  # known when it runs
        def __getattr__(self, name: str) -> Any:
            return getattr(self.raw_stream, name)

    response.StreamingBody = StreamingBody  # type: ignore[attr-defined]  # of aiobotocore.response


class _PatchingFinder(importlib.abc.MetaPathFinder):
    """Finds modules where they are, and patches them once they have been imported."""

    def __init__(self, patches: dict[str, Callable[[ModuleType], None]]) -> None:
        self._patches = patches

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        # Taken out: the module is looked for once more, by the other finders.
        patch = self._patches.pop(fullname, None)
        if patch is None:
            return None
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_patch(module: ModuleType) -> None:
            execute(module)
            patch(module)

        spec.loader.exec_module = execute_and_patch  # type: ignore[method-assign]  # of this one loader
        return spec


sys.meta_path.insert(
    0,
    _PatchingFinder(
        {
            "moto": add_decorators,
            "moto.core.utils": keep_frozen_utc,
            "aiobotocore.response": pass_on_stream,
        }
    ),
)
