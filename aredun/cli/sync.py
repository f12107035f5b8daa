"""`aredun export`, `import`, `sync` and `verify`: records in and out, between repositories, and checked."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from aredun.cli.chunks import in_chunks
from aredun.cli.common import (
    apply_read_only,
    get_ini,
    make_console,
    one_line,
    open_backend,
    open_repository,
    refuse_read_only,
)
from aredun.config import BackendConfig, load_config, make_file_uri
from aredun.errors import InvalidRecordError, UsageError
from aredun.search.identify import get_key, infer_id
from aredun.search.loading import list_execution_ids

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from rich.console import Console

    from aredun.backend import RedunBackendDb
    from aredun.sync import SyncReport

EXIT_FOUND: Final = 1
EXIT_REFUSED: Final = 2
# Errors and problems that are shown one by one.
MAX_SHOWN: Final = 100
_LINES_BYTES: Final = 1 << 18
_WRITE_LINES: Final = 200


@contextmanager
def _show_meter(title: str, args: argparse.Namespace) -> Iterator[Callable[..., None]]:
    """Show a line on stderr, on a terminal only; yield what writes records, bytes, rate and time left."""
    console = make_console(stderr=True)
    progress = Progress(
        TextColumn(title),
        BarColumn(),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=args.log_level == "error" or not console.is_terminal,
    )
    task = progress.add_task(title, total=None, text="")

    def update(records: int, size: int | None = None, left: float | None = None, **steps: Any) -> None:
        elapsed = progress.tasks[task].elapsed or 0.0
        parts = [f"{records:,} records"]
        if size is not None:
            parts.append(decimal(size))
        if elapsed > 0:
            parts.append(f"{records / elapsed:,.0f}/s")
        if left is not None:
            parts.append(f"{left:,.0f} s left")
        progress.update(task, text="  ".join(parts), **steps)

    with progress:
        yield update


async def resolve_ids(backend: RedunBackendDb, ids: Sequence[str]) -> list[str]:
    """Return the full ids of records named by their ids or their beginnings, as `aredun log` takes them."""
    present = set(await backend.has_records(ids))
    return [
        each if each in present else get_key(await infer_id(backend, each, False, required=True))
        for each in ids
    ]


@asynccontextmanager
async def _open_input(name: str) -> AsyncIterator[Callable[[], Awaitable[list[bytes]]]]:
    """Open a file or standard input; yield what reads the next lines, none at the end."""
    # Python waits for the threads of the event loop at its end. This one may wait for lines that never come.
    threads = ThreadPoolExecutor(1, "aredun-lines")
    run: Callable[..., Any] = partial(asyncio.get_running_loop().run_in_executor, threads)
    try:
        file: IO[bytes] = sys.stdin.buffer if name == "-" else await run(open, name, "rb")
        try:
            yield lambda: run(file.readlines, _LINES_BYTES)
        finally:
            if name != "-":
                threads.submit(file.close)
    finally:
        threads.shutdown(wait=False)


async def run_export(args: argparse.Namespace, console: Console) -> int:
    """Write records as JSON lines."""
    async with open_backend(args) as backend:
        roots = await (resolve_ids(backend, args.ids) if args.ids else list_execution_ids(backend))
        errors = _Errors("left out")
        records = backend.get_records(backend.iter_record_ids(roots), on_incomplete=errors.add)
        if args.dry_run:
            counts: Counter[str] = Counter()
            with _show_meter("export", args) as update:
                async for record in records:
                    counts[record["_type"]] += 1
                    if counts.total() % 1000 == 0:
                        update(counts.total())
            console.print(f"would export {describe_counts(counts)}")
        else:
            file = sys.stdout.buffer if args.file == "-" else await asyncio.to_thread(open, args.file, "wb")
            with nullcontext() if args.file == "-" else file, _show_meter("export", args) as update:
                await _write_lines(records, file, update)
    return errors.show()


async def _write_lines(
    records: AsyncIterator[dict[str, Any]], out: IO[bytes], update: Callable[..., None]
) -> None:
    count = size = 0

    def write(lines: list[dict[str, Any]]) -> int:
        return out.write("".join(json.dumps(line) + "\n" for line in lines).encode("ascii"))

    async for lines in in_chunks(records, _WRITE_LINES, _WRITE_LINES):
        size += await asyncio.to_thread(write, lines)
        count += len(lines)
        update(count, size)
    await asyncio.to_thread(out.flush)


async def run_import(args: argparse.Namespace, console: Console) -> int:
    """Read records from JSON lines."""
    from aredun.transfer.records.write import count_records

    errors = _Errors()
    progress: Counter[str] = Counter()
    async with _open_input(args.file) as read, open_backend(args, create=not args.dry_run) as backend:
        records = _iter_records(read, errors.add, progress)
        with _show_meter("import", args) as update:

            def on_written(count: int, new: int) -> None:
                progress["records"] += count
                update(progress["records"], progress["bytes"])

            if args.dry_run:
                counts, known = await count_records(
                    backend.database, records, errors.add, backend.value_store
                )
                text = f"would import {describe_counts(counts)}; {known:,} are there already"
            else:
                new = await backend.put_records(records, on_refused=errors.add, on_written=on_written)
                text = f"imported {new:,} new records, {progress['records'] - new:,} were there already"
    make_console(stderr=True).print(text)
    return errors.show()


async def _iter_records(
    read: Callable[[], Awaitable[list[bytes]]],
    refuse: Callable[[InvalidRecordError], None],
    progress: Counter[str],
) -> AsyncIterator[Any]:
    """Yield the records of JSON lines; lines that are no JSON are refused by their number."""
    number = 1
    while lines := await read():
        for record in await asyncio.to_thread(_parse_lines, lines, number):
            if isinstance(record, InvalidRecordError):
                refuse(record)
            elif record is not None:
                yield record
        number += len(lines)
        progress["bytes"] += sum(map(len, lines))


def _parse_lines(lines: Sequence[bytes], first: int) -> list[Any]:
    parsed: list[Any] = []
    for number, line in enumerate(lines, first):
        try:
            parsed.append(json.loads(line) if line.strip() else None)
        except (ValueError, RecursionError) as error:
            parsed.append(InvalidRecordError(f"line {number} is not a JSON record: {one_line(error)}"))
    return parsed


class _Errors:
    """Records that do not travel: the first ones are kept to be shown, all are counted."""

    def __init__(self, title: str = "refused") -> None:
        self._title = title
        self._shown: list[str] = []
        self._count = 0

    def add(self, error: InvalidRecordError) -> None:
        """Take note of one."""
        self._count += 1
        if len(self._shown) < MAX_SHOWN:
            self._shown.append(one_line(error))

    def show(self) -> int:
        """Write them to stderr; return the exit code."""
        for message in self._shown:
            sys.stderr.write(f"aredun: {self._title}: {message}\n")
        if self._count > len(self._shown):
            sys.stderr.write(f"aredun: {self._title}: {self._count - len(self._shown):,} more records\n")
        return EXIT_REFUSED if self._count else 0


def describe_counts(counts: Counter[str] | dict[str, int]) -> str:
    """Return numbers of records by type as a text."""
    total = sum(counts.values())
    parts = ", ".join(f"{number:,} {kind}" for kind, number in sorted(counts.items()) if number)
    return f"{total:,} records ({parts})" if parts else "0 records"


def find_repository(args: argparse.Namespace, text: str) -> BackendConfig:
    """Return the settings of a repository: a name from redun.ini, a URI, a directory, or a sqlite file.

    Raises
    ------
    UsageError
        It is none of these.
    """
    ini, path = get_ini(args), Path(text)
    names = {"default", *ini.subsections("repos")}
    if text in names:
        return ini.repository(text).backend()
    if re.match(r"[a-z][a-z0-9+]*:/", text) and not path.exists():
        # The value store of a repository that is only named by its URI cannot be known.
        return BackendConfig.parse({}, text)
    for folder in (path, path / ".redun"):
        if (folder / "redun.ini").is_file():
            return load_config(folder, required=True).backend()
    if path.is_dir():
        path = path / "redun.db" if (path / "redun.db").exists() else path / ".redun" / "redun.db"
    if path.exists() or path.suffix in (".db", ".sqlite"):
        return BackendConfig.parse({}, make_file_uri(path.absolute()))
    raise UsageError(
        f"unknown repository {text!r}: give one of {', '.join(sorted(names))}, a database URI,"
        " a configuration directory or a sqlite file"
    )


async def run_sync(args: argparse.Namespace, console: Console) -> int:
    """Copy records between repositories."""
    from aredun.sync import sync_records

    source = apply_read_only(args, await asyncio.to_thread(find_repository, args, args.source))
    destination = await asyncio.to_thread(find_repository, args, args.destination)
    async with (
        open_repository(source) as src,
        open_repository(destination, migrate=False if args.dry_run else None) as dst,
    ):
        ids = await resolve_ids(src, args.ids) if args.ids else None
        with _show_meter("sync", args) as update:

            def on_progress(report: SyncReport) -> None:
                steps = {"completed": report.roots_done, "total": report.roots}
                update(report.done, report.bytes, report.seconds_left, **steps)

            report = await sync_records(
                src,
                dst,
                ids,
                workers=args.workers,
                batch_size=args.batch_size,
                on_progress=on_progress,
                dry_run=args.dry_run,
            )
    verb = "would copy" if args.dry_run else "copied"
    console.print(
        f"{verb} {describe_counts(report.by_type)} of {report.seen:,}, {decimal(report.bytes)} of values,"
        f" in {report.seconds:.1f} s"
    )
    errors = _Errors()
    for error in report.refused:
        errors.add(error)
    return errors.show()


async def run_verify(args: argparse.Namespace, console: Console) -> int:
    """Check a repository, and mend what can be."""
    from aredun.transfer.verify import verify_repository

    if args.repair:
        refuse_read_only(args)
    async with open_backend(args) as backend:
        with _show_meter("verify", args) as update:
            report = await verify_repository(
                backend.database,
                backend.value_store,
                repair=args.repair,
                on_progress=lambda report: update(sum(report.checked.values())),
            )
    for problem in report.problems[:MAX_SHOWN]:
        console.print(one_line(problem))
    if len(report.problems) > MAX_SHOWN:
        console.print(f"... and {len(report.problems) - MAX_SHOWN:,} more problems")
    repaired = sum(problem.repaired for problem in report.problems)
    console.print(
        f"checked {describe_counts(report.checked).replace('records', 'rows')}:"
        f" {len(report.problems):,} problems, {repaired:,} repaired,"
        f" {report.unverifiable:,} hashes cannot be checked"
    )
    return 0 if report.is_sound else EXIT_FOUND
