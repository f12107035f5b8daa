"""What the commands take: nothing here waits for the database library, so that help is there at once.

Each command says as `run`, in words, which function runs it: only the module of the command at hand is
imported.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from aredun.cli.common import one_line
from aredun.errors import UsageError
from aredun.formats.spelling import ask_whether, find_near
from aredun.formats.versions import get_own_version
from aredun.search.arguments import setup_query_parser

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

# `add_parser` of a parser's commands.
Add = Callable[..., argparse.ArgumentParser]

LEVELS = ("error", "warning", "info", "debug")
DEFAULT_LEVEL = "warning"
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080
TOKEN_VARIABLE = "AREDUN_TOKEN"
SHELLS = ("bash", "zsh", "tcsh")

# argparse's message for an unknown command or value.
_INVALID_CHOICE = re.compile(r"invalid choice: '(.*)' \(choose from (.*)\)")


class FileArgument(argparse.Action):
    """Stores an argument that may be the path of a file, which shells complete (see `aredun completion`)."""

    kind = "FILE"

    # Only shtab asks for this, so a command that does not need shtab does not import it.
    @property
    def complete(self) -> Mapping[str, Any]:
        """How each shell completes it."""
        import shtab

        completions: Mapping[str, Any] = getattr(shtab, self.kind)
        return completions

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Store what was given."""
        setattr(namespace, self.dest, values)


class FolderArgument(FileArgument):
    """Stores an argument that is the path of a folder."""

    kind = "DIRECTORY"


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors are `UsageError` and whose commands all take what `add_common_options` adds.

    These options are accepted before and after the command's name, at every level.

    Parameters
    ----------
    run : str | None
        The function that runs the command, as `pkgutil.resolve_name` takes it.
    common_options : bool
        Whether it takes those options.
    **settings : Any
        What argparse's own parser takes.
    """

    def __init__(self, *, run: str | None = None, common_options: bool = True, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)
        if common_options:
            add_common_options(self)
        if run is not None:
            self.set_defaults(run=run)

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError`, where argparse would print the usage and exit."""
        text = one_line(message)
        found = _INVALID_CHOICE.search(text)
        near = find_near(found[1], re.findall(r"[\w.-]+", found[2])) if found else []
        hint = f", {ask_whether(near)}" if near else ""
        raise UsageError(f"{text}{hint} (see '{self.prog} --help')")


class TagParser(CommandParser):
    """A parser that hands on what comes after `--`, which stands between ids and keys."""

    def parse_known_args(  # type: ignore[override]  # argparse has overloads that differ by the namespace only
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[Any, list[str]]:
        """Split the arguments at the first `--`, which argparse would drop."""
        given = list(args or ())
        position = given.index("--") if "--" in given else len(given)
        parsed, rest = super().parse_known_args(given[:position], namespace)
        if "--" in given:
            parsed.keys = given[position + 1 :]
        return parsed, rest


def make_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands; none of their modules is imported."""
    parser = CommandParser(
        prog="aredun",
        description="Record, trace and sync the provenance of workflows, in redun's own database.",
    )
    parser.add_argument("-V", "--version", action="version", version=f"aredun {get_own_version()}")
    parser.set_defaults(run=None, db=None, config=None, read_only=False, log_level=DEFAULT_LEVEL)
    add: Add = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command").add_parser
    working = (_add_init, _add_run)
    asking = (_add_log, _add_why, _add_diff, _add_dataflow, _add_query)
    keeping = (_add_tag, _add_db, _add_serve)
    moving = (_add_export, _add_import, _add_sync, _add_verify)
    for add_command in (*working, *asking, *keeping, *moving, _add_completion):
        add_command(add)
    return parser


def add_common_options(parser: argparse.ArgumentParser, taken: Container[str] = ()) -> None:
    """Add `--db URI`, `-c/--config DIR`, `--read-only`, `--log-level` and its short forms.

    Absent ones leave no attribute, so that those of another level stay; `make_parser` has their defaults.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        The parser of a command, or of what follows it.
    taken : Container[str]
        Options that mean something else there, and are left alone.
    """
    repository, messages = map(parser.add_argument_group, ("repository", "messages"))

    def add(group: Any, *names: str, **settings: Any) -> None:
        if names[-1] not in taken:
            group.add_argument(*names, default=argparse.SUPPRESS, **settings)

    refuse = "refuse whatever would write to the database"
    add(repository, "--read-only", action="store_true", help=refuse)
    add(repository, "--db", metavar="URI", help="database to use, instead of redun.ini's")
    folder = "configuration directory (default: $REDUN_CONFIG, else .redun here or in a parent directory)"
    add(repository, "-c", "--config", metavar="DIR", action=FolderArgument, help=folder)
    text = f"what to tell on stderr: {', '.join(LEVELS)} (default: {DEFAULT_LEVEL})"
    add(messages, "--log-level", metavar="LEVEL", choices=LEVELS, help=text)
    for letter, name, level in (("-v", "--verbose", "info"), ("-q", "--quiet", "error")):
        settings = {"action": "store_const", "const": level, "help": f"short for --log-level {level}"}
        add(messages, letter, name, dest="log_level", **settings)


def _add_verbs(parser: argparse.ArgumentParser, parser_class: type[CommandParser]) -> Add:
    """Give a command commands of its own, one of which has to be there as `verb`; return what adds them."""
    verbs = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="verb", required=True, parser_class=parser_class
    )
    return verbs.add_parser


def _add_init(add: Add) -> None:
    parser = add(
        "init",
        run="aredun.cli.init:run",
        help="make redun.ini and the repository",
        description="Make a configuration directory with redun.ini, and the database that it names; what is "
        "there already stays as it is. With --db the new redun.ini names that database.",
    )
    text = "make DIR/.redun (default: the configuration directory)"
    parser.add_argument("folder", action=FolderArgument, nargs="?", metavar="DIR", help=text)


def _add_run(add: Add) -> None:
    parser = add(
        "run",
        run="aredun.cli.run:run",
        help="run a workflow",
        description="Run a workflow and record it; calls that were made before are taken from the cache.",
        epilog="'aredun run FILE help' lists the tasks, 'aredun run FILE TASK --help' the arguments of one. "
        "Options are accepted after TASK too, unless the task has an argument of that name.",
    )
    add_run_options(parser)
    text = "Python file or module that defines the task"
    parser.add_argument("script", action=FileArgument, metavar="FILE", help=text)
    parser.add_argument("task", metavar="TASK", help="name of the task")
    parser.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="--arg value ...", help="the task's arguments"
    )


def add_run_options(parser: argparse.ArgumentParser, taken: Container[str] = ()) -> None:
    """Add the options of `run`, except those whose name an argument of the task has."""

    def add(*names: str, **settings: Any) -> None:
        if names[-1] not in taken:
            parser.add_argument(*names, **settings)

    add("--no-cache", action="store_true", help="use no result of earlier executions")
    add("--no-prov", action="store_true", help="record no provenance")
    pairs: dict[str, Any] = {"action": "append", "metavar": "KEY=VALUE", "default": []}
    add("-o", "--option", help="override an option of the task", **pairs)
    add("-t", "--tag", help="tag the execution", **pairs)
    add("-p", "--project", help="project tag (default: the task's namespace)")
    add("--doc", help="documentation tag of the execution")
    add("-u", "--user", help="user tag (default: $REDUN_USER, else the login name)")
    add("--execution-id", metavar="UUID", help="id of the execution")
    add("--context", help="set a context variable; dots nest", **pairs)
    add("--context-file", action=FileArgument, metavar="PATH", help="JSON file of context variables")
    add("-i", "--input", action=FileArgument, metavar="PATH", help="pickle of (args, kwargs) for the task")
    add("--rerun", action="store_true", help="TASK is the id of a job or execution: call its task again so")
    add("--dryrun", action="store_true", help="tell which calls would run; run and record nothing")
    add("--pdb", action="store_true", help="debug where the workflow failed")
    add("--max-concurrency", type=_read_positive, metavar="N", help="how many functions run at once")


def _read_positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def _add_log(add: Add) -> None:
    parser = add(
        "log",
        run="aredun.cli.log:run",
        help="show executions, jobs, call nodes, tasks, values and files",
        description="Show the history of a repository. Without arguments: the executions, newest first.",
        epilog="ID is the beginning of any id, the name of a task, the path of a file, - for the newest "
        "execution, ~2 for the one before it, and so on.",
    )
    parser.add_argument("id", action=FileArgument, nargs="?", metavar="ID", help="show this record in detail")
    _add_output_options(parser)
    parser.add_argument("--detail", action="store_true", help="show all records in detail")
    parser.add_argument("--full", action="store_true", help="fold no jobs, cut no dataflow")
    setup_query_parser(parser)


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    output = parser.add_argument_group("output")
    output.add_argument("--count", action="store_true", help="show how many records there are of each type")
    _add_format_options(output, "a record")
    output.add_argument("-n", "--limit", type=int, metavar="N", help="show the first N records only")
    _add_no_pager(output)
    output.add_argument(
        "--abandoned-after",
        metavar="SECONDS",
        help="how long a run may be silent before it counts as ABANDONED (default: the setting "
        "'abandoned_after', else 600)",
    )


def _add_format_options(group: Any, what: str) -> None:
    text = f"json: {what} on each line"
    group.add_argument("--format", choices=["text", "json"], default="text", help=text)
    short = "short for --format json"
    group.add_argument("--json", dest="format", action="store_const", const="json", help=short)


def _add_no_pager(group: Any) -> None:
    group.add_argument("--no-pager", action="store_true", help="write to the terminal directly")


def _add_why(add: Add) -> None:
    why = add(
        "why",
        run="aredun.cli.differences:run_why",
        help="tell why a job ran, and was not taken from the cache",
        description="Tell which argument, file, source or version is another than in the earlier call of "
        "the task that the job is most like.",
    )
    why.add_argument("id", metavar="JOB", help="first characters of a job's id")
    _add_no_pager(why)


def _add_diff(add: Add) -> None:
    diff = add(
        "diff",
        run="aredun.cli.differences:run_diff",
        help="tell in what two executions differ",
        description="Tell task by task which calls of two executions differ, and in what.",
    )
    text = "first characters of an execution's id; - is the newest"
    diff.add_argument("before", metavar="EXEC1", help=text)
    diff.add_argument("after", metavar="EXEC2", help="the execution to compare it with")
    _add_no_pager(diff)


def _add_dataflow(add: Add) -> None:
    parser = add(
        "dataflow",
        run="aredun.cli.dataflow:run",
        help="show what a value came from, or what was derived from it",
        description="Show the dataflow of a value, file, task, job, call or execution.",
    )
    text = "first characters of an id, a task's name or a file's path"
    parser.add_argument("id", action=FileArgument, metavar="ID|PATH", help=text)
    formats = ("text", "json", "mermaid", "dot", "svg")
    parser.add_argument("--format", choices=formats, default="text", help="what to write (default: text)")
    text = "show what was derived from it: what to redo if it was wrong"
    parser.add_argument("--downstream", action="store_true", help=text)
    text = "leave out what is N edges or more away from the start"
    parser.add_argument("--depth", type=int, metavar="N", help=text)
    parser.add_argument("--max-edges", type=int, metavar="N", help="end after N edges")


def _add_query(add: Add) -> None:
    parser = add(
        "query",
        run="aredun.cli.query:run",
        help="find records of any type",
        description="Find records: those that meet all filters, of every type unless types are chosen.",
        epilog="For programs: --json writes an object per record with its status and times (redun's own "
        "records: 'aredun log --json'); --select id writes bare columns; --page reads page by page.",
    )
    text = "records whose id begins so, or tasks of that name"
    parser.add_argument("id", nargs="?", metavar="ID", help=text)
    _add_output_options(parser)
    parser.add_argument("--select", metavar="COLUMN,...", help="write these columns only: id, type")
    text = "default: time, newest first"
    parser.add_argument("--order-by", choices=["id", "time"], default="time", help=text)
    text = "write one page of --limit records as a JSON object with the next page's cursor"
    parser.add_argument("--page", nargs="?", const="", metavar="CURSOR", help=text)
    setup_query_parser(parser)


def _add_tag(add: Add) -> None:
    description = "Show and change the tags of executions, jobs, call nodes, tasks and values."
    commands = add("tag", help="show and change tags", description=description)
    add = _add_verbs(commands, TagParser)
    show = add("list", run="aredun.cli.tag:run_list", help="list tags, or the records that have them")
    text = "show the records with all of these tags"
    show.add_argument("tags", nargs="*", default=[], metavar="KEY[=VALUE]", help=text)
    text = "list values too; KEY[=VALUE] chooses among the tags"
    show.add_argument("--values", action="store_true", help=text)
    _add_format_options(show, "an object")
    _add_no_pager(show)
    for name, text in (
        ("add", "add tags to records, beside those that they have"),
        ("update", "set tags of records, in place of those with the same keys"),
    ):
        change = add(name, run="aredun.cli.tag:run_record", help=text, description=f"{text.capitalize()}.")
        change.add_argument("items", nargs="+", metavar="ID ... KEY=VALUE", help="records, then tags")
    description = "Delete tags from records: KEY=VALUE one tag, KEY alone (after --) all tags of that key."
    text = "delete tags from records"
    remove = add("rm", run="aredun.cli.tag:run_remove", help=text, description=description)
    remove.add_argument("items", nargs="+", metavar="ID ... [--] KEY[=VALUE]", help="records, then tags")
    remove.set_defaults(keys=[])


def _add_db(add: Add) -> None:
    commands = add(
        "db", help="show and change the schema", description="Show and change the schema of a database."
    )
    add = _add_verbs(commands, CommandParser)
    text = "show the database's version and whether aredun can use it"
    add("info", run="aredun.cli.db:run_info", help=text)
    add("versions", run="aredun.cli.db:run_versions", help="list all schema versions, oldest first")
    text = "bring the database to a newer version"
    upgrade = add("upgrade", run="aredun.cli.db:run_migrate", help=text)
    upgrade.add_argument("version", nargs="?", default="latest", help="such as 3.5 (default: latest)")
    text = "take the database back to an older version"
    downgrade = add("downgrade", run="aredun.cli.db:run_migrate", help=text)
    downgrade.add_argument("version", help="such as 2.2; what that version cannot hold is dropped")
    text = "make an index that finds the calls with certain arguments"
    index = add("index", run="aredun.cli.db:run_index", help=text)
    index.add_argument("--drop", action="store_true", help="drop it")


def _add_serve(add: Add) -> None:
    parser = add(
        "serve",
        run="aredun.cli.serve:run",
        help="show the repository in a browser, with an HTTP API and websockets",
        description="Serve the viewer at /, the HTTP API at /api (schema: /openapi.json) and websockets "
        "at /ws. Nothing can be written through it.",
    )
    text = f"address to listen on (default: {DEFAULT_HOST})"
    parser.add_argument("--host", default=DEFAULT_HOST, help=text)
    text = f"port to listen on (default: {DEFAULT_PORT}; 0: any)"
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help=text)
    text = f"what clients must know; needed beyond loopback (default: ${TOKEN_VARIABLE})"
    parser.add_argument("--token", metavar="TOKEN", help=text)
    many: dict[str, Any] = {"action": "append", "default": []}
    text = "another name of this server; repeatable"
    parser.add_argument("--allow-host", metavar="NAME", help=text, **many)
    text = "origin of other pages that may open websockets, such as https://lab.example; repeatable"
    parser.add_argument("--allow-origin", metavar="ORIGIN", help=text, **many)
    parser.add_argument("--access-log", action="store_true", help="write a JSON object per request to stderr")


def _add_export(add: Add) -> None:
    parser = add(
        "export",
        run="aredun.cli.sync:run_export",
        help="write records as JSON lines",
        description="Write what some records own as JSON lines, for 'aredun import' or 'redun import'.",
    )
    _add_roots(parser)
    text = "where to write (default: standard output)"
    parser.add_argument("-f", "--file", action=FileArgument, default="-", help=text)
    parser.add_argument("--dry-run", action="store_true", help="count the records, write none")


def _add_roots(parser: argparse.ArgumentParser) -> None:
    text = "records to start from (default: all executions)"
    parser.add_argument("ids", nargs="*", default=[], metavar="ID", help=text)


def _add_import(add: Add) -> None:
    parser = add(
        "import",
        run="aredun.cli.sync:run_import",
        help="read records from JSON lines",
        description="Read records as JSON lines, from 'aredun export' or 'redun export'. Records that are "
        "forged or damaged, or that refer to records which are nowhere, are named and left out; all others "
        "go in.",
    )
    text = "where to read (default: standard input)"
    parser.add_argument("-f", "--file", action=FileArgument, default="-", help=text)
    parser.add_argument("--dry-run", action="store_true", help="check and count the records, write none")


def _add_sync(add: Add) -> None:
    parser = add(
        "sync",
        run="aredun.cli.sync:run_sync",
        help="copy records between repositories",
        description="Copy what some records own from one repository to another, newest executions first. A "
        "sync that was broken off goes on where it stopped. A repository is a name from the section [repos] "
        "of redun.ini ('default' is this one), a database URI, a configuration directory or a sqlite file.",
    )
    parser.add_argument("source", action=FileArgument, metavar="SRC", help="repository to read")
    text = "repository to write; a sqlite file may be new"
    parser.add_argument("destination", action=FileArgument, metavar="DST", help=text)
    _add_roots(parser)
    parser.add_argument("--workers", type=int, default=4, help="batches under way at a time (default: 4)")
    parser.add_argument("--batch-size", type=int, default=1000, help="records in a batch (default: 1000)")
    parser.add_argument("--dry-run", action="store_true", help="count what would be copied, copy nothing")


def _add_verify(add: Add) -> None:
    parser = add(
        "verify",
        run="aredun.cli.sync:run_verify",
        help="check a repository",
        description="Check every hash that can be computed without running a pickle, that every reference "
        "leads somewhere, that values have their bytes, and that the flags of tags are right. Exits with 1 "
        "if something is wrong.",
    )
    text = "mend what follows from the rest: flags of tags, subtree tasks, evaluations, rows without owner"
    parser.add_argument("--repair", action="store_true", help=text)


def _add_completion(add: Add) -> None:
    parser = add(
        "completion",
        run="aredun.cli.completion:run",
        help="write a script by which a shell completes this command",
        description="Write a script by which the shell completes the commands, options and files of aredun.",
        epilog='In ~/.bashrc: eval "$(aredun completion bash)"',
    )
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=f"one of {', '.join(SHELLS)}")
