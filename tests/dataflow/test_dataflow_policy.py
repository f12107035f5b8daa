"""How far and how much a walk looks ahead, without a walk."""

from __future__ import annotations

from aredun.dataflow.frontier import Frontier
from aredun.dataflow.nodes import Key, ValueRef, make_key
from aredun.dataflow.policy import (
    FIRST_LIMIT,
    MAX_LAYERS,
    MAX_LIMIT,
    MAX_STOPS,
    MOST_HELD,
    MOST_LOADS,
    PREFETCH_LIMIT,
    Policy,
)
from aredun.dataflow.steps import Entry, Reach, Step, make_rank

KEYS = [make_key("C", f"{number:040x}") for number in range(30)]


def make_reach(rows: int, *, new: int | None = None, truncated: bool = False, calls: int = 0) -> Reach:
    """Return what a load brought: nodes that it met, and how many of them were new."""
    entries: dict[Key, Entry] = {("C", str(number), ""): () for number in range(rows if new is None else new)}
    return Reach(entries, rows, [f"call {number}" for number in range(calls)], truncated)


def make_entry(*numbers: int) -> Entry:
    """Return steps to calls."""
    return tuple(Step(KEYS[number], make_rank(0), "call", "task", "value") for number in numbers)


def find_seeds(frontier: Frontier, most: int) -> list[int]:
    """Return the numbers of the seeds that a search returns."""
    search = frontier.find_seeds(most)
    while True:
        try:
            next(search)
        except StopIteration as end:
            return [KEYS.index(key) for key in end.value]


def get_readiness(policy: Policy) -> tuple[bool, bool]:
    """Return whether loads are begun ahead of the walk, and beside others."""
    return policy.wants_more(0, 0), policy.overlaps


def test_the_first_load_is_a_layer_and_the_next_ones_grow() -> None:
    policy = Policy()
    assert policy.plan() == (True, FIRST_LIMIT, FIRST_LIMIT)
    limits = []
    for _ in range(6):
        plan = policy.plan()
        assert not plan.is_layer
        limits.append(plan.limit)
        policy.learn(plan.seeds, make_reach(plan.limit, truncated=True), 0)
    assert limits == [64, 256, 1_024, 4_096, MAX_LIMIT, MAX_LIMIT]


def test_no_load_looks_at_more_than_it_may() -> None:
    policy = Policy(100)
    for _ in range(4):
        assert policy.plan().limit <= 100
        policy.learn(1, make_reach(100), 0)


def test_a_load_that_was_cut_short_has_fewer_seeds_next_time() -> None:
    policy = Policy()
    policy.plan()
    policy.learn(16, make_reach(64, truncated=True), 0)
    assert policy.plan().seeds == 4
    policy.learn(1, make_reach(256, truncated=True), 0)
    assert policy.plan().seeds == 1


def test_a_load_that_came_to_its_end_has_as_many_seeds_as_fit() -> None:
    policy = Policy()
    policy.plan()
    policy.learn(4, make_reach(16), 0)
    # 4 nodes a seed.
    assert policy.plan() == (False, 64, 256)
    policy.learn(64, make_reach(16), 0)
    assert policy.plan().seeds == policy.plan().limit


def test_too_much_at_hand_leaves_one_seed() -> None:
    policy = Policy()
    policy.plan()
    policy.learn(4, make_reach(4), MOST_HELD * MAX_LIMIT)
    assert policy.plan().seeds == 1


def test_loads_that_bring_little_are_followed_by_layers() -> None:
    policy = Policy()
    assert policy.plan().is_layer
    for layers in (2, 4, 8, 16, 32, MAX_LAYERS, MAX_LAYERS):
        assert not policy.plan().is_layer
        policy.learn(4, make_reach(100, new=49), 0)
        assert [policy.plan().is_layer for _ in range(layers)] == [True] * layers
    assert not policy.plan().is_layer
    policy.learn(4, make_reach(100, new=50), 0)
    assert not policy.plan().is_layer
    policy.learn(4, make_reach(100, new=49), 0)
    assert [policy.plan().is_layer for _ in range(3)] == [True, True, False]


def test_the_calls_that_stop_a_load_are_those_met_last() -> None:
    policy = Policy()
    policy.learn(4, Reach({}, 0, ["old", "new"], False), 0)
    policy.learn(4, Reach({}, 0, ["old"], False), 0)
    assert list(policy.stops) == ["new", "old"]
    policy.learn(4, make_reach(0, calls=MAX_STOPS - 1), 0)
    assert len(policy.stops) == MAX_STOPS
    assert next(iter(policy.stops)) == "old"


def test_a_bounded_walk_loads_no_more_than_it_wants() -> None:
    policy = Policy()
    for _ in range(5):
        policy.learn(4, make_reach(4), 0)
    assert policy.plan().limit == MAX_LIMIT
    policy.set_rest(1_500, 200)
    assert policy.plan().limit == 1_300
    assert policy.wants_more(1_499, 0)
    assert not policy.wants_more(1_500, 0)
    policy.set_rest(10, 0)
    assert policy.plan().limit == FIRST_LIMIT


def test_when_loads_are_begun() -> None:
    policy = Policy()
    assert get_readiness(policy) == (False, False)
    while policy.plan().limit < PREFETCH_LIMIT:
        policy.learn(4, make_reach(4), 0)
    assert get_readiness(policy) == (True, False)
    policy.learn(4, make_reach(4), 0)
    policy.learn(4, make_reach(4), 0)
    assert get_readiness(policy) == (True, True)
    # With nothing under way always; beside another load while not too much is at hand; never a third one.
    assert policy.wants_more(100 * MAX_LIMIT, 0)
    assert policy.wants_more(MAX_LIMIT, 1)
    assert not policy.wants_more(2 * MAX_LIMIT, 1)
    assert not policy.wants_more(0, MOST_LOADS)


def test_seeds_are_what_the_walk_will_reach_first() -> None:
    frontier = Frontier()
    frontier.push([(KEYS[number], ValueRef("")) for number in (1, 2, 3)])
    assert find_seeds(frontier, 2) == [1, 2]
    frontier.entries[KEYS[1]] = make_entry(10, 2, 11)
    assert find_seeds(frontier, 9) == [10, 11, 2, 3]
    frontier.coming.add(KEYS[11])
    frontier.missed = KEYS[20]
    assert find_seeds(frontier, 3) == [20, 10, 2]
    frontier.allowed = {KEYS[2]}
    assert find_seeds(frontier, 9) == [20, 2, 3]


def test_a_node_is_pushed_once_and_the_first_is_popped_first() -> None:
    frontier = Frontier()
    frontier.push([(KEYS[number], ValueRef(str(number))) for number in (1, 2)])
    frontier.push([(KEYS[number], ValueRef("again")) for number in (2, 3)])
    assert [frontier.pop() for _ in range(3)] == [
        (KEYS[3], ValueRef("again")),
        (KEYS[1], ValueRef("1")),
        (KEYS[2], ValueRef("2")),
    ]
    assert frontier.is_useless(KEYS[1])
    assert not frontier.is_useless(KEYS[4])
