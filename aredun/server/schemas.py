"""What the HTTP API answers with. Anybody may have written the texts in it: they are cut and cleaned.

Clients know these names, the tables' names (`aredun.models`) among them.
"""

from __future__ import annotations

import math
from datetime import datetime  # noqa: TC003  # pydantic reads it at run time
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from aredun.formats.describe import cut_text

MAX_SOURCE = 500_000
_MAX_JSON_DEPTH = 40
_MAX_JSON_ITEMS = 200
_MAX_JSON_INT = 2**53


def _clean(value: Any) -> Any:
    return cut_text(value) if isinstance(value, str) else value


def _clean_source(value: Any) -> Any:
    return cut_text(value, MAX_SOURCE) if isinstance(value, str) else value


def clean_json(value: Any, depth: int = 0) -> Any:
    """Return JSON that clients can read: texts, lists, depth cut, numbers as JavaScript's; else a `repr`."""
    if isinstance(value, str):
        return cut_text(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) < _MAX_JSON_INT else cut_text(hex(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth >= _MAX_JSON_DEPTH:
        return "…"
    if isinstance(value, list | tuple):
        items = [clean_json(item, depth + 1) for item in value[:_MAX_JSON_ITEMS]]
        return [*items, "…"] if len(value) > _MAX_JSON_ITEMS else items
    if isinstance(value, dict):
        pairs = list(value.items())[:_MAX_JSON_ITEMS]
        cleaned = {cut_text(str(key)): clean_json(item, depth + 1) for key, item in pairs}
        return {**cleaned, "…": "…"} if len(value) > _MAX_JSON_ITEMS else cleaned
    return cut_text(repr(value))


Text = Annotated[str, BeforeValidator(_clean)]
Source = Annotated[str, BeforeValidator(_clean_source)]
Json = Annotated[Any, BeforeValidator(clean_json)]
SpanKind = Literal["keyword", "builtin", "definition", "decorator", "string", "number", "comment"]
Spans = Annotated[
    list[tuple[int, int, SpanKind]],
    Field(
        description="Parts of the source that have a colour: start and end in UTF-16 code units, kind."
        " Of the first 50,000 characters."
    ),
]

_TIME = "2025-01-31T12:00:00.250000+00:00"
# What examples have in fields whose names end so.
_EXAMPLES = {
    "hash": "5a4d7e0a0c1d4b8b9c7f3f0f7a1d2e3c4b5a6978",
    "id": "2f0e8b1c-7a55-4c1e-9f0b-0d6c1f7f3a10",
    **dict.fromkeys(("time", "timestamp", "run", "written"), _TIME),
}


class Answer(BaseModel):
    """What an answer consists of; it can be made of any object with attributes of its fields' names."""

    model_config = ConfigDict(from_attributes=True, populate_by_name=True)


AnswerT = TypeVar("AnswerT", bound=Answer)


def fill(schema: type[AnswerT], record: Any, **others: Any) -> AnswerT:
    """Return an answer with what a record has under the names of its fields, and with the others."""
    for name, attribute in _list_attributes(schema):
        if name not in others:
            others[name] = getattr(record, attribute)
    return schema(**others)


@cache
def _list_attributes(schema: type[Answer]) -> list[tuple[str, str]]:
    """Return the fields of an answer and what they are called in records; kept, as a page has hundreds."""
    fields = schema.model_fields.items()
    return [(name, str(field.validation_alias or name)) for name, field in fields if name != "type"]


def example(**chosen: Any) -> ConfigDict:
    """Return the settings of an answer with an example: these fields, hashes, ids, times and defaults."""

    def add_example(content: dict[str, Any], schema: type[BaseModel]) -> None:
        fields = schema.model_fields.items()
        usual = {name: field.default for name, field in fields if not field.is_required()}
        usual |= {name: _EXAMPLES[end] for name, _ in fields if (end := name.rpartition("_")[2]) in _EXAMPLES}
        content["examples"] = [usual | chosen]

    return ConfigDict(json_schema_extra=add_example)


class Tag(Answer):
    """A key and a value on a record."""

    model_config = example(entity_type="Execution", key="project", value="atlas", is_current=True)

    tag_hash: Text
    entity_type: Text
    entity_id: Text
    key: Text
    value: Json
    is_current: bool


class Execution(Answer):
    """One run of a workflow."""

    model_config = example(
        args="aredun run workflow.py main", status="DONE", task="variants.main", duration=12.5
    )

    type: Literal["Execution"] = "Execution"
    id: Text
    args: Text
    status: Text
    task: Text | None
    job_id: Text
    start_time: datetime | None
    end_time: datetime | None
    updated_time: datetime | None
    duration: float | None = Field(description="Seconds; null while it runs.")
    tags: list[Tag] = []


class Job(Answer):
    """One task call within an execution."""

    model_config = example(
        status="CACHED",
        task="variants.align_reads",
        cached=True,
        duration=0.25,
        arguments="'sample3.fastq', min=20",
    )

    type: Literal["Job"] = "Job"
    id: Text
    status: Text
    task: Text | None
    task_hash: Text
    call_hash: Text | None
    cached: bool
    parent_id: Text | None
    execution_id: Text
    start_time: datetime
    end_time: datetime | None
    duration: float | None = Field(description="Seconds; null while it runs.")
    arguments: Text | None = Field(description="Short, at most 1,000 characters; null without a call.")


class Value(Answer):
    """A recorded value as people may see it; nothing of it was run to show it."""

    model_config = example(
        value_type="redun.File",
        format="application/python-pickle",
        preview="File(path=sample.bam, hash=5a4d7e0a)",
        path="sample.bam",
    )

    type: Literal["Value"] = "Value"
    value_hash: Text
    value_type: Text
    format: Text
    preview: Text | None
    path: Text | None = Field(default=None, description="Of a file.")


class Preview(Answer):
    """What a value looks like."""

    model_config = example(preview="File(path=sample.bam, hash=5a4d7e0a)")

    value_hash: Text
    preview: Text


class CallNode(Answer):
    """A call of a task."""

    model_config = example(task="variants.align_reads")

    type: Literal["CallNode"] = "CallNode"
    call_hash: Text
    task: Text = Field(validation_alias="task_name")
    task_hash: Text
    args_hash: Text
    value_hash: Text
    timestamp: datetime | None


class Task(Answer):
    """A version of a task."""

    model_config = example(name="align_reads", namespace="variants", fullname="variants.align_reads")

    type: Literal["Task"] = "Task"
    hash: Text
    name: Text
    namespace: Text
    fullname: Text


Record = Annotated[Execution | Job | CallNode | Task | Value, Field(discriminator="type")]


class Argument(Answer):
    """An argument of a call, with what it looks like and where it came from."""

    arg_hash: Text
    name: Text
    position: int | None
    key: Text | None
    value: Value
    upstream: list[Text] = Field(description="Calls whose results it was made of.")


class TaskDetails(Task):
    """A version of a task with its source and tags."""

    model_config = example(
        name="align_reads",
        namespace="variants",
        fullname="variants.align_reads",
        source="def align_reads(fastq, genome):\n    ...\n",
        source_spans=[(0, 3, "keyword"), (4, 15, "definition")],
        tags=[],
    )

    source: Source
    source_spans: Spans
    tags: list[Tag]


class ValueDetails(Value):
    """A value with its tags, its parts and the job that it is best told by."""

    tags: list[Tag]
    used_as: Literal["result", "arg"] | None
    job: Job | None


class CallNodeDetails(CallNode):
    """A call with its arguments, its result, its task and its neighbours in the call graph."""

    arguments: list[Argument]
    result: Value | None
    source: Source
    source_spans: Spans
    tags: list[Tag]
    children: list[CallNode]
    parents: list[CallNode]
    is_cut: bool = Field(description="Whether there are more neighbours or arguments than shown.")


class Ancestor(Answer):
    """A job above another."""

    model_config = example(task="variants.main")

    id: Text
    task: Text = Field(validation_alias="task_name")


class Variable(Answer):
    """An argument of a task in a traceback, as a short text."""

    model_config = example(name="sample", text="'NA12878'")

    name: Text
    text: Text


class Frame(Answer):
    """A line of a traceback: of a task, then with the job that ran it and its arguments, or of a function."""

    model_config = example(
        job_id=None,
        filename="workflow.py",
        lineno=12,
        name="align_reads",
        line='raise ValueError("no reads")',
        line_spans=[(0, 5, "keyword"), (6, 16, "builtin"), (17, 27, "string")],
        variables=[],
    )

    job_id: Text | None
    filename: Text
    lineno: int | None
    name: Text
    line: Text = Field(description="The source there; empty where it is not known.")
    line_spans: Spans
    variables: list[Variable]


class Failure(Answer):
    """What a job failed with; nothing of the error was run to show it."""

    model_config = example(
        error_type="ValueError",
        message="no reads",
        frames=[],
        frames_left_out=0,
        logs=[],
        path=[{"id": _EXAMPLES["id"], "task": "variants.main"}],
    )

    error_type: Text = Field(description="Name of the error's class; empty where it cannot be read.")
    message: Text
    frames: list[Frame] = Field(description="Outermost first.")
    frames_left_out: int = Field(description="How many more there are in the middle.")
    logs: list[Text] = Field(description="The last lines that the task wrote.")
    path: list[Ancestor] = Field(description="From the job down to the one that raised the error.")


class NextFailed(Answer):
    """Where a job stands among those of its execution that raised an error, by start."""

    model_config = example(total=3, number=2)

    total: int
    number: int | None = Field(description="Counted from one; null if the job raised no error itself.")
    next_id: Text | None
    previous_id: Text | None


class JobDetails(Job):
    """A job with its call, its tags, the jobs above it and what it failed with."""

    call: CallNodeDetails | None
    source: Source
    source_spans: Spans
    context: Json
    tags: list[Tag]
    ancestors: list[Ancestor]
    failure: Failure | None = Field(description="Of a job that failed.")


class TaskCounts(Answer):
    """How many jobs of a task there are, by status."""

    model_config = example(task="variants.align_reads", counts={"DONE": 3, "CACHED": 1})

    task: Text = Field(validation_alias="task_name")
    counts: dict[str, int]


class ExecutionDetails(Execution):
    """An execution with its jobs counted by task and status."""

    counts: list[TaskCounts]
    failure: Failure | None = Field(description="Of one that failed: the error of its root job.")


class TreeLine(Answer):
    """A line of a job tree: a job, or jobs of one task under one parent that are only counted."""

    model_config = example(depth=1, job=None, folded={"task": "variants.align_reads", "counts": {"DONE": 90}})

    depth: int
    job: Job | None
    folded: TaskCounts | None


class JobTree(Answer):
    """The jobs of an execution in the order of their calls."""

    lines: list[TreeLine]
    is_cut: bool


class Match(Answer):
    """What an id stands for."""

    record: Record
    used_as: Literal["result", "arg"] | None = Field(description="Of a file: how `job` had it.")
    job: Job | None = Field(description="Of a file: the job that it is best told by.")


class Hit(Answer):
    """A record that a search found."""

    record: Record
    because: str | None = Field(description="The tag or the arguments that fit; None: its id, name or path.")


class Search(Answer):
    """What a search found."""

    hits: list[Hit]
    bound: str | None = Field(description="What was looked at, in words, if that is not all.")


class Count(Answer):
    """How many records of a type there are."""

    model_config = example(type="Job", count=1002)

    type: Text
    count: int


class BasePage(Answer):
    """A page of a list."""

    cursor: str | None = Field(
        description="Give it as `cursor` for the next page; null on the last.", examples=["WyJKb2Ii"]
    )


class ExecutionPage(BasePage):
    """A page of executions, newest first."""

    items: list[Execution]


class JobPage(BasePage):
    """A page of jobs."""

    items: list[Job]


class ValuePage(BasePage):
    """A page of values."""

    items: list[Value]


class CallNodePage(BasePage):
    """A page of calls."""

    items: list[CallNode]


class TaskPage(BasePage):
    """A page of tasks."""

    items: list[Task]


class TagPage(BasePage):
    """A page of tags."""

    items: list[Tag]


class RecordPage(BasePage):
    """A page of records of several types."""

    items: list[Record]


class Problem(Answer):
    """Why there is no answer."""

    model_config = example(error="not_found", message="no Job has an id that begins with '2f0e'")

    error: str
    message: Text
