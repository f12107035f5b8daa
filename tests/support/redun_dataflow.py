"""redun's own dataflow module with its ties settled, so that two runs agree.

Only orders that redun leaves open are changed: the module's syntax tree is compiled again with sets that
are iterated by hash, and with related rows sorted where no query sorts them.
"""

from __future__ import annotations

import ast
import inspect
import types
from typing import TYPE_CHECKING, Any

import redun.backends.db.dataflow as original
from redun.backends.db import CallNode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def _order(item: Any) -> str:
    return str(getattr(item, "call_hash", item))


class SortedSet(set[Any]):
    """A set that is iterated in the order of call hashes."""

    def __iter__(self) -> Iterator[Any]:
        return iter(sorted(super().__iter__(), key=_order))

    def __or__(self, other: Iterable[Any]) -> SortedSet:
        return SortedSet(super().__or__(set(other)))

    def __sub__(self, other: Any) -> SortedSet:
        return SortedSet(super().__sub__(other))

    def intersection(self, *others: Iterable[Any]) -> SortedSet:
        """Return what is in all of them."""
        return SortedSet(super().intersection(*others))


def settle_rows(owner: Any, name: str) -> Any:
    """Return related rows in a fixed order, where redun takes them as the database happens to give them."""
    if name == "parents" and isinstance(owner, CallNode):
        # Calls of equal order have none among themselves. The edges are asked for once, redun's `parents`
        # every time.
        edges = sorted(owner.parent_edges, key=lambda edge: (edge.call_order, edge.parent_id))
        return [edge.parent_node for edge in edges]
    rows = getattr(owner, name)
    if name == "upstream":
        return sorted(rows, key=_order)
    if name == "arguments":
        return sorted(
            rows, key=lambda arg: (arg.arg_position is None, arg.arg_position or 0, arg.arg_key or "")
        )
    if name == "jobs":
        return sorted(rows, key=lambda job: str(job.id))
    return rows


class _Settle(ast.NodeTransformer):
    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if node.attr not in ("upstream", "arguments", "jobs", "parents"):
            return node
        arguments = [node.value, ast.Constant(node.attr)]
        return ast.Call(func=ast.Name("settle_rows", ast.Load()), args=arguments, keywords=[])

    def visit_SetComp(self, node: ast.SetComp) -> ast.AST:
        self.generic_visit(node)
        generator = ast.GeneratorExp(elt=node.elt, generators=node.generators)
        return ast.Call(func=ast.Name("SortedSet", ast.Load()), args=[generator], keywords=[])

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name("SortedSet", node.ctx) if node.id == "set" else node


def make_deterministic_dataflow() -> Any:
    """Return redun's dataflow module with sorted sets; its classes are its own, not those of redun's
    module."""
    tree = ast.fix_missing_locations(_Settle().visit(ast.parse(inspect.getsource(original))))
    module = types.ModuleType("tests.support.redun_dataflow_sorted")
    vars(module).update(SortedSet=SortedSet, settle_rows=settle_rows)
    # The code is the installed package's own source.
    exec(compile(tree, original.__file__, "exec"), vars(module))
    return module


redun_dataflow = make_deterministic_dataflow()
