"""Searching for parts of names, paths, tags, users and arguments, over HTTP and in a real browser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import expect
from sqlalchemy import update

from aredun import File, task
from aredun.models import Task
from aredun.search import substrings
from tests.support.browser import DESKTOP, PHONE, view
from tests.support.server import serve

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Browser

    from aredun.backend import RedunBackendDb
    from aredun.scheduler import Scheduler


@task(name="call_variants", namespace="genome")
def call_variants(sample: str, folder: str) -> list[File]:
    """Write the variants of a sample."""
    file = File(f"{folder}/{sample}.calls.vcf")
    file.write(sample)
    return [file]


@task(name="main", namespace="genome")
def main(folder: str, samples: list[str]) -> list[Any]:
    """Call the variants of all samples."""
    return [call_variants(sample, folder) for sample in samples]


async def record(scheduler: Scheduler, folder: Path) -> None:
    """Run for two samples, as Ada, with a tag that LIKE and JSON would spell differently."""
    tags = [
        ("user", "Ada Lovelace"),
        ("lab_room", "100%_Zürich"),
        ("staff", ["Ärztin 🧬", {"no": 7}]),
        ("dry", True),
    ]
    await scheduler.run(main(str(folder), ["NA12878", "HG_002"]), tags=tags)


def tell(found: Any) -> list[tuple[str, str, str | None]]:
    """Return the type, the name and the reason of each hit."""
    names = ("fullname", "path", "task")
    return [
        (
            hit["record"]["type"],
            next((hit["record"][name] for name in names if hit["record"].get(name)), ""),
            hit["because"],
        )
        for hit in found["hits"]
    ]


async def test_parts_are_found(backend: RedunBackendDb, scheduler: Scheduler, tmp_path: Path) -> None:
    """Each kind of text is found by its middle, whatever the case; `%` and `_` stand for themselves."""
    await record(scheduler, tmp_path)
    async with serve(backend) as served:

        async def search(text: str) -> list[tuple[str, str, str | None]]:
            found = await served.get("/api/search", params={"text": text})
            assert found["bound"] is None
            return tell(found)

        assert await search("VARIANT") == [("Task", "genome.call_variants", None)]
        assert await search("me.call_v") == [("Task", "genome.call_variants", None)]
        assert ("Value", f"{tmp_path}/NA12878.calls.vcf", None) in await search("8.calls")
        assert await search("lovelace") == [("Execution", "genome.main", "user=Ada Lovelace")]
        assert await search("user=ada") == [("Execution", "genome.main", "user=Ada Lovelace")]
        assert await search("0%_zürich") == [("Execution", "genome.main", "lab_room=100%_Zürich")]
        assert await search("ZÜRICH") == [("Execution", "genome.main", "lab_room=100%_Zürich")]
        staff = 'staff=["Ärztin 🧬", {"no": 7}]'
        for text in ("ärztin", "n 🧬", '{"NO": 7', "staff=["):
            assert await search(text) == [("Execution", "genome.main", staff)]
        assert await search("dry=t") == [("Execution", "genome.main", "dry=true")]
        assert await search("Xrich") == await search("ry=1") == []
        jobs = [hit for hit in await search("a1287") if hit[0] == "Job"]
        assert {name for _, name, _ in jobs} == {"genome.main", "genome.call_variants"}
        assert all(because and "'NA12878'" in because for _, _, because in jobs)
        assert await search("call%variants") == await search("call_v_riants") == []
        assert await search("x") == []


async def test_what_fits_is_told_of_long_texts(
    backend: RedunBackendDb, scheduler: Scheduler, tmp_path: Path
) -> None:
    """Of a long tag the part is told that was sought, wherever it stands."""
    await scheduler.run(main(str(tmp_path), []), tags=[("story", f"{'once ' * 400}upon a TIME{' on' * 400}")])
    async with serve(backend) as served:
        [hit] = (await served.get("/api/search", params={"text": "upon a time"}))["hits"]
        assert re.fullmatch(r"…(ce )?(once )+upon a TIME( on)+( o)?…", hit["because"])
        assert len(hit["because"]) == 200


async def test_deleted_tags_are_not_found(
    backend: RedunBackendDb, scheduler: Scheduler, tmp_path: Path
) -> None:
    """Neither a tag that was deleted, nor the mark of its deletion."""
    await record(scheduler, tmp_path)
    async with serve(backend) as served:
        [hit] = (await served.get("/api/search", params={"text": "lovelace"}))["hits"]
        deleted = await backend.delete_tags(hit["record"]["id"], [("user", "Ada Lovelace")])
        assert deleted
        for text in ("lovelace", "user=", "null"):
            assert (await served.get("/api/search", params={"text": text}))["hits"] == []


async def test_the_bound_is_told(
    backend: RedunBackendDb, scheduler: Scheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where not all jobs are looked at, what was is in the answer; the oldest job's argument is not found."""
    await record(scheduler, tmp_path)
    monkeypatch.setattr(substrings, "MAX_CALLS", 1)
    async with serve(backend) as served:
        found = await served.get("/api/search", params={"text": "g_002"})
        assert found["bound"] == "Parts of texts: searched the arguments of the newest 1 jobs"
        assert [name for kind, name, _ in tell(found) if kind == "Job"] == ["genome.call_variants"]


async def test_jobs_are_filtered_by_parts_of_names(backend: RedunBackendDb, scheduler: Scheduler) -> None:
    """By what a person reads: without a namespace there is no dot, and letters beyond ASCII are found."""

    @task(name="align", namespace="")
    def align() -> list[Any]:
        return [sort()]

    @task(name="sort", namespace="genome")
    def sort() -> int:
        return 1

    await scheduler.run(align())
    async with backend.session() as session:
        # Tasks of other programs may be called so.
        await session.execute(update(Task).where(Task.name == "sort").values(name="Übersicht"))
        await session.commit()
    async with serve(backend) as served:

        async def list_jobs(text: str) -> list[str]:
            page = await served.get("/api/executions/-/jobs", params={"text": text})
            return [job["task"] for job in page["items"]]

        assert await list_jobs("AL") == ["align"]
        assert await list_jobs(".al") == []
        assert await list_jobs("ME.Übersicht") == ["genome.Übersicht"]


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["1440", "390"])
async def test_what_fits_is_marked(
    browser: Browser, backend: RedunBackendDb, scheduler: Scheduler, tmp_path: Path, size: dict[str, int]
) -> None:
    """A path, a tag, an argument, a task and a user are found by a part, which is marked and in sight."""
    await record(scheduler, tmp_path)
    async with view(browser, backend, "executions", size) as watched:
        page = watched.page
        box = page.get_by_role("combobox", name="Find a record")
        options = page.locator("#found [role=option]")
        for kind, text, marked, route in (
            ("File", "8.CALLS.v", "8.calls.v", "value"),
            ("Execution", "0%_zÜ", "0%_Zü", "execution"),
            ("Job", "'na1287", "'NA1287", "job"),
            ("Task", "call_var", "call_var", "task"),
            ("Execution", "ada lo", "Ada Lo", "execution"),
        ):
            await box.fill(text)
            option = options.filter(has_text=kind).first
            await expect(option).to_be_visible()
            await expect(option.locator("mark")).to_have_text(marked)
            # All of it is in sight, before the dots that stand for what follows, however long the text is.
            mark, whole = await option.locator("mark").evaluate(
                "(mark) => [mark, mark.parentElement].map((item) => item.getBoundingClientRect().right)"
            )
            assert mark <= whole - 10
            await watched.shoot(f"search-{text[:3]}-{size['width']}")
            await option.click()
            await expect(page).to_have_url(re.compile(f"#/{route}/"))


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
async def test_search_box_finds_parts(
    browser: Browser,
    backend: RedunBackendDb,
    scheduler: Scheduler,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A person types a user, sees whose run it is and that older jobs were left out, and opens it."""
    await record(scheduler, tmp_path)
    monkeypatch.setattr(substrings, "MAX_CALLS", 1)
    async with view(browser, backend, "executions", DESKTOP) as watched:
        page = watched.page
        box = page.get_by_role("combobox", name="Find a record")
        await box.fill("lovelace")
        options = page.locator("#found [role=option]")
        await expect(options).to_have_count(1)
        await expect(options).to_contain_text("genome.main")
        await expect(options.locator(".because")).to_have_text("user=Ada Lovelace")
        await expect(page.locator("#found .bound")).to_contain_text(
            "searched the arguments of the newest 1 jobs"
        )
        await box.press("Enter")
        await expect(page).to_have_url(re.compile("#/execution/"))
        await box.fill("no such thing")
        await expect(page.locator("#found")).to_contain_text("Nothing")
