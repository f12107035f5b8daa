"""Settings: the `[backend]` section, `redun.ini`, database URIs and credentials, as redun reads them."""

from aredun.config.backend import BackendConfig, get_abs_path
from aredun.config.ini import (
    RedunIni,
    find_config,
    get_config_dir,
    load_config,
    quote_config_dir,
    write_default_config,
)
from aredun.config.secret import resolve_secret
from aredun.config.uri import DatabaseUrl, get_sync_uri, make_file_uri, mask_db_uri

__all__ = [
    "BackendConfig",
    "DatabaseUrl",
    "RedunIni",
    "find_config",
    "get_abs_path",
    "get_config_dir",
    "get_sync_uri",
    "load_config",
    "make_file_uri",
    "mask_db_uri",
    "quote_config_dir",
    "resolve_secret",
    "write_default_config",
]
