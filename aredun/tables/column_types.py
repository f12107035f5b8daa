"""Column types and SQL constructs that read the same on sqlite and on PostgreSQL.

Nothing but this module, `aredun.storage` and the migrations knows which dialect is behind a session.
"""

from __future__ import annotations

import enum
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.dialects.postgresql import Insert
    from sqlalchemy.engine import Dialect
    from sqlalchemy.sql.compiler import SQLCompiler


class TagEntity(enum.Enum):
    """What a tag hangs on; `Null` marks a tag that deletes its parents (mirrors redun's `TagEntity`)."""

    Execution = "Execution"
    Job = "Job"
    CallNode = "CallNode"
    Task = "Task"
    Value = "Value"
    Null = "Null"


def utcnow() -> datetime:
    """Return the current time in UTC, with its time zone."""
    return datetime.now(UTC)


class Column(sa.Column[Any]):
    """A column that is NOT NULL unless it is told otherwise (mirrors redun's `Column`).

    Parameters
    ----------
    *args, **kwargs : Any
        As for SQLAlchemy's `Column`; `nullable` is False unless given.
    """

    inherit_cache = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("nullable", False)
        super().__init__(*args, **kwargs)


class DateTimeUTC(TypeDecorator[datetime]):
    """A point in time: `timestamptz` on PostgreSQL, a naive UTC timestamp on sqlite.

    Mirrors redun's `DateTimeUTC`.

    Raises
    ------
    ValueError
        When a datetime without a time zone is bound.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive datetime; hand an aware one on in UTC, because sqlite drops the offset."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a datetime without a time zone cannot be stored: {value}; give it tzinfo=UTC")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give what sqlite returns its time zone back."""
        if value is not None and value.tzinfo is None:
            return value.replace(tzinfo=UTC)
        return value


class JSON(TypeDecorator[Any]):
    """JSON as `jsonb` on PostgreSQL and as normalised text on sqlite, so that equality works on both.

    Mirrors redun's `JSON`: the text has sorted keys and no white space, and None is stored as JSON's `null`.
    """

    impl = sa.String().with_variant(postgresql.JSONB(), "postgresql")
    cache_ok = True
    should_evaluate_none = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Serialise to normalised text where the database has no JSON type."""
        if dialect.name == "postgresql":
            return value
        return json.dumps(value, separators=(",", ":"), sort_keys=True)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Parse the text where the database has no JSON type."""
        if dialect.name == "postgresql" or value is None:
            return value
        return json.loads(value)


class ShortBinary(TypeDecorator[bytes]):
    """Bytes of which a row holds at most some ten thousand: on sqlite they may travel as text."""

    impl = sa.LargeBinary
    cache_ok = True


def tag_entity_type() -> sa.Enum:
    """Return the type of `tag.entity_type`: the enum `tagentitytype` of PostgreSQL, VARCHAR(9) on sqlite."""
    return sa.Enum(TagEntity, name="tagentitytype")


class _TextArray(TypeDecorator[list[str]]):
    """Many strings in one bind parameter: an array on PostgreSQL, a JSON list on sqlite."""

    # The literal of an array would reach PostgreSQL sooner, but does not count as a constant there: rows are
    # compared with one item after the other.
    impl = sa.String().with_variant(postgresql.ARRAY(sa.String()), "postgresql")
    cache_ok = True

    def process_bind_param(self, value: list[str] | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        try:
            return orjson.dumps(value).decode()
        except TypeError:
            # Half a character, which no row holds.
            return json.dumps(value)


class TextList(_TextArray):
    """The same in one text on PostgreSQL too: an array's literal, which the driver need not look into."""

    impl = sa.String()
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if value is None or dialect.name != "postgresql":
            return super().process_bind_param(value, dialect)
        return _write_array(value)


def _write_array(cells: Sequence[Any]) -> str:
    """Return the literal of an array of texts and Nones, as PostgreSQL reads it."""
    if None not in cells:
        text = '","'.join(cells)
        if "\\" not in text and text.count('"') == 2 * (len(cells) - 1):
            return f'{{"{text}"}}'
    return f"{{{','.join(map(_write_cell, cells))}}}"


def _write_cell(cell: str | None) -> str:
    if cell is None:
        return "NULL"
    escaped = cell.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


# Kept, because a type works out its key in the cache of statements anew for every instance.
_TEXT, _TEXT_ARRAY, _TEXT_LIST = sa.String(), _TextArray(), TextList()


class _Template(FunctionElement[Any]):
    """SQL that each database has a text of its own for, with places for the arguments."""

    postgresql: str
    sqlite: str


@compiles(_Template, "postgresql")
@compiles(_Template, "sqlite")
def _fill_in(element: _Template, compiler: SQLCompiler, **kwargs: Any) -> str:
    text: str = getattr(element, compiler.dialect.name)
    return text.format(*(compiler.process(clause, **kwargs) for clause in element.clauses))


class _Condition(_Template):
    """A condition that is written as it stands."""

    type = sa.Boolean()

    def self_group(self, against: Any = None) -> Any:
        # sqlite has no boolean type, so SQLAlchemy would write `(...) = 1`, which no index serves.
        return self


class _InArray(_Condition):
    """`column IN array`; built by `in_array`."""

    name = "in_array"
    inherit_cache = True
    postgresql = "({0} = ANY ({1}))"
    sqlite = "({0} IN (SELECT value FROM json_each({1})))"


def in_array(column: Any, values: Iterable[str]) -> sa.ColumnElement[bool]:
    """Return the condition that a text column holds one of many strings.

    However many strings there are, they travel in one bind parameter (`= ANY(array)` on PostgreSQL,
    `json_each` on sqlite), so the text of the statement stays the same for every cache of statements.

    Parameters
    ----------
    column
        A text column or a mapped attribute.
    values
        The strings; an empty iterable matches no row. Repeats do no harm.
    """
    return _InArray(column, sa.bindparam(None, list(values), type_=_TEXT_ARRAY, unique=True))


def in_parameter(column: Any, name: str) -> sa.ColumnElement[bool]:
    """Return the condition of `in_array`, for a statement that is built once.

    Parameters
    ----------
    column
        A text column or a mapped attribute.
    name
        The parameter that each execution gives a list of strings for.
    """
    return _InArray(column, sa.bindparam(name, type_=_TEXT_ARRAY))


class _InList(_InArray):
    """`column IN list`; built by `in_list`."""

    name = "in_list"
    inherit_cache = True
    # A subquery is worked out once; the same as a plain expression may be for every row.
    postgresql = "({0} = ANY (CAST((SELECT CAST({1} AS VARCHAR[])) AS VARCHAR[])))"


class _InSparseList(_InArray):
    """`column IN list` where the rows are few; built by `in_list`."""

    name = "in_sparse_list"
    inherit_cache = True
    postgresql = "({0} IN (SELECT unnest(CAST({1} AS VARCHAR[]))))"


def in_list(column: Any, strings: str | Sequence[str], *, sparse: bool = False) -> sa.ColumnElement[bool]:
    """Return the condition of `in_array` for thousands of strings.

    On PostgreSQL they travel as one text: the driver takes a microsecond for each item of an array.

    Parameters
    ----------
    column
        A text column or a mapped attribute.
    strings
        The strings, or the name of the parameter that each execution gives a list of them for.
    sparse
        Few of the strings have rows, or the table may be so small that PostgreSQL reads all of it, and would
        compare each row with one string after the other: so it makes a hash table of them, or looks each up
        in the index, which takes half as long again as to look them up at once.
    """
    condition = _InSparseList if sparse else _InList
    if isinstance(strings, str):
        return condition(column, sa.bindparam(strings, type_=_TEXT_LIST))
    return condition(column, sa.bindparam(None, strings, type_=_TEXT_LIST, unique=True))


class _StartsWith(_Condition):
    """`lower <= column < upper` in the order of code points; built by `starts_with`."""

    name = "starts_with"
    inherit_cache = True
    # The operators of varchar_pattern_ops: LIKE with a parameter loses the index once the plan is generic.
    postgresql = "({0} ~>=~ {1} AND {0} ~<~ {2})"
    sqlite = "({0} >= {1} AND {0} < {2})"


def starts_with(column: Any, prefix: str) -> sa.ColumnElement[bool]:
    """Return the condition that a text column begins with `prefix`, in a form that its index serves.

    Parameters
    ----------
    column
        A text column; on PostgreSQL the `*_vpo` indexes serve it. Upper and lower case differ.
    prefix
        The beginning of the text; the empty string matches every row.
    """
    bounds = get_prefix_bounds(prefix)
    if bounds is None:
        return column.is_not(None) if not prefix else column.like(f"{prefix}%")  # type: ignore[no-any-return]  # columns are untyped here
    lower, upper = (sa.bindparam(None, bound, type_=_TEXT, unique=True) for bound in bounds)
    return _StartsWith(column, lower, upper)


def starts_with_parameters(column: Any, lower: str, upper: str) -> sa.ColumnElement[bool]:
    """Return the condition of `starts_with` for a statement that is built once, given names of parameters."""
    return _StartsWith(column, sa.bindparam(lower, type_=_TEXT), sa.bindparam(upper, type_=_TEXT))


def get_prefix_bounds(prefix: str) -> tuple[str, str] | None:
    """Return the first text that begins with `prefix` and the first after all that do, None if none is."""
    heads = prefix.rstrip("\U0010ffff")
    if not heads:
        return None
    # Skipping the surrogates: they are no text to either database.
    successor = 0xE000 if ord(heads[-1]) == 0xD7FF else ord(heads[-1]) + 1
    return prefix, heads[:-1] + chr(successor)


def insert_new(table: Any) -> Insert:
    """Return an INSERT into `table` that passes over rows whose key is already there, on both databases.

    Parameters
    ----------
    table
        A mapped class's `__table__` (or the class). Execute it with a list of dicts of the same keys, sorted
        by primary key so that concurrent writers lock in one order. `.returning(...)` may be added.
    """
    # sqlite's compiler renders PostgreSQL's ON CONFLICT clause as it stands: it took the syntax over.
    return postgresql.insert(table).on_conflict_do_nothing()


class _TransactionLock(_Template):
    """`SELECT transaction_lock(name)`; built by `transaction_lock`."""

    name = "transaction_lock"
    type = sa.Integer()
    inherit_cache = True
    postgresql = "(SELECT 1 FROM pg_advisory_xact_lock(hashtextextended({0}, 0)))"
    # Whoever writes to sqlite is alone already: write transactions begin IMMEDIATE.
    sqlite = "(SELECT 1 WHERE {0} IS NOT NULL)"


def transaction_lock(name: str) -> sa.Select[Any]:
    """Return the statement that makes writers of one thing wait for each other, until the transaction's end.

    Parameters
    ----------
    name
        What is locked, e.g. `tag:` and an entity's id. Take several in sorted order.
    """
    return sa.select(_TransactionLock(sa.bindparam(None, name, type_=_TEXT, unique=True)))


class _TableLock(sa.Executable, sa.ClauseElement):
    """Keeps others from writing to a table until the transaction's end; built by `lock_table`."""

    inherit_cache = False

    def __init__(self, table: sa.Table) -> None:
        self.table = table


@compiles(_TableLock, "postgresql")
def _table_lock_postgresql(element: _TableLock, compiler: SQLCompiler, **kwargs: Any) -> str:
    name = compiler.preparer.format_table(element.table)
    return f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE"


@compiles(_TableLock, "sqlite")
def _table_lock_sqlite(element: _TableLock, compiler: SQLCompiler, **kwargs: Any) -> str:
    # Whoever writes to sqlite is alone already: write transactions begin IMMEDIATE.
    return "SELECT 1"


def lock_table(table: sa.Table) -> sa.Executable:
    """Return the statement that waits for all who write to a table, and keeps others from it meanwhile."""
    return _TableLock(table)


class _WildcardPattern(TypeDecorator[str]):
    """A pattern of literal text and `*`, bound as LIKE (PostgreSQL) or GLOB (sqlite) understands it."""

    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        if dialect.name == "postgresql":
            literals = (re.sub(r"([\\%_])", r"\\\1", literal) for literal in value.split("*"))
            return "%".join(literals)
        return re.sub(r"([?\[])", r"[\1]", value)


class _MatchesWildcards(_Condition):
    """`column` matches a wildcard pattern; built by `matches_wildcards`."""

    name = "matches_wildcards"
    inherit_cache = True
    postgresql = "({0} LIKE {1})"
    # sqlite's LIKE takes upper and lower case for the same, which no index (and no file system here) does.
    sqlite = "({0} GLOB {1})"


def matches_wildcards(column: Any, pattern: str) -> sa.ColumnElement[bool]:
    """Return the condition that a text column matches a pattern, case and all.

    Parameters
    ----------
    column
        A text column or a mapped attribute.
    pattern
        Literal text in which `*` stands for any text, the empty one included; nothing else is special.
    """
    return _MatchesWildcards(column, sa.bindparam(None, pattern, type_=_WildcardPattern(), unique=True))
