"""Random call graphs as records: whatever a repository may hold, made without running any workflow."""

from __future__ import annotations

import pickle
from binascii import b2a_base64
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, uuid5

from aredun.formats.hashing import (
    hash_argument,
    hash_call_node,
    hash_struct,
    hash_tag,
    hash_tag_bytes,
    hash_text,
)

if TYPE_CHECKING:
    from random import Random

Record = dict[str, Any]

ERROR = "redun.ErrorValue"
START = datetime(2026, 1, 1, tzinfo=UTC)

# Graphs share values, but neither tasks nor jobs, whatever the source of randomness.
_numbers = count()


class RecordGraph:
    """
    Makes records that refer to each other, each with the hash that follows from it.

    Attributes
    ----------
    records : dict
        The records by id, what is owned before what owns it.
    """

    def __init__(self, random: Random) -> None:
        self.records: dict[str, Record] = {}
        self._random = random
        self._moment = START

    def make(self) -> list[Record]:
        """Make everything, and return the records."""
        random = self._random
        for _ in range(random.randint(1, 8)):
            self._add_value()
        tasks = [self._add_task() for _ in range(random.randint(1, 3))]
        calls: list[Record] = []
        for _ in range(random.randint(0, 14)):
            call = self._make_call(random.choice(tasks), calls)
            if call["call_hash"] not in self.records:
                calls.append(self._add(call["call_hash"], call))
        for _ in range(random.randint(1, 4)):
            self._add_execution(tasks, calls)
        self._add_tags()
        return list(self.records.values())

    def _add(self, record_id: str, record: Record) -> Record:
        return self.records.setdefault(record_id, {"_version": 1, **record})

    def _now(self) -> str:
        # Sometimes at the same moment as what was made before.
        self._moment += timedelta(microseconds=self._random.choice([0, 1, 1_500_000]))
        return str(self._moment)

    def _make_id(self) -> str:
        return str(uuid5(NAMESPACE_OID, str(next(_numbers))))

    def _pick(self, items: list[Any], most: int) -> list[Any]:
        return [self._random.choice(items) for _ in range(self._random.randint(0, most))] if items else []

    def _get_values(self) -> list[str]:
        return [key for key, record in self.records.items() if record["_type"] == "Value"]

    def _add_value(self, kind: str | None = None) -> str:
        random = self._random
        content: Any = random.choice([random.randint(0, 50), f"text\0 {random.random()}", b"x" * 70_000])
        kind = kind or random.choice(["plain", "plain", "list", "file", "handle"])
        subvalues, subtype = [], None
        name = "any.Type"
        if kind == "list":
            subvalues = sorted(set(self._pick(self._get_values(), 3)))
            content = [*subvalues, content]
        elif kind == "file":
            content = f"folder/{random.randint(0, 3)}.txt"
            name, subtype = "redun.File", {"_type": "File", "path": content}
        elif kind == "handle":
            name = "redun.Handle"
        elif kind == "error":
            name = ERROR
        data = pickle.dumps((kind, content), 3)
        return self._put_value(hash_tag_bytes("Value", data), name, data, subvalues, subtype)

    def _put_value(
        self, value_hash: str, name: str, data: bytes, subvalues: list[str], subtype: Record | None
    ) -> str:
        record = {
            "_type": "Value",
            "value_hash": value_hash,
            "type": name,
            "format": "application/python-pickle",
            "data": b2a_base64(data, newline=False).decode("ascii"),
            "subvalues": subvalues,
            "subtype": subtype,
        }
        self._add(value_hash, record)
        return value_hash

    def _add_task(self) -> tuple[str, str]:
        name = self._random.choice(["align", "merge", "sort"])
        source = f"def {name}(): return {next(_numbers)}"
        task_hash = hash_struct(["Task", name, source])
        subtype = {"_type": "Task", "name": name, "namespace": "graph", "source": source}
        return f"graph.{name}", self._put_value(task_hash, "redun.Task", pickle.dumps(source, 3), [], subtype)

    def _make_call(self, task: tuple[str, str], calls: list[Record]) -> Record:
        random = self._random
        name, task_hash = task
        known = [call["call_hash"] for call in calls]
        children = self._pick(known, 3)
        values = [key for key in self._get_values() if self.records[key]["type"] != ERROR]
        args = [random.choice(values) for _ in range(random.randint(0, 2))]
        named = {f"key{i}": random.choice(values) for i in range(random.randint(0, 1))}
        args_hash = hash_struct(["TaskArguments", args, named])
        result = self._add_value("error") if random.random() < 0.3 else random.choice(values)
        # What was called without provenance is part of the hash, and of nothing else.
        hidden = [hash_text(f"hidden {random.random()}")] if random.random() < 0.1 else []
        call_hash = hash_call_node(task_hash, args_hash, result, [*children, *hidden])
        places = [*((place, None, value) for place, value in enumerate(args))]
        keys = [(None, key, value) for key, value in named.items()]
        return {
            "_type": "CallNode",
            "call_hash": call_hash,
            "task_name": name,
            "task_hash": task_hash,
            "args_hash": args_hash,
            "value_hash": result,
            "timestamp": self._now(),
            "args": {
                key or str(place): {
                    "arg_hash": hash_argument(call_hash, place, key, value),
                    "value_hash": value,
                    "upstream": sorted(set(self._pick(known, 2))),
                }
                for place, key, value in [*places, *keys]
            },
            "children": children,
        }

    def _add_execution(self, tasks: list[tuple[str, str]], calls: list[Record]) -> None:
        random = self._random
        execution_id = self._make_id()
        jobs: list[Record] = []
        for _ in range(random.randint(1, 6)):
            parent = random.choice(jobs) if jobs else None
            job = self._make_job(execution_id, random.choice(tasks)[1], random.choice([None, *calls]))
            if parent is not None:
                job["parent_id"] = parent["id"]
                parent["children"].append(job["id"])
            jobs.append(self._add(job["id"], job))
        for job in jobs:
            job["children"].sort(key=lambda each: (self.records[each]["start_time"], each))
        args = f'["redun", "run", "{execution_id}"]'
        record = {"_type": "Execution", "id": execution_id, "args": args, "job_id": jobs[0]["id"]}
        self._add(execution_id, record)

    def _make_job(self, execution_id: str, task_hash: str, call: Record | None) -> Record:
        start, end = self._now(), self._now()
        # One that was killed has no end; one that failed before its call has no call.
        is_over = call is not None or self._random.random() < 0.3
        is_cached = is_over and self._random.random() < 0.3
        status = "CACHED" if is_cached else "DONE"
        if call is not None and self.records[call["value_hash"]]["type"] == ERROR:
            status = "FAILED"
        return {
            "_type": "Job",
            "id": self._make_id(),
            "start_time": start,
            "end_time": end if is_over else None,
            "task_hash": call["task_hash"] if call else task_hash,
            "cached": is_cached,
            "status": status if is_over else "RUNNING",
            "call_hash": call["call_hash"] if call else None,
            "parent_id": None,
            "children": [],
            "execution_id": execution_id,
        }

    def _add_tags(self) -> None:
        random = self._random
        entities = [
            (record["_type"] if not (record.get("subtype") or {}).get("name") else "Task", record_id)
            for record_id, record in self.records.items()
        ]
        for kind, entity_id in self._pick(entities, 6):
            parents: list[str] = []
            for _ in range(random.randint(1, 3)):
                value = random.choice(["red", "\u00e9\U0001f600", None, 1.5, {"b": [1], "a": {}}])
                key = random.choice(["colour", "size"])
                tag_hash = hash_tag(entity_id, key, value, sorted(parents))
                record = {
                    "_type": "Tag",
                    "tag_hash": tag_hash,
                    "entity_type": kind,
                    "entity_id": entity_id,
                    "key": key,
                    "value": value,
                    "parents": sorted(parents),
                }
                self._add(tag_hash, record)
                parents = sorted(set(self._pick([*parents, tag_hash], 2)))


def interrupt(records: list[Record], random: Random) -> list[Record]:
    """Return the records as they may have been before some of the jobs had ended."""
    earlier = []
    for record in records:
        if record["_type"] == "Job" and random.random() < 0.5:
            record = {**record, "end_time": None, "cached": False, "call_hash": None, "status": "RUNNING"}
        earlier.append(record)
    return earlier
