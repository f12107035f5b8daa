"""Rows of a repository that has grown with redun since version 1.0, for migrations to carry over."""

from __future__ import annotations

import hashlib
from typing import Any

Rows = dict[str, list[dict[str, Any]]]


def digest(name: str) -> str:
    """Return a hash of the length that redun uses."""
    return hashlib.sha1(name.encode()).hexdigest()


def task_row(name: str, namespace: str = "") -> dict[str, Any]:
    """Return the row of a task."""
    source = f"def {name}():\n    return 1\n"
    return {"hash": digest(f"{namespace}.{name}"), "name": name, "namespace": namespace, "source": source}


def job_row(
    name: str, task: dict[str, Any], parent: str | None, call: str | None, end: str | None
) -> dict[str, Any]:
    """Return the row of a job as version 1.0 has it."""
    return {
        "id": name,
        "start_time": "2021-03-04 05:06:07.891011",
        "end_time": end,
        "task_hash": task["hash"],
        "cached": call is None,
        "call_hash": call,
        "parent_id": parent,
    }


TASKS = [
    task_row("main", "bio.align"),
    task_row("align"),
    task_row("f", "f"),
    task_row("script_task", "redun"),
    task_row("test_help"),
]
WITH_VALUE = TASKS[1]
VALUE = {"format": "application/python-pickle", "value": b"\x80\x03K\x01."}
END = "2021-03-04 06:07:08.910111"


def call_row(call_hash: str, task: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a call."""
    return {
        "call_hash": call_hash,
        "task_name": task["name"],
        "task_hash": task["hash"],
        "args_hash": digest("args"),
        "value_hash": digest("value"),
        "timestamp": "2021-07-04 05:06:07.000001",
    }


def rows_at_1_0() -> Rows:
    """Return tasks with and without values, a tree of jobs under an execution, and root jobs without one."""
    main, align = TASKS[0], TASKS[1]
    calls = [digest("call main"), digest("call align")]
    value = digest("value")
    handle = digest("handle")
    return {
        "task": TASKS,
        "value": [
            {"value_hash": value, "type": "builtins.int", **VALUE},
            {"value_hash": digest("part"), "type": "redun.File", **VALUE},
            {"value_hash": WITH_VALUE["hash"], "type": "redun.Task", **VALUE},
        ],
        "call_node": [call_row(call, task) for call, task in zip(calls, (main, align), strict=True)],
        "file": [{"value_hash": digest("part"), "path": "data/größe.txt"}],
        "subvalue": [{"value_hash": digest("part"), "parent_value_hash": value}],
        "handle": [
            {"hash": name, "fullname": "db", "value_hash": value, "key": "k", "is_valid": name == handle}
            for name in (handle, digest("older handle"))
        ],
        "handle_edge": [{"parent_id": digest("older handle"), "child_id": handle}],
        "argument": [
            {
                "arg_hash": digest(f"arg {position}"),
                "call_hash": calls[0],
                "value_hash": value,
                "arg_position": position,
                "arg_key": None if position == 0 else "key",
            }
            for position in (0, None)
        ],
        "argument_result": [{"arg_hash": digest("arg 0"), "result_call_hash": calls[1]}],
        "call_edge": [{"parent_id": calls[0], "child_id": calls[1], "call_order": order} for order in (0, 1)],
        "call_subtree_task": [{"call_hash": calls[0], "task_hash": task["hash"]} for task in (main, align)],
        "job": [
            job_row("job-root", main, None, calls[0], END),
            job_row("job-child", align, "job-root", calls[1], END),
            job_row("job-grandchild", align, "job-child", calls[1], END),
            job_row("job-cached", align, "job-root", None, None),
            job_row("job-orphan", main, None, None, None),
            job_row("job-orphan-child", align, "job-orphan", calls[1], "2021-12-31 23:59:59"),
            job_row("job-winter", main, None, None, "2022-01-05 00:00:00.5"),
        ],
        "execution": [{"id": "exec-1", "args": '["redun", "run"]', "job_id": "job-root"}],
    }


def rows_since(version: str) -> Rows:
    """Return the rows that a repository gets once it has the tables of `version`."""
    if version == "2.0":
        hashes = {"task_hash": WITH_VALUE["hash"], "args_hash": digest("args"), "value_hash": digest("value")}
        return {"evaluation": [{"eval_hash": digest("eval"), **hashes}]}
    if version == "2.3":
        return {
            "job": [{**job_row("job-later", WITH_VALUE, "job-root", None, END), "execution_id": "exec-1"}]
        }
    if version == "3.1":
        entity = {"entity_type": "Execution", "entity_id": "exec-1", "key": "env"}
        return {
            "tag": [
                {"tag_hash": digest("tag 1"), **entity, "value": '"dev"', "is_current": False},
                {"tag_hash": digest("tag 2"), **entity, "value": '{"a":[1,null]}', "is_current": True},
            ],
            "tag_edit": [{"parent_id": digest("tag 1"), "child_id": digest("tag 2")}],
        }
    if version == "3.5":
        return {
            "tag": [
                {
                    "tag_hash": digest("tag 3"),
                    "entity_type": "Null",
                    "entity_id": "",
                    "key": "",
                    "value": "null",
                    "is_current": True,
                }
            ]
        }
    return {}
