"""`aredun export`, `import`, `sync` and `verify`: records in and out, between repositories, and checked."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
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
from aredun.cli.levels import is_quiet
from aredun.errors import InvalidRecordError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from rich.console import Console

    from aredun.backend import RedunBackendDb
    from aredun.config import BackendConfig
    from aredun.sync import SyncReport

EXIT_FOUND: Final = 1
EXIT_REFUSED: Final = 2
# Errors and problems that are shown one by one.
MAX_SHOWN: Final = 100
_LINES_BYTES: Final = 1 << 18
_WRITE_LINES: Final = 200


class _Meter:
    """A line on stderr, on a terminal only: records, bytes, rate, time left."""

    def __init__(self, title: str, args: argparse.Namespace) -> None:
        console = make_console(stderr=True)
        self._progress = Progress(
            TextColumn(title),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=is_quiet(args) or not console.is_terminal,
        )
        self._task = self._progress.add_task(title, total=None, text="")

    @contextmanager
    def shown(self) -> Iterator[_Meter]:
        """Show the line for the length of the block."""
        with self._progress:
            yield self

    def update(
        self,
        records: int,
        size: int | None = None,
        *,
        done: int | None = None,
        total: int | None = None,
        left: float | None = None,
    ) -> None:
        """Show how far it is.

        Parameters
        ----------
        records : int
            Records so far.
        size : int, optional
            Bytes so far.
        done, total : int, optional
            Steps that are done, and all of them.
        left : float, optional
            Seconds left, if they are known.
        """
        elapsed = self._progress.tasks[self._task].elapsed or 0.0
        parts = [f"{records:,} records"]
        if size is not None:
            parts.append(decimal(size))
        if elapsed > 0:
            parts.append(f"{records / elapsed:,.0f}/s")
        if left is not None:
            parts.append(f"{left:,.0f} s left")
        self._progress.update(self._task, text="  ".join(parts), completed=done or 0, total=total)


async def resolve_ids(backend: RedunBackendDb, ids: Sequence[str]) -> list[str]:
    """Return the full ids of records named by their ids or their beginnings, as `aredun log` takes them."""
    from aredun.search.identify import get_key, infer_id

    present = set(await backend.has_records(ids))
    resolved = []
    for each in ids:
        if each in present:
            resolved.append(each)
            continue
        record = await infer_id(backend, each, include_files=False, required=True)
        resolved.append(get_key(record))
    return resolved


@asynccontextmanager
async def _open_output(name: str) -> AsyncIterator[IO[bytes]]:
    if name == "-":
        yield sys.stdout.buffer
        return
    file: IO[bytes] = await asyncio.to_thread(open, name, "wb")
    try:
        yield file
    finally:
        await asyncio.to_thread(file.close)


@asynccontextmanager
async def _open_input(name: str) -> AsyncIterator[Callable[[], Awaitable[list[bytes]]]]:
    """Open a file or standard input; yield what reads the next lines, none at the end."""
    # Python waits for the threads of the event loop at its end. This one may wait for lines that never come.
    threads = ThreadPoolExecutor(1, "aredun-lines")
    loop = asyncio.get_running_loop()
    file: IO[bytes] | None = None
    try:
        if name != "-":
            file = await loop.run_in_executor(threads, open, name, "rb")
        read = (file or sys.stdin.buffer).readlines
        yield lambda: loop.run_in_executor(threads, read, _LINES_BYTES)
    finally:
        if file is not None:
            threads.submit(file.close)
        threads.shutdown(wait=False)


async def run_export(args: argparse.Namespace, console: Console) -> int:
    """Write records as JSON lines."""
    from aredun.search.loading import list_execution_ids

    async with open_backend(args) as backend:
        roots = await (resolve_ids(backend, args.ids) if args.ids else list_execution_ids(backend))
        errors = _Errors("left out")
        records = backend.get_records(backend.iter_record_ids(roots), on_incomplete=errors.add)
        meter = _Meter("export", args)
        if args.dry_run:
            with meter.shown():
                counts: Counter[str] = Counter()
                async for record in records:
                    counts[record["_type"]] += 1
                    if counts.total() % 1000 == 0:
                        meter.update(counts.total())
            console.print(f"would export {describe_counts(counts)}")
            return errors.show()
        async with _open_output(args.file) as out:
            with meter.shown():
                await _write_lines(records, out, meter)
    return errors.show()


async def _write_lines(records: AsyncIterator[dict[str, Any]], out: IO[bytes], meter: _Meter) -> None:
    count = size = 0

    def write(lines: list[dict[str, Any]]) -> int:
        data = "".join(json.dumps(line) + "\n" for line in lines).encode("ascii")
        out.write(data)
        return len(data)

    async for lines in in_chunks(records, _WRITE_LINES, _WRITE_LINES):
        size += await asyncio.to_thread(write, lines)
        count += len(lines)
        meter.update(count, size)
    await asyncio.to_thread(out.flush)


async def run_import(args: argparse.Namespace, console: Console) -> int:
    """Read records from JSON lines."""
    errors = _Errors()
    meter = _Meter("import", args)
    progress = {"records": 0, "bytes": 0}

    def on_written(records: int, new: int) -> None:
        progress["records"] += records
        meter.update(progress["records"], progress["bytes"])

    async with _open_input(args.file) as read:
        records = _iter_records(read, errors.add, progress)
        async with open_backend(args, create=not args.dry_run) as backend:
            with meter.shown():
                if args.dry_run:
                    text = await _count_import(backend, records, errors.add)
                else:
                    new = await backend.put_records(records, on_refused=errors.add, on_written=on_written)
                    text = f"imported {new:,} new records, {progress['records'] - new:,} were there already"
    make_console(stderr=True).print(text)
    return errors.show()


async def _iter_records(
    read: Callable[[], Awaitable[list[bytes]]],
    refuse: Callable[[InvalidRecordError], None],
    progress: dict[str, int],
) -> AsyncIterator[Any]:
    """Yield the records of JSON lines; lines that are no JSON are refused by their number."""
    number = 0
    while lines := await read():
        for index, (record, error) in enumerate(await asyncio.to_thread(_parse_lines, lines), number + 1):
            if error is not None:
                refuse(InvalidRecordError(f"line {index} is not a JSON record: {error}"))
            elif record is not None:
                yield record
        number += len(lines)
        progress["bytes"] += sum(map(len, lines))


def _parse_lines(lines: Sequence[bytes]) -> list[tuple[Any, str | None]]:
    parsed: list[tuple[Any, str | None]] = []
    for line in lines:
        try:
            parsed.append((json.loads(line), None) if line.strip() else (None, None))
        except (ValueError, RecursionError) as error:
            parsed.append((None, one_line(error)))
    return parsed


async def _count_import(
    backend: RedunBackendDb,
    records: AsyncIterator[Any],
    refuse: Callable[[InvalidRecordError], None],
) -> str:
    from aredun.transfer.records.write import count_records

    new, known = await count_records(backend.database, records, refuse, backend.value_store)
    return f"would import {describe_counts(new)}; {known:,} are there already"


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
        if not self._count:
            return 0
        for message in self._shown:
            sys.stderr.write(f"aredun: {self._title}: {message}\n")
        if self._count > len(self._shown):
            sys.stderr.write(f"aredun: {self._title}: {self._count - len(self._shown):,} more records\n")
        return EXIT_REFUSED


def describe_counts(counts: Counter[str] | dict[str, int]) -> str:
    """Return numbers of records by type as a text."""
    total = sum(counts.values())
    parts = ", ".join(f"{number:,} {kind}" for kind, number in sorted(counts.items()) if number)
    return f"{total:,} records ({parts})" if parts else "0 records"


async def find_repository(args: argparse.Namespace, text: str) -> BackendConfig:
    """Return the settings of a repository: a name from redun.ini, a URI, a directory, or a sqlite file.

    Raises
    ------
    UsageError
        It is none of these.
    """
    from aredun.config import BackendConfig, load_config, make_file_uri

    ini = await asyncio.to_thread(get_ini, args)
    names = {"default", *ini.subsections("repos")}
    if text in names:
        return await asyncio.to_thread(lambda: ini.repository(text).backend())
    if re.match(r"[a-z][a-z0-9+]*:/", text) and not await asyncio.to_thread(Path(text).exists):
        # The value store of a repository that is only named by its URI cannot be known.
        return BackendConfig.parse({}, text)

    def look() -> BackendConfig | None:
        path = Path(text)
        for folder in (path, path / ".redun"):
            if (folder / "redun.ini").is_file():
                return load_config(folder, required=True).backend()
        if path.is_dir():
            path = path / "redun.db" if (path / "redun.db").exists() else path / ".redun" / "redun.db"
        if path.exists() or path.suffix in (".db", ".sqlite"):
            return BackendConfig.parse({}, make_file_uri(path.absolute()))
        return None

    config = await asyncio.to_thread(look)
    if config is None:
        raise UsageError(
            f"unknown repository {text!r}: give one of {', '.join(sorted(names))}, a database URI,"
            " a configuration directory or a sqlite file"
        )
    return config


async def run_sync(args: argparse.Namespace, console: Console) -> int:
    """Copy records between repositories."""
    from aredun.sync import sync_records

    source = apply_read_only(args, await find_repository(args, args.source))
    destination = await find_repository(args, args.destination)
    meter = _Meter("sync", args)

    def on_progress(report: SyncReport) -> None:
        left = report.seconds_left
        meter.update(report.done, report.bytes, done=report.roots_done, total=report.roots, left=left)

    creates = not args.dry_run
    async with (
        open_repository(source, create=False, migrate=False) as src,
        open_repository(destination, create=creates, migrate=None if creates else False) as dst,
    ):
        ids = await resolve_ids(src, args.ids) if args.ids else None
        with meter.shown():
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
    from aredun.transfer.verify import VerifyReport, verify_repository

    if args.repair:
        refuse_read_only(args)
    meter = _Meter("verify", args)

    def on_progress(report: VerifyReport) -> None:
        meter.update(sum(report.checked.values()))

    async with open_backend(args) as backend:
        with meter.shown():
            report = await verify_repository(
                backend.database, backend.value_store, repair=args.repair, on_progress=on_progress
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
