"""Which call a value came from. Pure: no order that hangs on a set or on rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class Candidate(NamedTuple):
    """A call whose result is or holds a value; the latest start of its jobs, None without a job."""

    call_hash: str
    task_hash: str
    value_hash: str
    started: Any


def find_origin(candidates: Sequence[Candidate], parents: Mapping[str, Sequence[str]]) -> Candidate | None:
    """Return the call that a value came from, given the parents of candidates and of their ancestors in the
    order of their calls; None where no candidate ran, or all of them only passed the value on."""
    # An ancestor of another candidate only passed the value on. The candidate that ran last wins.
    hashes = {candidate.call_hash for candidate in candidates}
    seen: set[str] = set()
    routing = set()
    for call_hash in sorted(hashes):
        ancestor = _find_ancestor(call_hash, hashes, parents, seen)
        if ancestor is not None:
            routing.add(ancestor)
    best: Candidate | None = None
    for candidate in candidates:
        if candidate.call_hash in routing or candidate.started is None:
            continue
        if best is None or candidate.started > best.started:
            best = candidate
        elif candidate.started == best.started and candidate.call_hash < best.call_hash:
            best = candidate
    return best


def _find_ancestor(
    call_hash: str, wanted: set[str], parents: Mapping[str, Sequence[str]], seen: set[str]
) -> str | None:
    """Return the first wanted ancestor in pre-order; skip what earlier calls have seen, and add to that."""
    path = [iter(parents.get(call_hash, ()))]
    while path:
        for parent in path[-1]:
            if parent in seen:
                continue
            if parent in wanted:
                # Not added to `seen`: the searches of other calls may end here, too.
                return parent
            seen.add(parent)
            path.append(iter(parents.get(parent, ())))
            break
        else:
            path.pop()
    return None


def sort_parents(edges: Iterable[tuple[str, str, int]]) -> dict[str, list[str]]:
    """Return the parents of every child by call order, then by hash, given (child, parent, least call
    order)."""
    ordered: dict[str, list[tuple[int, str]]] = {}
    for child, parent, call_order in edges:
        ordered.setdefault(child, []).append((call_order, parent))
    return {child: [parent for _, parent in sorted(pairs)] for child, pairs in ordered.items()}
