"""What both directions of a walk share: reading the statements that look ahead, and the entries that they
lead to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from aredun.dataflow.decide import Step
from aredun.dataflow.refs import RefLoader

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

Entry: TypeAlias = tuple[Step, ...]


# A node whose edges are to be loaded: (key, hash, value followed, latest parent of an argument's call).
Wanted: TypeAlias = tuple[str, str, str, "str | None"]


class Reach(NamedTuple):
    """What a load that looks ahead brought.

    Attributes
    ----------
    entries : dict of str to Entry
        Steps out of every new node.
    rows : int
        Nodes that the statement met, known ones included.
    known_calls : list of str
        Hashes of calls among them that were known already.
    truncated : bool
        Whether the limit ended it.
    """

    entries: dict[str, Entry]
    rows: int
    known_calls: list[str]
    truncated: bool


def parse_key(key: str) -> Wanted:
    """Return the parts of a node's key."""
    node_hash, _, value_hash = key[1:].partition("/")
    return key, node_hash, value_hash, None


class BulkLoader(RefLoader):
    """Loads entries (the steps out of a node) for many nodes at once, in one direction."""

    reach_statement: str

    async def load_edges(
        self, session: AsyncSession, nodes: Sequence[Wanted], *, with_parents: bool
    ) -> dict[str, Entry]:
        """Return the entries of some nodes, with the latest parents of arguments' calls given or not."""
        raise TypeError(f"{type(self).__name__} has no direction")

    async def load_nodes(self, keys: Sequence[str]) -> dict[str, Entry]:
        """Return the entries of calls, arguments and results.

        Parameters
        ----------
        keys : sequence of str
            Keys of the nodes: one, or the thousands of a layer.
        """

        async def operation(session: AsyncSession) -> dict[str, Entry]:
            await self._dialect.prepare(session)
            return await self.load_edges(session, [parse_key(key) for key in keys], with_parents=False)

        return await self._database.read(operation, transaction=self._dialect.needs_preparation)

    async def load_reach(
        self, seeds: Sequence[str], limit: int, is_known: Callable[[str], bool], stop: Collection[str]
    ) -> Reach:
        """Return the entries of some nodes and of what a walk reaches from them, in at most six statements.

        Parameters
        ----------
        seeds : sequence of str
            Keys of the nodes to begin with; their entries are always loaded.
        limit : int
            Most nodes to look at.
        is_known : callable
            Tells whether the node of a key needs no entry any more.
        stop : collection of str
            Hashes of calls whose arguments are not to be followed.

        Returns
        -------
        Reach
            The entries and how well the load went.
        """
        nodes = [(node[0][0], node[1], node[2]) for node in map(parse_key, seeds)]
        parameters = {
            **self._dialect.bind("seeds", nodes, 3),
            **self._dialect.bind_strings("stop", list(stop)),
            "limit": limit,
        }
        first = set(seeds)

        async def operation(session: AsyncSession) -> Reach:
            await self._dialect.prepare(session)
            wanted = []
            known_calls = []
            count = 0
            rows = self._dialect.fetch(session, self.reach_statement, 4, parameters)
            async for kind, node_hash, value_hash, parent in rows:
                count += 1
                key = "C" + node_hash if kind == "C" else f"{kind}{node_hash}/{value_hash}"
                if key in first or not is_known(key):
                    wanted.append((key, node_hash, value_hash, parent))
                elif kind == "C":
                    known_calls.append(node_hash)
            entries = await self.load_edges(session, wanted, with_parents=True)
            return Reach(entries, count, known_calls, count >= limit)

        return await self._database.read(operation, transaction=self._dialect.needs_preparation)
