"""Verification of references: whatever a row refers to is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from aredun.database.record_rows import TABLES, select_column
from aredun.database.rows import find_references

if TYPE_CHECKING:
    from aredun.verify.context import Context

# References between tables that are foreign keys, or ought to be: (table, column, table, column).
_REFERENCES: Final = tuple(
    (name, reference.column, reference.table, reference.key)
    for name, table in TABLES.items()
    for reference in find_references(table)
)
# Whose fault a bad row of a table is: what that record is called, and the column with its id.
_OWNERS: Final = {
    "argument": ("CallNode", "call_hash"),
    "argument_result": ("Argument", "arg_hash"),
    "call_edge": ("CallNode", "parent_id"),
    "call_node": ("CallNode", "call_hash"),
    "call_subtree_task": ("CallNode", "call_hash"),
    "evaluation": ("Evaluation", "eval_hash"),
    "execution": ("Execution", "id"),
    "file": ("File", "value_hash"),
    "handle": ("Handle", "hash"),
    "handle_edge": ("Handle", "child_id"),
    "job": ("Job", "id"),
    "subvalue": ("Value", "parent_value_hash"),
    "tag_edit": ("Tag", "child_id"),
    "task": ("Task", "hash"),
}
# Rows that are nothing without what they refer to: they belong to it. Evaluations are a cache, and a set of
# subtree tasks with one of them missing is worse than none.
_ORPHANS: Final = frozenset(
    {
        ("argument", "call_hash"),
        ("argument_result", "arg_hash"),
        ("call_edge", "parent_id"),
        ("call_subtree_task", "call_hash"),
        ("call_subtree_task", "task_hash"),
        ("evaluation", "task_hash"),
        ("evaluation", "value_hash"),
        ("file", "value_hash"),
        ("subvalue", "parent_value_hash"),
        ("tag_edit", "child_id"),
    }
)


async def check_references(context: Context) -> None:
    """Check that whatever is referred to is there; in a repair, delete the rows whose owner is not."""
    for table, column, target, key in _REFERENCES:
        source = TABLES[table].alias("source")
        goal = TABLES[target].alias("goal")
        name, owner_column = _OWNERS[table]
        statement = (
            sa.select(source.c[owner_column], source.c[column])
            .outerjoin(goal, goal.c[key] == source.c[column])
            .where(source.c[column].is_not(None), goal.c[key].is_(None))
        )
        rows = await context.read(statement)
        repaired = context.repair and (table, column) in _ORPHANS
        for owner, missing in rows:
            detail = f"its {column} {missing} is not among the {target.replace('_', ' ')}s"
            context.found("dangling reference", f"{name} {owner}", detail, repaired=repaired)
        if repaired:
            await _delete(context, table, owner_column, {row[0] for row in rows})


async def _delete(context: Context, table: str, column: str, owners: set[str]) -> None:
    if table == "argument":
        arguments = select_column("argument", "arg_hash", "call_hash")
        (rows,) = await context.fetch(sorted(owners), arguments)
        await _delete(context, "argument_result", "arg_hash", {row.arg_hash for row in rows})
    await context.delete(TABLES[table].c[column], owners)
