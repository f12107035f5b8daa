"""The options that filter a call graph query, on any command that takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aredun.formats.spelling import spell_path
from aredun.formats.tag_syntax import parse_tag_key_value

if TYPE_CHECKING:
    import argparse

    from aredun.search.query import CallGraphQuery

# Options without a value that choose a record type.
_TYPE_OPTIONS = {
    "exec": ("Execution", "executions"),
    "job": ("Job", "jobs"),
    "call_node": ("CallNode", "call nodes"),
    "task": ("Task", "tasks"),
    "value": ("Value", "values"),
}
# Options with a list in one value: flag, metavar and help.
_LIST_OPTIONS = (
    ("--exec-status", "STATUS,...", "executions that are RUNNING, FAILED, DONE or ABANDONED"),
    ("--job-status", "STATUS,...", "jobs that are RUNNING, FAILED, CACHED, DONE or ABANDONED"),
    ("--exec-id", "ID,...", "records of these executions"),
)
# Options that may be repeated, in the same way.
_REPEATED_OPTIONS = (
    (("--task-name",), "NAME", "tasks of that name and their jobs"),
    (("--task-hash",), "HASH", "the task whose hash begins so, and its jobs"),
    (("--value-type",), "TYPE", "values of that type, such as builtins.int"),
    (("--file-path",), "PATTERN", "files whose path matches, relative or absolute; * stands for any text"),
    (("--result",), "HASH", "jobs with the value whose hash begins so as or in their result"),
    (("--arg",), "HASH", "jobs with the value whose hash begins so as or in an argument"),
    (("-t", "--tag"), "KEY[=VALUE]", "records with that tag"),
    (("--exec-tag",), "KEY[=VALUE]", "records of executions with that tag"),
)


def setup_query_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """
    Add the options that filter a query (mirrors redun's `setup_query_parser`).

    Parameters
    ----------
    parser : argparse.ArgumentParser
        The parser to add to.

    Returns
    -------
    argparse.ArgumentParser
        The same parser.
    """
    types = parser.add_argument_group("record types")
    types.add_argument("--all", action="store_true", help="show records of every type")
    for option, (_, plural) in _TYPE_OPTIONS.items():
        types.add_argument(f"--{option.replace('_', '-')}", action="store_true", help=f"show {plural}")
    types.add_argument("--file", action="store_true", help="show files")
    filters = parser.add_argument_group("filters (a record must meet all of them)")
    for flag, metavar, text in _LIST_OPTIONS:
        filters.add_argument(flag, metavar=metavar, help=text)
    for flags, metavar, text in _REPEATED_OPTIONS:
        filters.add_argument(*flags, metavar=metavar, action="append", help=f"{text}; may be repeated")
    return parser


def parse_callgraph_query(query: CallGraphQuery, args: argparse.Namespace) -> CallGraphQuery:
    """
    Add to a query what the arguments ask for (mirrors redun's `parse_callgraph_query`).

    Parameters
    ----------
    query : CallGraphQuery
        The query to begin with.
    args : argparse.Namespace
        What a parser prepared by `setup_query_parser` returned.

    Returns
    -------
    CallGraphQuery
        The query with the filters.

    Raises
    ------
    UsageError
        When a status is unknown or a tag malformed.
    """
    return _filter_records(_filter_types(query, args), args)


def _filter_types(query: CallGraphQuery, args: argparse.Namespace) -> CallGraphQuery:
    types = {name for option, (name, _) in _TYPE_OPTIONS.items() if getattr(args, option)}
    if args.exec_status:
        types.add("Execution")
        query = query.filter_execution_statuses(args.exec_status.split(","))
    if args.job_status:
        types.add("Job")
        query = query.filter_job_statuses(args.job_status.split(","))
    if args.value_type:
        types.add("Value")
        query = query.filter_value_types(args.value_type)
    if args.file_path:
        types.add("Value")
        query = query.filter_file_paths([path for given in args.file_path for path in spell_path(given)])
    if args.all:
        types.update(query.MODEL_NAMES)
    if args.file:
        types = {"Value"}
        query = query.filter_value_types(["redun.File"])
    return query.filter_types(types) if types else query


def _filter_records(query: CallGraphQuery, args: argparse.Namespace) -> CallGraphQuery:
    def read_tags(tags: list[str] | None) -> list[Any]:
        return [parse_tag_key_value(tag, value_required=False) for tag in tags or ()]

    filters: dict[str, list[Any] | None] = {
        "filter_execution_ids": args.exec_id.split(",") if args.exec_id else [],
        "filter_task_names": args.task_name,
        "filter_task_hashes": args.task_hash,
        "filter_results": args.result,
        "filter_arguments": args.arg,
        "filter_tags": read_tags(args.tag),
        "filter_execution_tags": read_tags(args.exec_tag),
    }
    for name, given in filters.items():
        query = getattr(query, name)(given) if given else query
    return query
