"""The versions of redun's database schema, which of them this library works with, and its own."""

from __future__ import annotations

from typing import Any, NamedTuple

from aredun.errors import RedunVersionError

REDUN_DB_UNKNOWN_VERSION = 99
UNKNOWN_MIGRATION_ID = "ffffffffffff"


class DBVersionInfo(NamedTuple):
    """A version of the schema and the alembic revision that makes it (mirrors redun's `DBVersionInfo`).

    Versions compare by (major, minor) alone; comparing with anything else raises TypeError.

    Attributes
    ----------
    migration_id : str
        Alembic's id of the migration.
    major : int
        Counts incompatible schemas.
    minor : int
        Counts changes that older code can live with.
    description : str
        What changed, in a few words.
    """

    migration_id: str
    major: int
    minor: int
    description: str

    @staticmethod
    def _number(version: Any) -> tuple[int, int]:
        if not isinstance(version, DBVersionInfo):
            raise TypeError(f"Expected DBVersionInfo: {version}")
        return version.major, version.minor

    def __lt__(self, other: Any) -> bool:
        return self._number(self) < self._number(other)

    def __le__(self, other: Any) -> bool:
        return self._number(self) <= self._number(other)

    def __gt__(self, other: Any) -> bool:
        return self._number(self) > self._number(other)

    def __ge__(self, other: Any) -> bool:
        return self._number(self) >= self._number(other)

    def __eq__(self, other: object) -> bool:
        return self._number(self) == self._number(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._number(self))

    def __str__(self) -> str:
        minor = "?" if self.minor == REDUN_DB_UNKNOWN_VERSION else self.minor
        return f"{self.major}.{minor}"


null_db_version = DBVersionInfo("000000000000", -1, 0, "No schema present.")

# From oldest to newest.
REDUN_DB_VERSIONS = [
    DBVersionInfo("806f5dcb11bf", 1, 0, "Prototype schema."),
    DBVersionInfo("647c510a77b1", 2, 0, "Initial production schema."),
    DBVersionInfo("30ffbaee18cd", 2, 1, "Backfill companion values for tasks"),
    DBVersionInfo("71ec303c90e4", 2, 2, "Add indexes for id prefix search"),
    DBVersionInfo("d4af139b6f53", 2, 3, "Add job.execution_id"),
    DBVersionInfo("cd2d53191748", 3, 0, "Make job.execution_id non-nullable"),
    DBVersionInfo("cc4f663817b6", 3, 1, "Add Tag schemas."),
    DBVersionInfo("eb7b95e4e8bf", 3, 2, "Remove length restriction on value type names."),
    DBVersionInfo("f68b3aaee9cc", 3, 3, "Add job and value indexes."),
    DBVersionInfo("3b0a6e67cc58", 3, 4, "Add UTC timezone to timestamps."),
    DBVersionInfo("0bee3d6dba76", 3, 5, "Add updated_time."),
]
REDUN_DB_MIN_VERSION = DBVersionInfo("", 3, 5, "")
REDUN_DB_MAX_VERSION = DBVersionInfo("", 3, REDUN_DB_UNKNOWN_VERSION, "")


def get_all_db_versions() -> list[DBVersionInfo]:
    """Return every version that the migrations know, from oldest to newest."""
    return list(REDUN_DB_VERSIONS)


def get_db_version_required() -> tuple[DBVersionInfo, DBVersionInfo]:
    """Return the oldest and the newest version that this library works with, both included."""
    return REDUN_DB_MIN_VERSION, REDUN_DB_MAX_VERSION


def unknown_db_version(major: int) -> DBVersionInfo:
    """Return the version that stands for a schema of `major` whose migration this library does not know."""
    return DBVersionInfo(
        UNKNOWN_MIGRATION_ID, major, REDUN_DB_UNKNOWN_VERSION, "DB version newer than client."
    )


def parse_db_version(version_str: str) -> DBVersionInfo:
    """Return the version that "latest", "3" or "2.1" names (mirrors redun's `parse_db_version`).

    Parameters
    ----------
    version_str : str
        `latest`, `MAJOR` (its first minor) or `MAJOR.MINOR`.

    Returns
    -------
    DBVersionInfo
        The version.

    Raises
    ------
    ValueError
        When the text is not a version at all.
    RedunVersionError
        When there is no such version.
    """
    if version_str == "latest":
        return REDUN_DB_VERSIONS[-1]

    parts = version_str.split(".")
    if len(parts) > 2 or not all(part.isdecimal() for part in parts):
        raise ValueError(f"Invalid db version format: {version_str}; write it as 3, 3.5 or latest")
    number = int(parts[0]), int(parts[1]) if len(parts) == 2 else 0
    for version in REDUN_DB_VERSIONS:
        if (version.major, version.minor) == number:
            return version
    known = ", ".join(map(str, REDUN_DB_VERSIONS))
    raise RedunVersionError(f"Unknown db version: {version_str}; known are {known}")


def get_own_version() -> str:
    """Return the version of aredun that is installed."""
    # Few commands need it, and importing it takes 13 ms.
    from importlib.metadata import version

    return version("aredun")
