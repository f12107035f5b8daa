"""Train a model on files with numpy: split, fit for several settings at once, keep the scores as tags.

Run it with `python examples/ml_pipeline.py`: it works in the folder `ml/` and trains twice. The second time
another setting is added, and only that one is fitted. Then the records tell which model was best, and what
it came from.
"""

from __future__ import annotations

import asyncio
import csv
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aredun import CallGraphQuery, File, RedunBackendDb, Scheduler, task, walk_dataflow
from aredun.dataflow import CallNodeRef
from aredun.query import infer_id
from aredun.workflow.operators import apply_tags

if TYPE_CHECKING:
    from collections.abc import Sequence

redun_namespace = "ml"

Table = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Model:
    """A polynomial: its weights, and what it was fitted with."""

    degree: int
    weights: Table


@task()
def make_data(path: str, rows: int, seed: int) -> File:
    """Stand for the measurements: a cubic curve with noise, as a file."""
    random = np.random.default_rng(seed)
    x = random.uniform(-2, 2, rows)
    y = x**3 - x + random.normal(0, 0.3, rows)
    file = File(path)
    with file.open("w") as stream:
        csv.writer(stream).writerows(zip(x.tolist(), y.tolist(), strict=True))
    return file


@task(nout=2)
def split(data: File) -> tuple[Table, Table]:
    """Read the file; every fourth row is for the test."""
    with data.open() as stream:
        table = np.array([[float(cell) for cell in row] for row in csv.reader(stream)])
    is_test = np.arange(len(table)) % 4 == 0
    return table[~is_test], table[is_test]


@task()
def fit(training: Table, degree: int) -> Model:
    """Fit the weights by least squares."""
    powers = np.vander(training[:, 0], degree + 1)
    weights, *_ = np.linalg.lstsq(powers, training[:, 1], rcond=None)
    return Model(degree, np.asarray(weights, dtype=np.float64))


@task()
def score(model: Model, test: Table) -> Any:
    """Compute the error on rows that the model has not seen; it becomes a tag of the value and of the job."""
    guess = np.vander(test[:, 0], model.degree + 1) @ model.weights
    error = round(float(np.sqrt(np.mean((guess - test[:, 1]) ** 2))), 3)
    tags = [("degree", model.degree), ("rmse", error)]
    return apply_tags(error, tags=tags, job_tags=tags)


@task()
def choose(models: Sequence[Model], errors: Sequence[float]) -> Model:
    """Take the model with the smallest error."""
    return models[int(np.argmin(errors))]


@task()
def train(degrees: list[int], rows: int = 200, seed: int = 7) -> Any:
    """Fit and score a model for each degree, all at once."""
    training, test = split(make_data("ml/data.csv", rows, seed))
    models = [fit(training, degree) for degree in degrees]
    return choose(models, [score(model, test) for model in models])


async def read_scores(backend: RedunBackendDb) -> list[tuple[float, int]]:
    """Return the error and the degree of every model that was ever scored here, the best first."""
    query = CallGraphQuery(backend).filter_types(["Job"]).filter_task_names(["ml.score"])
    tags = await backend.get_tags([job.id async for job in query.all()])
    return sorted({(each["rmse"][0], each["degree"][0]) for each in tags.values()})


async def main() -> None:
    """Train twice, and ask the records."""
    await asyncio.to_thread(os.makedirs, "ml", exist_ok=True)
    async with RedunBackendDb("sqlite:///ml/models.db") as backend:
        for degrees in ([1, 2, 3], [1, 2, 3, 8]):
            async with Scheduler(backend) as scheduler:
                best: Model = await scheduler.run(train(degrees))
                fits = scheduler.get_status_counts()["ml.fit"]
            shown = ", ".join(f"{count} {status.lower()}" for status, count in fits.items() if count)
            print(f"degrees {degrees}: degree {best.degree} is best; fits: {shown}")
        for error, degree in await read_scores(backend):
            print(f"degree {degree}: {error}")
        value = await infer_id(backend, await backend.record_value(best), required=True)
        nodes = [edge.dest async for edge in walk_dataflow(backend, value)]
        print(
            "it came through",
            ", ".join(sorted({node.task.fullname for node in nodes if isinstance(node, CallNodeRef)})),
        )


if __name__ == "__main__":
    asyncio.run(main())
