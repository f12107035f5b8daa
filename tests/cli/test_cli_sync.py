"""The commands export, import, sync and verify, beside redun's own."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aredun.backend import RedunBackendDb
from aredun.cli import main
from tests.support.record_shapes import by_id, dispose, get_all, open_original

if TYPE_CHECKING:
    from collections.abc import Sequence

BIN = Path(sys.executable).parent
Record = dict[str, Any]


@pytest.fixture(scope="module")
def shapes_dir(shapes_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration directory of a repository that real redun made."""
    folder = tmp_path_factory.mktemp("shapes")
    shutil.copyfile(shapes_path, folder / "redun.db")
    (folder / "redun.ini").write_text(f"[backend]\ndb_uri = sqlite:///{folder}/redun.db\n")
    return folder


def run(*arguments: str, data: bytes | None = None, program: Sequence[str] = ("aredun",)) -> Any:
    """Run a command as a process of its own."""
    command = [str(BIN / program[0]), *program[1:], *arguments]
    return subprocess.run(command, input=data, capture_output=True, check=False, timeout=100)


def make_config(folder: Path, **sections: str) -> Path:
    folder.mkdir(exist_ok=True)
    text = f"[backend]\ndb_uri = sqlite:///{folder}/redun.db\n" + "".join(sections.values())
    (folder / "redun.ini").write_text(text)
    return folder


def read(folder: Path) -> dict[str, Record]:
    original = open_original(f"sqlite:///{folder}/redun.db")
    records = by_id(get_all(original))
    dispose(original)
    return without_children(records)


def without_children(records: dict[str, Record]) -> dict[str, Record]:
    """Return the records without what redun tells only as far as it is in one batch."""
    for record in records.values():
        record.pop("children", None)
    return records


def test_redun_export_to_aredun_import(shapes_dir: Path, tmp_path: Path) -> None:
    config = make_config(tmp_path / "config")
    exported = run("--config", str(shapes_dir), "export", program=["redun"])
    assert exported.returncode == 0, exported.stderr
    imported = run("--config", str(config), "import", data=exported.stdout)
    assert (imported.returncode, imported.stdout) == (0, b"")
    count = len(exported.stdout.splitlines())
    assert f"imported {count} new records" in imported.stderr.decode()
    assert read(config) == read(shapes_dir)


def test_aredun_export_to_redun_import(
    shapes_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(tmp_path / "config")
    new_db(config)
    exported = run("export", "--config", str(shapes_dir))
    assert (exported.returncode, exported.stderr) == (0, b"")
    imported = run("--config", str(config), "import", program=["redun"], data=exported.stdout)
    assert imported.returncode == 0, imported.stderr
    assert read(config) == read(shapes_dir)
    # What redun's own import loses.
    assert main(["verify", "--config", str(config)]) == 1
    assert "empty subtree" in capsys.readouterr().out
    assert main(["verify", "--repair", "--config", str(config)]) == 0
    assert main(["verify", "--config", str(config)]) == 0


def test_export_of_ids_and_to_files(
    shapes_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(shapes_dir / "redun.db") as database:
        (execution,) = database.execute("SELECT id FROM execution").fetchone()
    path = tmp_path / "records.jsonl"
    assert main(["export", execution[:10], "--file", str(path), "--config", str(shapes_dir)]) == 0
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["id"] for record in records if record["_type"] == "Execution"] == [execution]
    config = make_config(tmp_path / "config")
    new_db(config)
    assert main(["import", "--file", str(path), "--dry-run", "--config", str(config)]) == 0
    assert f"would import {len(records)} records" in capsys.readouterr().err
    assert main(["import", "--file", str(path), "--config", str(config)]) == 0
    assert len(read(config)) == len(records)
    assert main(["export", "--dry-run", "--config", str(config)]) == 0
    assert f"would export {len(records)} records" in capsys.readouterr().out
    assert main(["export", "nonsense", "--config", str(config)]) == 2
    assert "no record has an id that begins with 'nonsense'" in capsys.readouterr().err


def new_db(folder: Path) -> None:
    """Make an empty database, which neither a dry run nor redun's import does."""

    async def load() -> None:
        async with RedunBackendDb(f"sqlite:///{folder}/redun.db"):
            pass

    asyncio.run(load())


def test_import_names_what_it_refuses(
    shapes_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "records.jsonl"
    main(["export", "--file", str(path), "--config", str(shapes_dir)])
    records = [json.loads(line) for line in path.read_text().splitlines()]
    # One that no other tag was made from: what depends on a refused record is refused with it.
    parents = {parent for record in records if record["_type"] == "Tag" for parent in record["parents"]}
    forged = next(r for r in records if r["_type"] == "Tag" and r["tag_hash"] not in parents)
    forged["value"] = "forged"
    lines = [json.dumps(record) for record in records]
    path.write_text("\n".join([*lines, "{not json", ""]))
    config = make_config(tmp_path / "config")
    assert main(["import", "--file", str(path), "--config", str(config)]) == 2
    captured = capsys.readouterr()
    assert f"refused: Tag {forged['tag_hash']} is not what its hash says" in captured.err
    assert f"refused: line {len(lines) + 1} is not a JSON record" in captured.err
    assert f"imported {len(lines) - 1} new records" in captured.err


@pytest.mark.parametrize("form", ["name", "uri", "directory", "file"])
def test_sync(shapes_dir: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    other = make_config(tmp_path / "other")
    config = make_config(
        tmp_path / "config",
        source=f"[repos.shapes]\nconfig_dir = {shapes_dir}\n",
        other=f"[repos.other]\nconfig_dir = {other}\n",
    )
    names = {
        "name": ("shapes", "other"),
        "uri": (f"sqlite:///{shapes_dir}/redun.db", f"sqlite:///{other}/redun.db"),
        "directory": (str(shapes_dir), str(other)),
        "file": (str(shapes_dir / "redun.db"), str(other / "redun.db")),
    }[form]
    new_db(other)
    assert main(["sync", *names, "--dry-run", "--config", str(config)]) == 0
    would = capsys.readouterr().out
    assert main(["sync", *names, "--config", str(config)]) == 0
    did = capsys.readouterr().out
    assert would.split("(")[1].split(")")[0] == did.split("(")[1].split(")")[0]
    assert read(other) == read(shapes_dir)
    assert main(["sync", *names, "--config", str(config)]) == 0
    assert "copied 0 records" in capsys.readouterr().out


def test_sync_refuses(shapes_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ["--config", str(shapes_dir)]
    assert main(["sync", "default", "nowhere", *config]) == 2
    assert "unknown repository 'nowhere': give one of default" in capsys.readouterr().err
    assert main(["sync", "default", str(shapes_dir), *config]) == 2
    assert "source and destination are the same" in capsys.readouterr().err
    assert main(["sync", str(tmp_path / "new.db"), "default", *config]) == 2
    assert "no database at" in capsys.readouterr().err
    assert not (tmp_path / "new.db").exists()


def test_closed_pipe(shapes_dir: Path) -> None:
    command = f"{BIN}/aredun export --config {shapes_dir} | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False, timeout=100)
    assert json.loads(done.stdout)["_type"] == "Execution"
    assert done.stderr == b""


def start(
    *arguments: str, stdin: int | None = None, program: Sequence[str] = (str(BIN / "aredun"),)
) -> subprocess.Popen[bytes]:
    """Start a command, to be stopped by a signal."""
    return subprocess.Popen(
        [*program, *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell that runs the tests in the background hands on that SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_ctrl_c_of_an_import(shapes_dir: Path, tmp_path: Path) -> None:
    """Nobody waits for lines that may never come."""
    config = make_config(tmp_path / "config")
    path = tmp_path / "records.jsonl"
    assert main(["export", "--file", str(path), "--config", str(shapes_dir)]) == 0
    process = start("import", "--config", str(config), stdin=subprocess.PIPE)
    assert process.stdin is not None
    # More than a pipe holds: when all is written, the command is reading.
    process.stdin.write(b"\n" * 500_000 + path.read_bytes())
    process.stdin.flush()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert process.stderr is not None
    assert process.stderr.read() == b"aredun: interrupted\n"
    process.communicate()
    assert main(["verify", "--config", str(config)]) == 0
    assert main(["import", "--file", str(path), "--config", str(config)]) == 0
    assert read(config) == read(shapes_dir)


# `aredun`, which gets its Ctrl-C in the middle of what it writes: a signal that the test sends may come when
# all is done, on a machine that has other work.
INTERRUPTED = """
import os, signal, sys
import sqlalchemy.event, sqlalchemy.engine
from aredun.cli import main

seen = []

@sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "commit")
def interrupt(connection):
    seen.append(connection)
    if len(seen) == 40:
        os.kill(os.getpid(), signal.SIGINT)

sys.exit(main(sys.argv[1:]))
"""


def test_ctrl_c_of_a_sync(
    shapes_dir: Path, database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends where it is, with no execution half-written, and the next one goes on from there."""
    source = f"sqlite:///{shapes_dir}/redun.db"
    process = start(
        "sync", source, database_url, "--batch-size", "1", program=[sys.executable, "-c", INTERRUPTED]
    )
    _, errors = process.communicate(timeout=100)
    assert (process.returncode, errors) == (130, b"aredun: interrupted\n")
    assert main(["sync", source, database_url]) == 0
    again = capsys.readouterr().out
    copied, total = re.findall(r"copied (\d+) records .* of (\d+)", again)[0]
    assert 0 < int(copied) < int(total)
    path = tmp_path / "records.jsonl"
    assert main(["export", "--file", str(path), "--db", database_url]) == 0
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert without_children(by_id(records)) == read(shapes_dir)


def test_closed_streams(shapes_dir: Path, tmp_path: Path) -> None:
    """Standard streams that the caller has closed are as good as empty ones."""
    new_db(make_config(tmp_path / "config"))
    for arguments in ("import <&-", "verify <&- >&- 2>&-"):
        command = f"{BIN}/aredun {arguments} --config {tmp_path}/config"
        done = subprocess.run(["bash", "-c", command], capture_output=True, check=False, timeout=100)
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr
