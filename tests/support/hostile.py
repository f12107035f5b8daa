"""A repository full of what nobody should run, and of texts that nobody should trust."""

from __future__ import annotations

import json
import os
import pickle
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from redun.backends import db as redun_db

from tests.support.dataflow import EPOCH, Graph, make_hash

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = "<script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">"
ANSI = "\x1b[31mred\x1b[0m\x07"
TEXTS = [
    SCRIPT,
    ANSI,
    "javascript:document.title='pwned'",
    "‮gnp.exe",
    "'; DROP TABLE job; --",
    "../../etc/passwd",
]
LARGE = "x" * 10_000_000


class Bomb:
    """Unpickles to the result of running a command that leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        """Have the unpickler run a command."""
        return os.system, (f"touch {self.mark}",)


def make_hostile_repository(original: Any, mark: Path) -> str:
    """Fill a repository through redun's engine; returns the hash of a value that all the rest leads to.

    Parameters
    ----------
    original : RedunBackendDb
        redun's backend.
    mark : Path
        A file that exists once anything stored was run.
    """
    graph = Graph()
    values = [graph.add_value(text) for text in (*TEXTS, "nul\0byte \ud800")]
    values.append(graph.add_value(LARGE))
    pickles = [pickle.dumps(Bomb(mark)), b"\x80\x04not a pickle", b"", pickle.dumps([Bomb(mark)] * 3)]
    for number, data in enumerate(pickles):
        graph.values.append(
            {
                "value_hash": make_hash(f"hostile {number}"),
                "type": SCRIPT if number else "builtins.list",
                "format": "application/python-pickle",
                "value": data,
            }
        )
        values.append(graph.values[-1]["value_hash"])
    result = graph.add_value("result")
    calls = []
    is_file = original.engine.dialect.name == "sqlite"
    # PostgreSQL takes no NUL in a text.
    names = [*TEXTS, "nul\0byte"] if is_file else TEXTS
    for number, text in enumerate(names):
        task = graph.add_task(text, namespace=ANSI, source=SCRIPT if number else LARGE[:2_000_000])
        calls.append(graph.add_call(f"call {number}", task, values[number], number))
        for position, value in enumerate(values):
            graph.add_argument(calls[-1], value, None, f"{position}{text}"[:100])
    last = graph.add_call("last", graph.add_task("collect"), result, 99)
    for position, call in enumerate(calls):
        graph.add_argument(last, values[position], position, None, [call])
    graph.insert(original)
    _insert_rows(original, values, last, is_file)
    return result


def _insert_rows(original: Any, values: list[str], call_hash: str, is_file: bool) -> None:
    job_id = "hostile-job"
    execution = {"id": "hostile-run", "args": json.dumps([SCRIPT, ANSI, LARGE]), "updated_time": None}
    job = {
        "id": job_id,
        "start_time": EPOCH + timedelta(days=1),
        "end_time": EPOCH + timedelta(days=1, seconds=1),
        "task_hash": make_hash("task .collect"),
        "cached": False,
        "call_hash": call_hash,
        "parent_id": None,
        "execution_id": "hostile-run",
    }
    files = [{"value_hash": value, "path": text} for value, text in zip(values, TEXTS, strict=False)]
    # Nor a lone surrogate in JSON, nor a long value in its index.
    nasty: dict[str, Any] = {"surrogate": "\ud800", "long": list(range(5000))} if is_file else {}
    tags = [
        {
            "tag_hash": make_hash(f"tag {number}"),
            "entity_type": "Execution",
            "entity_id": "hostile-run",
            "key": f"{text}{number}",
            "value": [text, {text: 2**70, **nasty}],
            "is_current": True,
        }
        for number, text in enumerate(TEXTS)
    ]
    with original.engine.begin() as connection:
        if is_file:
            connection.execute(sa.text("PRAGMA defer_foreign_keys = ON"))
        connection.execute(sa.insert(redun_db.Execution.__table__), [{**execution, "job_id": job_id}])
        connection.execute(sa.insert(redun_db.Job.__table__), [job])
        connection.execute(sa.insert(redun_db.File.__table__), files)
        connection.execute(sa.insert(redun_db.Tag.__table__), tags)
