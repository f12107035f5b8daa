"""Random histories of tags: the same calls on aredun and on redun leave the same rows."""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from redun.backends.base import TagEntity as RedunTagEntity

from aredun.models import Tag, TagEdit
from aredun.recording.tags import delete_tags, get_tags, record_tags, update_tags
from aredun.tables.column_types import TagEntity
from tests.support.sessions import PlainDatabase, redun_rows

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ENTITIES = st.sampled_from(["job1", "job2"])
KEYS = st.sampled_from(["a", "b"])
# No null: redun cannot delete a tag whose value is null.
PAIRS = st.tuples(KEYS, st.sampled_from([1, "x", [True], {"k": 2.5}]))


def unique_pairs(pairs: list[tuple[str, Any]]) -> bool:
    """Tell whether no pair is there twice: redun breaks its own primary key then."""
    return all(pairs.count(pair) == 1 for pair in pairs)


class TagHistories(RuleBasedStateMachine):
    """Every rule is one call on both."""

    request: pytest.FixtureRequest

    @initialize()
    def open(self) -> None:
        self.stack = ExitStack()
        self.runner = self.stack.enter_context(asyncio.Runner())
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.redun, url = open_pair(self.request, Path(folder), self.stack)
        self.database = PlainDatabase(url)
        self.stack.callback(lambda: self.runner.run(self.database.engine.dispose()))
        self.hashes: list[str] = []

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.stack.close()

    def both(self, ours: Callable[[Any], Awaitable[Any]], theirs: Callable[[], Any]) -> None:
        """Do a call on both and compare what they return."""
        result = self.runner.run(self.database.write(ours))
        assert result == theirs()
        self.redun.session.commit()
        self.hashes += [row[0] for row in result]

    @rule(entity=ENTITIES, tags=st.lists(PAIRS, max_size=3).filter(unique_pairs), mode=st.integers(0, 3))
    def record(self, entity: str, tags: list[tuple[str, Any]], mode: int) -> None:
        update, new = mode == 1, mode == 2
        self.both(
            lambda session: record_tags(session, TagEntity.Job, entity, tags, update=update, new=new),
            lambda: self.redun.record_tags(RedunTagEntity.Job, entity, tags, update=update, new=new),
        )

    @rule(entity=ENTITIES, pair=PAIRS, data=st.data(), new=st.booleans())
    def record_after(self, entity: str, pair: tuple[str, Any], data: st.DataObject, new: bool) -> None:
        known = sorted(set(self.hashes))
        parents = data.draw(st.lists(st.sampled_from(known), max_size=2, unique=True)) if known else []
        self.both(
            lambda session: record_tags(session, TagEntity.Job, entity, [pair], parents, new=new),
            lambda: self.redun.record_tags(RedunTagEntity.Job, entity, [pair], parents, new=new),
        )

    @rule(
        entity=ENTITIES,
        keys=st.lists(KEYS, max_size=2),
        tags=st.lists(PAIRS, max_size=2).filter(unique_pairs),
    )
    def replace(self, entity: str, keys: list[str], tags: list[tuple[str, Any]]) -> None:
        self.both(
            lambda session: update_tags(session, TagEntity.Job, entity, keys, tags),
            lambda: self.redun.update_tags(RedunTagEntity.Job, entity, keys, tags),
        )

    @rule(entity=ENTITIES, tags=st.lists(PAIRS, min_size=1, max_size=2), keys=st.lists(KEYS, max_size=1))
    def delete(self, entity: str, tags: list[tuple[str, Any]], keys: list[str]) -> None:
        self.both(
            lambda session: delete_tags(session, entity, tags, keys),
            lambda: self.redun.delete_tags(entity, tags, keys),
        )

    @invariant()
    def same_rows(self) -> None:
        if not hasattr(self, "database"):
            return
        for model in (Tag, TagEdit):
            assert self.runner.run(self.database.rows(model)) == redun_rows(self.redun, model.__tablename__)
        ours = self.runner.run(self.database.read(lambda session: get_tags(session, ["job1", "job2"])))
        theirs = self.redun.get_tags(["job1", "job2"])
        assert ours.keys() == theirs.keys()
        for entity, tags in ours.items():
            assert tags == theirs[entity].as_dict()


def open_pair(request: pytest.FixtureRequest, folder: Path, stack: ExitStack) -> tuple[Any, str]:
    """Open redun on one fresh database and return it with the URL of another."""
    from tests.support.databases import redun_uri
    from tests.support.twins import open_twin

    dialect = request.getfixturevalue("dialect")
    redun = stack.enter_context(open_twin(dialect, request, folder))
    if dialect == "postgresql":
        cluster = request.getfixturevalue("postgres")
        name = cluster.create_database(request.getfixturevalue("postgres_template"))
        stack.callback(cluster.drop_database, name)
        url = cluster.url(name)
    else:
        (folder / "other").mkdir()
        other = stack.enter_context(open_twin(dialect, request, folder / "other"))
        url = str(other.db_uri)
    assert redun_uri(url) != redun.db_uri
    return redun, url


@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("dialect")
def test_tag_histories(request: pytest.FixtureRequest) -> None:
    """Ten histories, the same each time; the environment variable TAG_HISTORIES asks for more, other ones."""
    machine = type("Machine", (TagHistories,), {"request": request})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=int(os.environ.get("TAG_HISTORIES", "10")),
            derandomize="TAG_HISTORIES" not in os.environ,
            stateful_step_count=15,
            suppress_health_check=list(HealthCheck),
        ),
    )
