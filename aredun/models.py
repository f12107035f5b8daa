"""The tables of a redun repository as typed models (schema 3.5).

A model never loads anything on its own: relationships raise unless the query loaded them, and `__repr__`
shows columns only. What needs the database or a stored value is a coroutine method of one line, which hands
over to the operations of the backend that loaded the object (`aredun.tables.behaviour.EntityOperations`).
"""

from __future__ import annotations

import json
import sys
import uuid
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, ForeignKey, Index, String, case, literal_column, text
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from aredun.formats.statuses import get_execution_status, get_job_status
from aredun.tables.behaviour import PreviewValue as PreviewValue
from aredun.tables.behaviour import RedunSession as RedunSession
from aredun.tables.behaviour import WithHolders, WithStatus, WithStoredValue, entities, remember_backend, show
from aredun.tables.column_types import JSON, DateTimeUTC, tag_entity_type, utcnow
from aredun.tables.column_types import Column as Column
from aredun.tables.column_types import TagEntity as TagEntity
from aredun.tables.relationships import (
    Hash,
    key_of,
    many,
    one,
    parts,
    prefix_index,
    tagged,
    tags_entity,
    through,
    wholes,
)


class Base(AsyncAttrs, DeclarativeBase):
    """The base of every model (mirrors redun's `Base`)."""


remember_backend(Base)


class RedunVersion(Base):
    """The history of the schema's major version; the newest row counts.

    Mirrors redun's `RedunVersion`.

    Attributes
    ----------
    id : str
        A random id.
    version : int
        The schema's major version.
    timestamp : datetime
        When it was set, in UTC.
    """

    __tablename__ = "redun_version"

    id: Mapped[str] = mapped_column(String, default=lambda: str(uuid.uuid4()), primary_key=True)
    version: Mapped[int] = mapped_column(comment="Current database version.")
    timestamp: Mapped[datetime] = mapped_column(DateTimeUTC, default=utcnow)


class RedunMigration(Base):
    """The migration that was applied last, in alembic's table (mirrors redun's `RedunMigration`).

    Attributes
    ----------
    version_num : str
        Alembic's id of the migration.
    """

    __tablename__ = "alembic_version"

    version_num: Mapped[str] = mapped_column(String(32), primary_key=True)


class Subvalue(Base):
    """An edge from a value to a value inside it (mirrors redun's `Subvalue`).

    Attributes
    ----------
    value_hash : str
        The value inside.
    parent_value_hash : str
        The value that holds it.
    """

    __tablename__ = "subvalue"

    value_hash: Mapped[str] = key_of("value.value_hash", primary_key=True)
    parent_value_hash: Mapped[str] = key_of("value.value_hash", primary_key=True)

    parent: Mapped[Value] = one("child_edges", foreign_keys=[parent_value_hash])
    child: Mapped[Value] = one("parent_edges", foreign_keys=[value_hash])


class Value(WithStoredValue, Base):
    """A value that was an argument or a result of a task; empty bytes stand for data in the value store.

    Mirrors redun's `Value`.

    Attributes
    ----------
    value_hash : str
        Hash of the type and the bytes, 40 hexadecimal digits.
    type : str
        Name of the type, as `builtins.int` or `redun.File`.
    format : str
        MIME type of the bytes.
    value : bytes
        The serialized value, not loaded by queries unless asked for.
    """

    __tablename__ = "value"

    value_hash: Mapped[str] = mapped_column(Hash, primary_key=True)
    type: Mapped[str] = mapped_column(String, index=True)
    format: Mapped[str] = mapped_column(String(100))
    value: Mapped[bytes]

    value_hash_idx = prefix_index("value", value_hash, "value_hash")

    children: Mapped[list[Value]] = parts("Value", "parents")
    parents: Mapped[list[Value]] = wholes("Value", "children")
    child_edges: Mapped[list[Subvalue]] = many("parent", foreign_keys=[Subvalue.parent_value_hash])
    parent_edges: Mapped[list[Subvalue]] = many("child", foreign_keys=[Subvalue.value_hash])
    file: Mapped[File | None] = one("value")
    subfiles: Mapped[list[File]] = parts("File", "parent_values")
    handle: Mapped[Handle | None] = one("value")
    subhandles: Mapped[list[Handle]] = parts("Handle", "parent_values")
    task: Mapped[Task | None] = one(
        "value", primaryjoin="foreign(Value.value_hash) == Task.hash", uselist=False, viewonly=True
    )
    arguments: Mapped[list[Argument]] = many("value")
    evals: Mapped[list[Evaluation]] = many("value")
    results: Mapped[list[CallNode]] = many("value")
    tags: Mapped[list[Tag]] = tagged("Value.value_hash")

    @property
    def in_value_store(self) -> bool:
        """Whether the data is in a value store, not in the row."""
        return len(self.value) == 0

    async def preview(self) -> Any:
        """Return what the value looks like; runs nothing of it.

        Mirrors redun's `Value.preview`.

        Returns
        -------
        Any
            The value as plain data, or a `PreviewValue` where it is too large or cannot be read.
        """
        return await entities(self).get_preview(self.value_hash)

    def __repr__(self) -> str:
        return f"Value(hash='{show(self, 'value_hash', 8)}', type='{show(self, 'type')}')"


class File(WithHolders[Value], Base):
    """A file that was a value of a task, or part of one (mirrors redun's `File`).

    Attributes
    ----------
    value_hash : str
        The value that is the file.
    path : str
        Path or URL.
    """

    __tablename__ = "file"

    value_hash: Mapped[str] = mapped_column(Hash, ForeignKey("value.value_hash"), primary_key=True)
    path: Mapped[str] = mapped_column(String(1024), index=True)

    value: Mapped[Value] = one("file")
    parent_values: Mapped[list[Value]] = wholes("File", "subfiles")

    def __repr__(self) -> str:
        return f"File(hash='{show(self, 'value_hash', 8)}', path='{show(self, 'path', 200)}')"


class ArgumentResult(Base):
    """An edge from an argument to a call whose result it came from (mirrors redun's `ArgumentResult`).

    Attributes
    ----------
    arg_hash : str
        The argument.
    result_call_hash : str
        The call.
    """

    __tablename__ = "argument_result"

    arg_hash: Mapped[str] = key_of("argument.arg_hash", primary_key=True)
    result_call_hash: Mapped[str] = key_of("call_node.call_hash", primary_key=True)

    arg: Mapped[Argument] = one("arg_results")
    result_call_node: Mapped[CallNode] = one("arg_results")


class Argument(WithStoredValue, Base):
    """An argument of a call: positional (`arg_position`) or by keyword (`arg_key`).

    Mirrors redun's `Argument`.

    Attributes
    ----------
    arg_hash : str
        Hash of the argument.
    call_hash : str
        The call that it is of.
    value_hash : str
        Its value.
    arg_position : int or None
        Position from zero; None by keyword.
    arg_key : str or None
        Keyword; None by position.
    """

    __tablename__ = "argument"

    arg_hash: Mapped[str] = mapped_column(Hash, primary_key=True)
    call_hash: Mapped[str] = key_of("call_node.call_hash")
    value_hash: Mapped[str] = key_of("value.value_hash")
    arg_position: Mapped[int | None]
    arg_key: Mapped[str | None] = mapped_column(String(100))

    value: Mapped[Value] = one("arguments")
    call_node: Mapped[CallNode] = one("arguments")
    upstream: Mapped[list[CallNode]] = through(
        "argument_result",
        "Argument.arg_hash == ArgumentResult.arg_hash",
        "ArgumentResult.result_call_hash == CallNode.call_hash",
        "downstream",
    )
    arg_results: Mapped[list[ArgumentResult]] = many("arg")

    def __repr__(self) -> str:
        place = show(self, "arg_key" if self.__dict__.get("arg_key") else "arg_position")
        return f"Argument(call_hash='{show(self, 'call_hash', 8)}', pos={place})"


class Evaluation(WithStoredValue, Base):
    """The cache of evaluations: `eval_hash` (of task and arguments) leads to the value.

    Mirrors redun's `Evaluation`.

    Attributes
    ----------
    eval_hash : str
        Hash of the task and its arguments.
    task_hash : str
        The task.
    args_hash : str
        Hash of all arguments.
    value_hash : str
        What the single step came to: a result, or the expression that the task returned.
    """

    __tablename__ = "evaluation"

    eval_hash: Mapped[str] = mapped_column(Hash, primary_key=True)
    task_hash: Mapped[str] = key_of("task.hash")
    args_hash: Mapped[str] = mapped_column(Hash)
    value_hash: Mapped[str] = key_of("value.value_hash")

    task: Mapped[Task] = one("evals")
    value: Mapped[Value] = one("evals")


class CallEdge(Base):
    """An edge from a call to a call that it made, in the order of making (mirrors redun's `CallEdge`).

    Attributes
    ----------
    parent_id : str
        Hash of the call that made the other.
    child_id : str
        Hash of the call that was made.
    call_order : int
        Place among the calls that the parent made, from zero.
    """

    __tablename__ = "call_edge"

    parent_id: Mapped[str] = key_of("call_node.call_hash", primary_key=True)
    child_id: Mapped[str] = key_of("call_node.call_hash", primary_key=True)
    call_order: Mapped[int] = mapped_column(primary_key=True)

    parent_node: Mapped[CallNode] = one("child_edges", foreign_keys=[parent_id])
    child_node: Mapped[CallNode] = one("parent_edges", foreign_keys=[child_id])


class CallNode(WithStoredValue, Base):
    """A call of a task with its arguments, its result and the calls that it made.

    Mirrors redun's `CallNode`.

    Attributes
    ----------
    call_hash : str
        Hash of the task, the arguments, the result and the calls made.
    task_name : str
        Full name of the task.
    task_hash : str
        The task.
    args_hash : str
        Hash of all arguments.
    value_hash : str
        The result.
    timestamp : datetime
        When it was recorded, in UTC.
    """

    __tablename__ = "call_node"

    call_hash: Mapped[str] = mapped_column(Hash, primary_key=True)
    task_name: Mapped[str] = mapped_column(String(1024))
    task_hash: Mapped[str] = key_of("task.hash")
    args_hash: Mapped[str] = mapped_column(Hash)
    value_hash: Mapped[str] = key_of("value.value_hash")
    timestamp: Mapped[datetime] = mapped_column(DateTimeUTC, default=utcnow)

    call_hash_idx = prefix_index("call_node", call_hash, "call_hash")

    task: Mapped[Task] = one("call_nodes")
    value: Mapped[Value] = one("results")
    task_set: Mapped[list[CallSubtreeTask]] = many("call_node")
    arguments: Mapped[list[Argument]] = many("call_node")
    downstream: Mapped[list[Argument]] = through(
        "argument_result",
        "CallNode.call_hash == ArgumentResult.result_call_hash",
        "ArgumentResult.arg_hash == Argument.arg_hash",
        "upstream",
    )
    arg_results: Mapped[list[ArgumentResult]] = many("result_call_node")
    child_edges: Mapped[list[CallEdge]] = many("parent_node", foreign_keys=[CallEdge.parent_id])
    parent_edges: Mapped[list[CallEdge]] = many("child_node", foreign_keys=[CallEdge.child_id])
    jobs: Mapped[list[Job]] = many("call_node")
    tags: Mapped[list[Tag]] = tagged("CallNode.call_hash")

    async def children(self) -> list[CallNode]:
        """Return the calls that this one made.

        Mirrors redun's `CallNode.children`.

        Returns
        -------
        list of CallNode
            In the order of `call_order`; a call that was made twice is there twice.
        """
        return await entities(self).get_children(self.call_hash)

    async def parents(self) -> list[CallNode]:
        """Return the calls that made this one (mirrors redun's `CallNode.parents`).

        Returns
        -------
        list of CallNode
            By their `call_order`.
        """
        return await entities(self).get_parents(self.call_hash)

    async def args_display(self) -> str:
        """Return the arguments as one short text.

        Mirrors redun's `CallNode.args_display`.

        Returns
        -------
        str
            At most 100 characters.
        """
        return await entities(self).get_args_display(self.call_hash)

    def __repr__(self) -> str:
        return f"CallNode(hash='{show(self, 'call_hash', 8)}', task_name='{show(self, 'task_name')}')"


class CallSubtreeTask(Base):
    """A task that a call ran, itself or somewhere below; decides about the shallow cache.

    Mirrors redun's `CallSubtreeTask`.

    Attributes
    ----------
    call_hash : str
        The call.
    task_hash : str
        The task.
    """

    __tablename__ = "call_subtree_task"

    call_hash: Mapped[str] = key_of("call_node.call_hash", primary_key=True)
    task_hash: Mapped[str] = key_of("task.hash", primary_key=True)

    call_node: Mapped[CallNode] = one("task_set")
    task: Mapped[Task] = relationship(lazy="raise")


class HandleEdge(Base):
    """An edge from a handle's state to the one that followed (mirrors redun's `HandleEdge`).

    Attributes
    ----------
    parent_id : str
        Hash of the state before.
    child_id : str
        Hash of the state after.
    """

    __tablename__ = "handle_edge"

    parent_id: Mapped[str] = key_of("handle.hash", primary_key=True)
    child_id: Mapped[str] = key_of("handle.hash", primary_key=True)


class Handle(WithHolders[Value], Base):
    """One state of a handle (a connection, a database ...) as it went through the tasks.

    Mirrors redun's `Handle`.

    Attributes
    ----------
    hash : str
        Hash of the state.
    fullname : str
        Name of the handle with its namespace.
    value_hash : str
        The value that the state was.
    key : str
        What tells the states of one handle apart.
    is_valid : bool
        Whether the state is the current one, or leads to it.
    """

    __tablename__ = "handle"

    hash: Mapped[str] = mapped_column(Hash, primary_key=True)
    fullname: Mapped[str] = mapped_column(String(1024), index=True)
    value_hash: Mapped[str] = key_of("value.value_hash")
    key: Mapped[str] = mapped_column(String(1024))
    is_valid: Mapped[bool] = mapped_column(default=True)

    value: Mapped[Value] = one("handle")
    parent_values: Mapped[list[Value]] = wholes("Handle", "subhandles")
    children: Mapped[list[Handle]] = through(
        "handle_edge", "Handle.hash == HandleEdge.parent_id", "Handle.hash == HandleEdge.child_id", "parents"
    )
    parents: Mapped[list[Handle]] = through(
        "handle_edge", "Handle.hash == HandleEdge.child_id", "Handle.hash == HandleEdge.parent_id", "children"
    )

    def __repr__(self) -> str:
        return f"Handle(hash='{show(self, 'hash', 8)}', name='{show(self, 'fullname')}')"


class Execution(WithStatus, Base):
    """One run of a workflow: the job at its root and what was asked on the command line.

    Mirrors redun's `Execution`.

    Attributes
    ----------
    id : str
        A UUID.
    args : str
        The command line that started it, a JSON list.
    updated_time : datetime or None
        The last heartbeat, in UTC.
    job_id : str
        The job at the root.
    """

    __tablename__ = "execution"

    id: Mapped[str] = mapped_column(String, primary_key=True)
    args: Mapped[str]
    updated_time: Mapped[datetime | None] = mapped_column(DateTimeUTC)
    job_id: Mapped[str] = mapped_column(
        String, ForeignKey("job.id", deferrable=True, initially="deferred"), index=True
    )

    id_idx = prefix_index("execution", id, "id")

    job: Mapped[Job | None] = relationship(foreign_keys=[job_id], lazy="raise")
    jobs: Mapped[list[Job]] = many("execution", foreign_keys="Job.execution_id")
    tags: Mapped[list[Tag]] = tagged("Execution.id")

    async def call_node(self) -> CallNode | None:
        """Return the call of the job at the root.

        Mirrors redun's `Execution.call_node`.

        Returns
        -------
        CallNode or None
            None while that job is not over.
        """
        call: CallNode | None = await entities(self).get_job_call_node(self.job_id)
        return call

    async def task(self) -> Task | None:
        """Return the task of the call at the root.

        Mirrors redun's `Execution.task`.

        Returns
        -------
        Task or None
            None while that job is not over.
        """
        task: Task | None = await entities(self).get_job_task(self.job_id)
        return task

    def calc_status(self, result_type: str | None) -> str:
        """Return, and keep, the status that the type of the root's result makes; needs `job` loaded.

        Mirrors redun's `Execution.calc_status`.

        Parameters
        ----------
        result_type : str or None
            The type name of the root's result, which says whether it is an error; None without one.

        Returns
        -------
        str
            RUNNING, FAILED or DONE.
        """
        job = self.job
        return self._keep_status(get_execution_status(job.calc_status(result_type) if job else None))

    def _load_status(self) -> str:
        return get_execution_status(self.job.status if self.job else None)

    def __repr__(self) -> str:
        return f"Execution(id='{show(self, 'id', 8)}', args={show(self, 'args')})"


class Job(WithStatus, Base):
    """One task call within an execution: when it ran, under which job, and to which call it led.

    Mirrors redun's `Job`.

    Attributes
    ----------
    id : str
        A UUID.
    start_time : datetime
        In UTC.
    end_time : datetime or None
        In UTC; None while it runs.
    task_hash : str
        The task that was called.
    cached : bool
        Whether the result came from a cache.
    call_hash : str or None
        The call that it led to; None until then.
    parent_id : str or None
        The job that called it; None at the root.
    execution_id : str
        The execution that it belongs to.
    """

    __tablename__ = "job"

    id: Mapped[str] = mapped_column(String, primary_key=True)
    start_time: Mapped[datetime] = mapped_column(DateTimeUTC, index=True)
    end_time: Mapped[datetime | None] = mapped_column(DateTimeUTC, index=True)
    task_hash: Mapped[str] = key_of("task.hash")
    cached: Mapped[bool] = mapped_column(default=False)
    call_hash: Mapped[str | None] = key_of("call_node.call_hash")
    parent_id: Mapped[str | None] = mapped_column(String, ForeignKey("job.id"), index=True)
    execution_id: Mapped[str] = mapped_column(
        String,
        # Set apart, as it closes a circle: an execution refers to its root job.
        ForeignKey(
            "execution.id", name="ct_job_execution_id", use_alter=True, deferrable=True, initially="deferred"
        ),
        index=True,
    )

    id_idx = prefix_index("job", id, "id")

    task: Mapped[Task] = one("jobs")
    call_node: Mapped[CallNode | None] = one("jobs")
    child_jobs: Mapped[list[Job]] = many("parent_job", foreign_keys=[parent_id], order_by=start_time)
    parent_job: Mapped[Job | None] = one("child_jobs", foreign_keys=[parent_id], remote_side=[id])
    execution: Mapped[Execution] = one("jobs", foreign_keys=[execution_id])
    tags: Mapped[list[Tag]] = tagged("Job.id")

    @property
    def duration(self) -> timedelta | None:
        """How long the job took; None while it has no end."""
        return self.end_time - self.start_time if self.end_time else None

    async def context(self) -> dict[str, Any]:
        """Return the context that the job's call was recorded with.

        Mirrors redun's `Job.context`.

        Returns
        -------
        dict
            {} where there is none.
        """
        return await entities(self).get_context(self.call_hash) if self.call_hash else {}

    def calc_status(self, result_type: str | None) -> str:
        """Return, and keep, the status that the type of the call's result makes.

        Mirrors redun's `Job.calc_status`.

        Parameters
        ----------
        result_type : str or None
            The type name of the call's result, which says whether it is an error; None without one.

        Returns
        -------
        str
            RUNNING, FAILED, CACHED or DONE.
        """
        return self._keep_status(get_job_status(self.end_time, self.cached, result_type))

    def _load_status(self) -> str:
        result_type = self.call_node.value.type if self.call_node else None
        return get_job_status(self.end_time, self.cached, result_type)

    def __repr__(self) -> str:
        start_time, task_hash = show(self, "start_time"), show(self, "task_hash", 8)
        return f"Job(id='{show(self, 'id', 8)}', start_time='{start_time}', task_hash='{task_hash}')"


class Task(Base):
    """A version of a task: its name and the source that it had (mirrors redun's `Task`).

    Attributes
    ----------
    hash : str
        Hash of the name and the source, or of the name and the version.
    name : str
        Name without the namespace.
    namespace : str
        Namespace, "" for none.
    source : str
        Source code of the function.
    """

    __tablename__ = "task"

    hash: Mapped[str] = mapped_column(Hash, primary_key=True)
    name: Mapped[str] = mapped_column(String)
    namespace: Mapped[str] = mapped_column(String)
    source: Mapped[str]

    hash_idx = prefix_index("task", hash, "hash")
    name_idx = prefix_index("task", name, "name", unique=False)
    namespace_idx = prefix_index("task", namespace, "namespace", unique=False)

    value: Mapped[Value | None] = one(
        "task", primaryjoin="Task.hash == foreign(Value.value_hash)", uselist=False, viewonly=True
    )
    evals: Mapped[list[Evaluation]] = many("task")
    call_nodes: Mapped[list[CallNode]] = many("task")
    jobs: Mapped[list[Job]] = many("task")
    tags: Mapped[list[Tag]] = tagged("Task.hash")

    @hybrid_property
    def fullname(self) -> str:
        """Return the name with its namespace in front; a statement may select it and compare it.

        Mirrors redun's `Task.fullname`.

        Returns
        -------
        str
            `namespace.name`, or the name alone where there is no namespace.
        """
        return f"{self.namespace}.{self.name}" if self.namespace else self.name

    @fullname.inplace.expression
    @classmethod
    def _select_fullname(cls) -> ColumnElement[str]:
        # Without parameters, so that it is the same expression wherever it stands in a statement.
        nothing, dot = literal_column("''", String), literal_column("'.'", String)
        return case((cls.namespace == nothing, cls.name), else_=cls.namespace + dot + cls.name)

    def show_source(self) -> None:
        """Write the task's source to standard output (mirrors redun's `Task.show_source`)."""
        sys.stdout.write(f"{self.source}\n")

    def __repr__(self) -> str:
        fullname = ".".join(filter(None, (self.__dict__.get("namespace"), show(self, "name"))))
        return f"Task(hash='{show(self, 'hash', 8)}', name='{fullname}')"


class TagEdit(Base):
    """An edge from a tag to the tag that superseded it (mirrors redun's `TagEdit`).

    Attributes
    ----------
    parent_id : str
        Hash of the tag that was superseded.
    child_id : str
        Hash of the tag that superseded it.
    """

    __tablename__ = "tag_edit"

    parent_id: Mapped[str] = mapped_column(String, ForeignKey("tag.tag_hash"), primary_key=True)
    child_id: Mapped[str] = mapped_column(String, ForeignKey("tag.tag_hash"), primary_key=True)

    parent: Mapped[Tag] = one("child_edits", foreign_keys=[parent_id], viewonly=True)
    child: Mapped[Tag] = one("parent_edits", foreign_keys=[child_id], viewonly=True)


class Tag(Base):
    """A key and a JSON value on an entity; superseded tags stay, no longer current.

    Mirrors redun's `Tag`.

    Attributes
    ----------
    tag_hash : str
        Hash of the entity, the key, the value and the parents.
    entity_type : TagEntity
        What kind of entity it hangs on.
    entity_id : str
        Id of the entity.
    key : str
        The key, with a namespace in front or none.
    value : Any
        JSON.
    is_current : bool
        Whether no other tag superseded it.
    """

    __tablename__ = "tag"

    tag_hash: Mapped[str] = mapped_column(Hash, primary_key=True)
    entity_type: Mapped[TagEntity] = mapped_column(tag_entity_type())
    entity_id: Mapped[str] = mapped_column(String, index=True)
    key: Mapped[str] = mapped_column(String, index=True)
    value: Mapped[Any] = mapped_column(JSON, index=True, nullable=False)
    is_current: Mapped[bool] = mapped_column(default=True)

    tag_hash_idx = Index(
        "ix_tag_tag_hash_current",
        tag_hash,
        unique=True,
        postgresql_where=text("is_current"),
        sqlite_where=text("is_current"),
    )

    parents: Mapped[list[Tag]] = through(
        "tag_edit", "Tag.tag_hash == TagEdit.child_id", "Tag.tag_hash == TagEdit.parent_id", "children"
    )
    children: Mapped[list[Tag]] = through(
        "tag_edit", "Tag.tag_hash == TagEdit.parent_id", "Tag.tag_hash == TagEdit.child_id", "parents"
    )
    child_edits: Mapped[list[TagEdit]] = many("parent", foreign_keys=[TagEdit.parent_id], viewonly=True)
    parent_edits: Mapped[list[TagEdit]] = many("child", foreign_keys=[TagEdit.child_id], viewonly=True)

    # Plural as the reference names them, though a tag has one entity: of the five at most one is not None.
    call_nodes: Mapped[CallNode | None] = tags_entity("CallNode.call_hash")
    executions: Mapped[Execution | None] = tags_entity("Execution.id")
    jobs: Mapped[Job | None] = tags_entity("Job.id")
    tasks: Mapped[Task | None] = tags_entity("Task.hash")
    values: Mapped[Value | None] = tags_entity("Value.value_hash")

    @property
    def base_key(self) -> str:
        """The key without its namespace."""
        return self.key.rpartition(".")[2]

    @property
    def namespace(self) -> str:
        """The key's namespace, "" when it has none."""
        return self.key.rpartition(".")[0]

    @staticmethod
    def get_delete_tag() -> Tag:
        """Return a tag that deletes its parents; the caller gives it its hash.

        Mirrors redun's `Tag.get_delete_tag`.

        Returns
        -------
        Tag
            With `TagEntity.Null`, in no session.
        """
        return Tag(tag_hash="", entity_type=TagEntity.Null, entity_id="", key="", value=None)

    async def entity(self) -> Execution | Job | CallNode | Task | Value:
        """Return what the tag hangs on (mirrors redun's `Tag.entity`).

        Returns
        -------
        Execution, Job, CallNode, Task or Value
            The entity, with its columns.

        Raises
        ------
        RedunDatabaseError
            If the entity is not in the database, or the tag marks a deletion.
        """
        entity: Execution | Job | CallNode | Task | Value
        entity = await entities(self).get_entity(self.entity_type, self.entity_id)
        return entity

    async def value_parsed(self) -> Any:
        """Return the stored value whose hash is the tag's value.

        Mirrors redun's `Tag.value_parsed`.

        Returns
        -------
        Any
            Numbers, texts and containers as they are, objects of classes as previews; None where there is
            no such value.
        """
        return await entities(self).get_value_parsed(self.value) if isinstance(self.value, str) else None

    def __repr__(self) -> str:
        value = json.dumps(self.__dict__.get("value"), sort_keys=True)
        return (
            f"Tag(tag_hash={show(self, 'tag_hash', 8)}, entity_id={show(self, 'entity_id', 8)}, "
            f"key={show(self, 'key')}, value={value})"
        )
