"""The server: HTTP API, websockets and viewer of a repository (extra `aredun[server]`)."""

from aredun.server.app import create_app
from aredun.server.settings import ServerSettings

__all__ = ["ServerSettings", "create_app"]
