"""Database URIs for the synchronous drivers that redun uses."""

from __future__ import annotations

import re
from importlib.util import find_spec


def get_sync_uri(db_uri: str) -> str:
    """Return a URI with the driver that redun needs in place of any other.

    Parameters
    ----------
    db_uri : str
        With or without a driver in its scheme.

    Returns
    -------
    str
        For a file without a driver. For PostgreSQL with psycopg2, or psycopg where that is what is installed:
        SQLAlchemy 2.1 takes psycopg for a scheme that names none. Any other URI as it is.
    """
    if re.match(r"sqlite(\+\w+)?:", db_uri):
        return re.sub(r"^[^:]+:", "sqlite:", db_uri)
    if re.match(r"postgres(ql)?(\+asyncpg)?:", db_uri):
        driver = "psycopg2" if find_spec("psycopg2") else "psycopg"
        return re.sub(r"^[^:]+:", f"postgresql+{driver}:", db_uri)
    return db_uri
