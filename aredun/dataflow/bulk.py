"""What both directions of a walk share: reading the statements that look ahead, and the entries that they
lead to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from aredun.dataflow.decide import Key, Step, make_key, parse_key
from aredun.dataflow.refs import RefLoader

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

Entry: TypeAlias = tuple[Step, ...]


# A node whose edges are to be loaded: (kind, hash, value followed, latest parent of an argument's call, key).
Wanted: TypeAlias = tuple[str, str, str, "str | None", Key]


KIND: Final = 0
VALUE: Final = 2
KEY: Final = 4


class Reach(NamedTuple):
    """What a load that looks ahead brought.

    Attributes
    ----------
    entries : dict of Key to Entry
        Steps out of every new node.
    rows : int
        Nodes that the statement met, known ones included.
    known_calls : list of str
        Hashes of calls among them that were known already.
    truncated : bool
        Whether the limit ended it.
    """

    entries: dict[Key, Entry]
    rows: int
    known_calls: list[str]
    truncated: bool


def sort_by_kind(nodes: Sequence[Wanted]) -> dict[str, list[Wanted]]:
    """Return nodes by what their kinds are called in statements: calls, arguments and results."""
    wanted: dict[str, list[Wanted]] = {"c": [], "a": [], "r": []}
    for node in nodes:
        wanted[node[KIND].lower()].append(node)
    return wanted


class BulkLoader(RefLoader):
    """Loads entries (the steps out of a node) for many nodes at once, in one direction."""

    reach_statement: str

    async def load_edges(
        self, session: AsyncSession, nodes: Sequence[Wanted], *, with_parents: bool
    ) -> dict[Key, Entry]:
        """Return the entries of some nodes, with the latest parents of arguments' calls given or not."""
        raise TypeError(f"{type(self).__name__} has no direction")

    async def load_nodes(self, keys: Sequence[Key]) -> dict[Key, Entry]:
        """Return the entries of calls, arguments and results.

        Parameters
        ----------
        keys : sequence of Key
            Keys of the nodes: one, or the thousands of a layer.
        """

        async def operation(session: AsyncSession) -> dict[Key, Entry]:
            await self._dialect.prepare(session)
            nodes: list[Wanted] = [(*parse_key(key), None, key) for key in keys]
            return await self.load_edges(session, nodes, with_parents=False)

        return await self._database.read(operation, transaction=self._dialect.needs_preparation)

    async def load_reach(
        self,
        seeds: Sequence[Key],
        limit: int,
        is_known: Callable[[Key], bool],
        stop: Collection[str],
        note: Callable[[Sequence[Key]], None],
    ) -> Reach:
        """Return the entries of some nodes and of what a walk reaches from them, in at most six statements.

        Parameters
        ----------
        seeds : sequence of Key
            Keys of the nodes to begin with; their entries are always loaded.
        limit : int
            Most nodes to look at.
        is_known : callable
            Tells whether the node of a key needs no entry any more.
        stop : collection of str
            Hashes of calls whose arguments are not to be followed.
        note : callable
            Is told the keys of the nodes that were met, before their entries are loaded.

        Returns
        -------
        Reach
            The entries and how well the load went.
        """
        parameters = {
            **self._dialect.bind("seeds", [parse_key(key) for key in seeds], 3),
            **self._dialect.bind_strings("stop", list(stop)),
            "limit": limit,
        }
        first = set(seeds)

        async def operation(session: AsyncSession) -> Reach:
            await self._dialect.prepare(session)
            wanted: list[Wanted] = []
            known_calls: list[str] = []
            count = 0
            async for rows in self._dialect.fetch(session, self.reach_statement, 4, parameters):
                count += len(rows)
                for kind, node_hash, value_hash, parent in rows:
                    key = make_key(kind, node_hash, value_hash)
                    if key in first or not is_known(key):
                        wanted.append((kind, node_hash, value_hash, parent, key))
                    elif kind == "C":
                        known_calls.append(node_hash)
            note([node[KEY] for node in wanted])
            entries = await self.load_edges(session, wanted, with_parents=True)
            return Reach(entries, count, known_calls, count >= limit)

        return await self._database.read(operation, transaction=self._dialect.needs_preparation)
