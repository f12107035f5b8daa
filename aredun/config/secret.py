"""Database credentials from AWS Secrets Manager (extra `aredun[aws]`)."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aredun.config.uri import DRIVERS, DatabaseUrl
from aredun.errors import RedunDatabaseError, UsageError

if TYPE_CHECKING:
    from aredun.config.backend import BackendConfig

# redun's default region; botocore has none.
DEFAULT_AWS_REGION = "us-west-2"
_ENGINES = ("postgres", "postgresql")
_KEYS = ("engine", "username", "password", "host", "port", "dbname")


def resolve_secret(config: BackendConfig) -> BackendConfig:
    """
    Fetch the secret that a configuration names and fill in its URL.

    Mirrors redun's `RedunBackendDb._get_uri_from_secret`.

    Talks to AWS: call it in a thread from an event loop.

    Parameters
    ----------
    config : BackendConfig
        Returned as it is if it names no secret or is resolved already.

    Returns
    -------
    BackendConfig
        With its `url`.

    Raises
    ------
    RedunDatabaseError
        If the secret cannot be fetched, or lacks one of the keys that RDS writes (engine, username, password,
        host, port, dbname). The message never shows the secret.
    UsageError
        If boto3 is not installed.
    """
    if not config.db_aws_secret_name or config.url is not None:
        return config
    secret = _fetch_secret(config.db_aws_secret_name)
    title = f"AWS secret {config.db_aws_secret_name!r}"
    missing = [key for key in _KEYS if key not in secret]
    if missing:
        raise RedunDatabaseError(f"{title} lacks {', '.join(missing)}: it must hold {', '.join(_KEYS)}")
    if secret["engine"] not in _ENGINES:
        raise RedunDatabaseError(f"{title} is for engine {secret['engine']!r}: it must be 'postgres'")
    url = DatabaseUrl(
        DRIVERS["postgresql"],
        username=str(secret["username"]),
        password=str(secret["password"]),
        host=str(secret["host"]),
        port=int(secret["port"]),
        database=str(secret["dbname"]),
    )
    return replace(config, url=url)


def _fetch_secret(name: str) -> dict[str, Any]:
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise UsageError("db_aws_secret_name needs boto3: install aredun[aws]") from None
    region = os.environ.get("AWS_REGION", DEFAULT_AWS_REGION)
    try:
        answer = boto3.client("secretsmanager", region_name=region).get_secret_value(SecretId=name)
        secret = json.loads(answer["SecretString"])
    except (BotoCoreError, ClientError) as error:
        reason = " ".join(str(error).split())
        raise RedunDatabaseError(f"cannot fetch AWS secret {name!r} in {region}: {reason}") from None
    except (KeyError, ValueError):
        raise RedunDatabaseError(
            f"AWS secret {name!r} is not JSON: it must hold {', '.join(_KEYS)}"
        ) from None
    if not isinstance(secret, dict):
        raise RedunDatabaseError(f"AWS secret {name!r} is not an object: it must hold {', '.join(_KEYS)}")
    return secret
