"""The models: what they hold, derive and hand over, and that they never load on their own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from redun.backends import db as redun_db
from sqlalchemy.exc import InvalidRequestError, StatementError
from sqlalchemy.orm import joinedload, load_only

from aredun import models
from aredun.errors import RedunDatabaseError
from aredun.models import (
    Argument,
    ArgumentResult,
    CallEdge,
    CallNode,
    CallSubtreeTask,
    Evaluation,
    Execution,
    File,
    Handle,
    HandleEdge,
    Job,
    PreviewValue,
    RedunSession,
    Subvalue,
    Tag,
    TagEdit,
    TagEntity,
    Task,
    Value,
)
from aredun.tables.column_types import in_array, insert_new, starts_with
from tests.support.schemas import open_connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

START = datetime(2024, 5, 6, 7, 8, 9, 101112, tzinfo=UTC)
END = START + timedelta(minutes=2)


def key(name: str) -> str:
    """Return a hash that says what it is of."""
    return name.ljust(40, "0")


class Backend:
    """A backend whose operations say what they were asked for."""

    def __init__(self) -> None:
        self.entities = self

    def __getattr__(self, name: str) -> Any:
        async def operation(*args: Any) -> tuple[Any, ...]:
            return (name, *args)

        return operation


@pytest.fixture
async def session(database_url: str) -> AsyncIterator[RedunSession]:
    """A session on a database with a small graph of everything, all of it forgotten by the session."""
    async with open_connection(database_url) as connection, RedunSession(Backend(), connection) as session:
        # An execution and its root job refer to each other; sqlite wants the job first.
        for rows in (graph(), [execution()], [handles_edge()]):
            session.add_all(rows)
            await session.flush()
        session.expunge_all()
        yield session
        await session.rollback()


def execution() -> Execution:
    """Return the execution of the graph."""
    return Execution(id="exec-1", args='["run"]', job_id="job-root")


def handles_edge() -> HandleEdge:
    """Return the edge between the handles of the graph."""
    return HandleEdge(parent_id=key("handle0"), child_id=key("handle1"))


def graph() -> list[models.Base]:
    """Return rows of every other table."""
    times = {"start_time": START, "end_time": END, "execution_id": "exec-1", "task_hash": key("task")}
    call = {"task_name": "bio.align", "task_hash": key("task"), "args_hash": key("args")}
    evaluation = {"task_hash": key("task"), "args_hash": key("args")}
    argument = {"call_hash": key("call"), "value_hash": key("value")}
    tag = {"entity_type": TagEntity.Job, "entity_id": "job-root", "key": "ns.sub.env"}
    return [
        Task(hash=key("task"), name="align", namespace="bio", source="def align(): ..."),
        Value(value_hash=key("value"), type="builtins.list", format="pickle", value=b"data"),
        Value(value_hash=key("part"), type="redun.File", format="pickle", value=b""),
        Value(value_hash=key("task"), type="redun.Task", format="pickle", value=b"t"),
        Subvalue(value_hash=key("part"), parent_value_hash=key("value")),
        File(value_hash=key("part"), path="p" * 300),
        *[Handle(hash=key(f"handle{n}"), fullname="db", value_hash=key("part"), key="k") for n in (0, 1)],
        CallNode(call_hash=key("call"), value_hash=key("value"), **call),
        CallNode(call_hash=key("child"), value_hash=key("part"), **call),
        CallEdge(parent_id=key("call"), child_id=key("child"), call_order=0),
        CallSubtreeTask(call_hash=key("call"), task_hash=key("task")),
        Argument(arg_hash=key("arg"), arg_position=0, **argument),
        Argument(arg_hash=key("kwarg"), arg_key="name", **argument),
        ArgumentResult(arg_hash=key("arg"), result_call_hash=key("child")),
        Evaluation(eval_hash=key("eval"), value_hash=key("value"), **evaluation),
        Job(id="job-root", call_hash=key("call"), **times),
        Job(id="job-child", parent_id="job-root", **times),
        Tag(tag_hash=key("tag0"), value=["old"], is_current=False, **tag),
        Tag(tag_hash=key("tag1"), value=key("value"), **tag),
        TagEdit(parent_id=key("tag0"), child_id=key("tag1")),
    ]


def primary_key(model: type[Any]) -> list[Any]:
    """Return the mapped attributes of a model's primary key."""
    mapper = sa.inspect(model)
    return [mapper.get_property_by_column(column).class_attribute for column in mapper.primary_key]


async def get(session: RedunSession, model: type[Any], *options: Any) -> Any:
    """Return the first row of a model by its primary key."""
    statement = sa.select(model).order_by(*primary_key(model)).options(*options).limit(1)
    return (await session.scalars(statement)).unique().one()


ALL_MODELS = [mapper.class_ for mapper in models.Base.registry.mappers]


def test_every_name_of_the_reference_is_there() -> None:
    """All mapped attributes and properties of redun's models, under the same names."""
    for mapper in redun_db.Base.registry.mappers:
        theirs, ours = mapper.class_, getattr(models, mapper.class_.__name__)
        names = {name for name in vars(theirs) if not name.startswith("_") or name == "__tablename__"}
        assert {name for name in names if not hasattr(ours, name)} == set()
        assert ours.__tablename__ == theirs.__tablename__
    for name in ("Base", "Column", "DateTimeUTC", "JSON", "PreviewValue", "RedunSession", "TagEntity"):
        assert (hasattr(redun_db, name), hasattr(models, name)) == (True, True), name


def test_relationships_are_redun_s() -> None:
    """The same targets and the same shape, and none loads by itself."""
    for mapper in redun_db.Base.registry.mappers:
        ours = getattr(models, mapper.class_.__name__).__mapper__
        for theirs in mapper.relationships:
            mine = ours.relationships[theirs.key]
            assert (mine.uselist, mine.target.name) == (theirs.uselist, theirs.target.name), str(mine)
        assert {mine.lazy for mine in ours.relationships} <= {"raise"}


async def test_every_relationship_can_be_joined(session: RedunSession) -> None:
    """All of them make valid SQL on both databases."""
    for model in ALL_MODELS:
        for relationship in model.__mapper__.relationships:
            await session.scalars(sa.select(model).options(joinedload(relationship.class_attribute)).limit(1))


async def test_nothing_loads_by_itself(session: RedunSession) -> None:
    """Touching a relationship that was not asked for is an error, not a query."""
    for model in ALL_MODELS:
        row = await get(session, model)
        for relationship in model.__mapper__.relationships:
            with pytest.raises(InvalidRequestError, match="lazy='raise'"):
                getattr(row, relationship.key)


async def test_repr_shows_what_is_loaded(session: RedunSession) -> None:
    """It is one line, needs no database, and does not fail on a row that is half loaded or expired."""
    for model in ALL_MODELS:
        row = await get(session, model, load_only(*primary_key(model)))
        assert model.__name__ in repr(row)
        session.expire(row)
        assert model.__name__ in repr(row)
        whole = await get(session, model)
        session.expunge_all()
        assert "\n" not in repr(whole)
        assert model.__name__ in repr(model())


async def test_reprs(session: RedunSession) -> None:
    """Hashes are cut to eight characters, long paths to two hundred; stored values are not shown."""
    assert repr(await get(session, Value)) == "Value(hash='part0000', type='redun.File')"
    assert repr(await get(session, File)) == f"File(hash='part0000', path='{'p' * 197}...')"
    assert repr(await get(session, Task)) == "Task(hash='task0000', name='bio.align')"
    assert repr(await get(session, CallNode)) == "CallNode(hash='call0000', task_name='bio.align')"
    assert repr(await get(session, Argument)) == "Argument(call_hash='call0000', pos=0)"
    assert repr(await get(session, Handle)) == "Handle(hash='handle00', name='db')"
    assert repr(await get(session, Tag)) == (
        'Tag(tag_hash=tag00000, entity_id=job-root, key=ns.sub.env, value=["old"])'
    )


async def test_values_in_rows_and_in_the_store(session: RedunSession) -> None:
    """Empty bytes say that the data is elsewhere."""
    part = await get(session, Value)
    assert part.in_value_store
    parts = [joinedload(Value.children), joinedload(Value.subfiles)]
    whole = await session.get_one(Value, key("value"), options=parts)
    assert not whole.in_value_store
    assert whole.children == [part]
    assert [file.path for file in whole.subfiles] == ["p" * 300]
    assert repr(PreviewValue(whole, 4)) == "builtins.list(hash=value000, size=4)"


async def test_tasks(session: RedunSession, capsys: pytest.CaptureFixture[str]) -> None:
    """A task has a full name, a source and a companion value."""
    task = await get(session, Task, joinedload(Task.value))
    assert task.fullname == "bio.align"
    assert Task(name="align", namespace="").fullname == "align"
    session.add(Task(hash=key("bare"), name="bare", namespace="", source=""))
    counted = sa.select(Task.fullname, sa.func.count()).group_by(Task.fullname)
    assert set(await session.execute(counted)) >= {("bio.align", 1), ("bare", 1)}
    assert await session.scalar(sa.select(Task.hash).where(Task.fullname == "bio.align")) == task.hash
    assert task.value.type == "redun.Task"
    task.show_source()
    assert capsys.readouterr().out == "def align(): ...\n"


async def test_jobs_and_their_status(session: RedunSession) -> None:
    """The status follows from the times and the type of the result, once these are loaded."""
    parts = joinedload(Job.call_node).joinedload(CallNode.value).load_only(Value.type)
    root = await session.get_one(Job, "job-root", options=[parts])
    assert root.duration == timedelta(minutes=2)
    assert root.status == root.status_display == "DONE"
    assert root.calc_status("redun.ErrorValue") == "FAILED"
    assert root.status == "FAILED"
    running = Job(id="new", start_time=START, call_node=None)
    assert running.duration is None
    assert running.status == "RUNNING"
    assert running.status_display == "RUN "
    assert Job(end_time=END, cached=True, call_node=None).status == "CACHED"


@pytest.mark.parametrize(
    ("job", "status"),
    [
        (None, "FAILED"),
        (Job(end_time=END, cached=True, call_node=None), "DONE"),
        (Job(end_time=None, call_node=None), "RUNNING"),
    ],
)
def test_executions_and_their_status(job: Job | None, status: str) -> None:
    """An execution is what its root job is, but CACHED counts as DONE and no job at all as FAILED."""
    assert Execution(job=job).status == status
    execution = Execution(job=job)
    assert execution.calc_status(None) == status
    assert execution.status_display == ("RUN " if status == "RUNNING" else status)


async def test_tags(session: RedunSession) -> None:
    """Entities see their current tags only; keys have namespaces."""
    job = await session.get_one(Job, "job-root", options=[joinedload(Job.tags)])
    [tag] = job.tags
    assert tag.value == key("value")
    assert tag.namespace == "ns.sub"
    assert tag.base_key == "env"
    assert Tag(key="env").namespace == ""
    assert Tag(key="env").base_key == "env"
    tag = await session.get_one(
        Tag, key("tag1"), options=[joinedload(Tag.parents), joinedload(Tag.jobs)], populate_existing=True
    )
    assert [parent.value for parent in tag.parents] == [["old"]]
    assert tag.jobs is job


async def test_the_tag_that_deletes(session: RedunSession) -> None:
    """Its value is the JSON null, which is not a missing value."""
    tag = Tag.get_delete_tag()
    assert (tag.tag_hash, tag.entity_type, tag.entity_id, tag.key) == ("", TagEntity.Null, "", "")
    tag.tag_hash = key("delete")
    session.add(tag)
    await session.flush()
    assert await session.scalar(sa.select(Tag.value).where(Tag.tag_hash == key("delete"))) is None
    assert await session.scalar(sa.select(sa.func.count()).where(Tag.value == None)) is not None  # noqa: E711


async def test_what_needs_the_database_is_handed_over(session: RedunSession) -> None:
    """Each coroutine method asks the backend for one thing, with the key of its row."""
    value, call, job = await get(session, Value), await get(session, CallNode), await get(session, Job)
    tag, argument = await get(session, Tag), await get(session, Argument)
    root = await session.get_one(Job, "job-root")
    run = await get(session, Execution)
    asked: list[tuple[Any, Any]] = [
        (value.preview(), ("get_preview", key("part"))),
        (value.value_parsed(), ("get_value_parsed", key("part"))),
        (argument.value_parsed(), ("get_value_parsed", key("value"))),
        ((await get(session, Evaluation)).value_parsed(), ("get_value_parsed", key("value"))),
        (call.value_parsed(), ("get_value_parsed", key("value"))),
        (call.children(), ("get_children", key("call"))),
        (call.parents(), ("get_parents", key("call"))),
        (call.args_display(), ("get_args_display", key("call"))),
        ((await get(session, File)).values(), ("get_holding_values", key("part"))),
        ((await get(session, Handle)).values(), ("get_holding_values", key("part"))),
        (run.task(), ("get_job_task", "job-root")),
        (run.call_node(), ("get_job_call_node", "job-root")),
        (root.context(), ("get_context", key("call"))),
        (job.context(), {}),
        (tag.entity(), ("get_entity", TagEntity.Job, "job-root")),
        (tag.value_parsed(), None),
        ((await session.get_one(Tag, key("tag1"))).value_parsed(), ("get_value_parsed", key("value"))),
    ]
    # The session is over for them, as it is for what the backend returns.
    session.expunge_all()
    for answer, expected in asked:
        assert await answer == expected


async def test_an_object_without_a_backend_says_so(session: RedunSession) -> None:
    """A model made by hand belongs to no backend until it is added to a session of one."""
    value = Value(value_hash=key("new"), type="t", format="f", value=b"v")
    with pytest.raises(RedunDatabaseError, match="belongs to no backend"):
        await value.preview()
    session.add(value)
    assert await value.preview() == ("get_preview", key("new"))
    assert session.backend is session.sync_session.info["backend"]


async def test_times_are_utc(session: RedunSession) -> None:
    """Whatever zone a time comes in, it is stored and read in UTC; without a zone it is refused."""
    tokyo = timezone(timedelta(hours=9))
    await session.execute(sa.update(Job).values(start_time=START.astimezone(tokyo), end_time=None))
    start, end = (await session.execute(sa.select(Job.start_time, Job.end_time).limit(1))).one()
    assert (start, end) == (START, None)
    assert start.utcoffset() == timedelta(0)
    with pytest.raises(StatementError, match="without a time zone"):
        await session.execute(sa.update(Job).values(start_time=START.replace(tzinfo=None)))


async def test_json_compares_by_content(session: RedunSession) -> None:
    """The order of keys does not matter on either database."""
    value = {"b": [1, None, "ü"], "a": {"d": 1.5, "c": True}}
    await session.execute(sa.update(Tag).values(value=value))
    same = {"a": {"c": True, "d": 1.5}, "b": [1, None, "ü"]}
    rows = (await session.scalars(sa.select(Tag.value).where(Tag.value == same))).all()
    assert rows == [value, value]


async def test_in_array(session: RedunSession) -> None:
    """Many thousands of keys fit one parameter; none at all match nothing; it can be negated."""
    keys = [f"{number:040d}" for number in range(70_000)]
    found = sa.select(Value.value_hash).order_by(Value.value_hash)
    wanted = [*keys, key("part"), key("part")]
    assert (await session.scalars(found.where(in_array(Value.value_hash, wanted)))).all() == [key("part")]
    assert (await session.scalars(found.where(in_array(Value.value_hash, [])))).all() == []
    others = (await session.scalars(found.where(~in_array(Value.value_hash, wanted)))).all()
    assert others == [key("task"), key("value")]


async def test_in_array_is_cached_as_one_statement(session: RedunSession) -> None:
    """The text does not depend on how many strings there are."""
    texts = set()

    def note(*arguments: Any) -> None:
        texts.add(arguments[2])

    connection = await session.connection()
    sa.event.listen(connection.sync_connection, "before_cursor_execute", note)
    for count in (1, 2, 50):
        await session.scalars(sa.select(Task).where(in_array(Task.hash, ["x"] * count)))
    assert len(texts) == 1


async def test_starts_with(session: RedunSession) -> None:
    """As str.startswith has it: no wildcards, and case matters."""
    last = "\U0010ffff"
    names = ["bio", "Bio", "b", "bi%", "b_", "bj", "", "%x", "_", f"b{last}z", last * 2, "\ud7ffa", "\ue000"]
    task = {"namespace": "many", "source": ""}
    rows = [{"hash": f"{number:040d}", "name": name, **task} for number, name in enumerate(names)]
    await session.execute(sa.insert(Task), rows)
    for prefix in ("", "b", "bi", "bio", "B", "biz", "%", "_", f"b{last}", last, "\ud7ff"):
        statement = sa.select(Task.name).where(Task.namespace == "many", starts_with(Task.name, prefix))
        found = (await session.scalars(statement)).all()
        assert sorted(found) == sorted(name for name in names if name.startswith(prefix))


async def test_insert_new(session: RedunSession) -> None:
    """Rows that are there stay as they are, and only the others are returned."""
    rows = [
        {"value_hash": value_hash, "type": "new", "format": "f", "value": b"v"}
        for value_hash in (key("new"), key("part"))
    ]
    await session.execute(insert_new(Value.__table__), rows)
    types = (await session.execute(sa.select(Value.value_hash, Value.type))).all()
    assert (key("new"), "new") in types
    assert (key("part"), "redun.File") in types
    added = insert_new(Value.__table__).returning(Value.value_hash)
    newer = {**rows[0], "value_hash": key("newer")}
    assert (await session.scalars(added, [*rows, newer])).all() == [key("newer")]


async def test_columns_are_filled_in(session: RedunSession) -> None:
    """Defaults are redun's: a call is timed, a job is not cached, a handle is valid, a tag is current."""
    assert (await get(session, CallNode)).timestamp <= datetime.now(UTC)
    assert (await get(session, Job)).cached is False
    assert (await get(session, Handle)).is_valid is True
    assert (await session.get_one(Tag, key("tag1"))).is_current is True
