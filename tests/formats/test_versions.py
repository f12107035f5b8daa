"""Versions compare, print and parse as redun's do."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import pytest
from redun.backends import db as redun_db

from aredun.errors import RedunVersionError
from aredun.formats import versions
from aredun.formats.versions import (
    DBVersionInfo,
    get_all_db_versions,
    get_db_version_required,
    parse_db_version,
)

if TYPE_CHECKING:
    from collections.abc import Callable

OPERATORS = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq]


def test_versions_are_redun_s() -> None:
    """Migration ids, numbers and descriptions are the same, from oldest to newest."""
    assert [tuple(version) for version in get_all_db_versions()] == [
        tuple(version) for version in redun_db.REDUN_DB_VERSIONS
    ]
    assert tuple(versions.null_db_version) == tuple(redun_db.null_db_version)
    theirs = redun_db.RedunBackendDb.get_db_version_required()
    assert [tuple(version) for version in get_db_version_required()] == [tuple(version) for version in theirs]


@pytest.mark.parametrize("compare", OPERATORS)
def test_only_the_number_counts(compare: Callable[[object, object], bool]) -> None:
    """Comparisons agree with redun's for all pairs, whatever the migration ids and descriptions are."""
    numbers = [(-1, 0), (2, 3), (3, 0), (3, 5), (3, 99), (4, 0)]
    for left in numbers:
        for right in numbers:
            ours = compare(DBVersionInfo("a", *left, "x"), DBVersionInfo("b", *right, "y"))
            theirs = compare(
                redun_db.DBVersionInfo("a", *left, "x"), redun_db.DBVersionInfo("b", *right, "y")
            )
            assert ours == theirs


@pytest.mark.parametrize("compare", [*OPERATORS, operator.ne])
def test_comparing_with_something_else_is_an_error(compare: Callable[[object, object], bool]) -> None:
    """A plain tuple is not a version."""
    with pytest.raises(TypeError, match="Expected DBVersionInfo"):
        compare(parse_db_version("3.5"), ("0bee3d6dba76", 3, 5, ""))


def test_equal_versions_hash_alike() -> None:
    """Versions can be members of sets."""
    assert (
        len({DBVersionInfo("a", 3, 5, "x"), DBVersionInfo("b", 3, 5, "y"), DBVersionInfo("a", 3, 4, "x")})
        == 2
    )
    assert DBVersionInfo("a", 3, 5, "x") != DBVersionInfo("a", 3, 4, "x")


@pytest.mark.parametrize("number", [(-1, 0), (3, 5), (3, 99), (10, 12)])
def test_text(number: tuple[int, int]) -> None:
    """An unknown minor version is a question mark."""
    assert str(DBVersionInfo("", *number, "")) == str(redun_db.DBVersionInfo("", *number, ""))


@pytest.mark.parametrize("text", ["latest", "1", "2", "2.1", "3", "3.0", "3.4", "3.5"])
def test_parse(text: str) -> None:
    """What redun understands means the same here."""
    assert tuple(parse_db_version(text)) == tuple(redun_db.parse_db_version(text))


@pytest.mark.parametrize("text", ["3.6", "4", "0.1"])
def test_parse_unknown(text: str) -> None:
    """A version that never was gets the list of those that were."""
    with pytest.raises(redun_db.RedunVersionError):
        redun_db.parse_db_version(text)
    with pytest.raises(RedunVersionError, match=rf"Unknown db version: {text}; known are 1\.0, .*3\.5$"):
        parse_db_version(text)


@pytest.mark.parametrize("text", ["", "three", "3.5.1", "3.", ".5", "-3", "3,5"])
def test_parse_nonsense(text: str) -> None:
    """What is no version at all is a ValueError, as redun's."""
    with pytest.raises(ValueError, match="Invalid db version format"):
        parse_db_version(text)
