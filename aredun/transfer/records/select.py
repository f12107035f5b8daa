"""The statements for each kind of record, and how the rows of other tables belong to its records."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import sqlalchemy as sa

from aredun.loop.pacing import iter_parts, take_turn
from aredun.models import Argument, ArgumentResult, File, Task, Value
from aredun.storage.record_rows import plain, select_rows
from aredun.storage.rows import ROW_TABLES
from aredun.tables.column_types import ShortBinary, in_list

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aredun.storage import Database
    from aredun.storage.fetch import Rows

    # Rows by the id of the record that they are parts of.
    Related = dict[str, Rows]

# Values of more bytes than this are fetched apart from the rest, one by one.
LARGE_VALUE: Final = 1 << 15


class Part(NamedTuple):
    """A statement for rows of other tables.

    Attributes
    ----------
    statement : Select
        Gives those of the records whose ids are among `ids`.
    owner : int
        The place of the cell by which they are grouped.
    """

    statement: sa.SelectBase
    owner: int


class Selection(NamedTuple):
    """The statements for records of one kind.

    Attributes
    ----------
    own : Select
        Gives the own rows of the records whose ids are among `ids`, the id first.
    parts : tuple of Part
        Give what belongs to those in other tables.
    """

    own: sa.SelectBase
    parts: tuple[Part, ...] = ()

    async def fetch(self, database: Database, ids: Sequence[str]) -> list[Any]:
        """Return the own rows, and for each part the rows by what they belong to."""
        statements = tuple(part.statement for part in self.parts)
        rows, *others = await database.fetch_related(self.own, statements, ids)
        owners = (part.owner for part in self.parts)
        return [rows, *[await _group(*each) for each in zip(others, owners, strict=True)]]


async def _group(rows: Rows, owner: int) -> Related:
    groups: Related = defaultdict(list)
    for part in iter_parts(rows):
        await take_turn()
        for row in part:
            groups[row[owner]].append(row)
    return groups


def _select_part(name: str, *order: str) -> Part:
    table = ROW_TABLES[name]
    return Part(select_rows(name, table.owner, order), table.columns.index(table.owner))


def _select_values() -> sa.Select[Any]:
    size = sa.func.length(Value.value)
    small = sa.case((size <= LARGE_VALUE, Value.value), else_=None)
    return (
        sa.select(
            *map(plain, (Value.value_hash, Value.type, Value.format)),
            sa.type_coerce(small, ShortBinary()).label("data"),
            size.label("size"),
            File.path,
            Task.name,
            Task.namespace,
            Task.source,
        )
        .outerjoin(File, File.value_hash == Value.value_hash)
        .outerjoin(Task, Task.hash == Value.value_hash)
        .where(in_list(Value.value_hash, "ids"))
    )


# Values: hash, type, format, bytes, size, path, name, namespace, source. The bytes of large values are NULL:
# they are fetched one by one, by `read_data`.
SELECT_VALUES: Final = _select_values()
# Grouped by argument, since these rows do not name the call.
_RESULTS: Final = Part(
    sa.select(ArgumentResult.arg_hash, ArgumentResult.result_call_hash)
    .join(Argument, Argument.arg_hash == ArgumentResult.arg_hash)
    .where(in_list(Argument.call_hash, "ids"))
    .order_by(ArgumentResult.result_call_hash),
    owner=0,
)
SELECTIONS: Final = {
    "Value": Selection(SELECT_VALUES, (_select_part("subvalue", "value_hash"),)),
    "CallNode": Selection(
        select_rows("call_node", "call_hash"),
        (_select_part("argument"), _RESULTS, _select_part("call_edge", "parent_id", "call_order")),
    ),
    "Job": Selection(select_rows("job", "id")),
    "Execution": Selection(select_rows("execution", "id")),
    "Tag": Selection(select_rows("tag", "tag_hash"), (_select_part("tag_edit", "parent_id"),)),
}
