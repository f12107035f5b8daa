"""Why a job ran again, and two executions side by side: over HTTP and in a real browser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import expect

from aredun import Scheduler, task
from aredun.server.differences import diff_texts
from tests.support.browser import DESKTOP, PHONE, view
from tests.support.server import serve

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from aredun.backend import RedunBackendDb

pytestmark = pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)


async def run_versions(scheduler: Scheduler) -> None:
    """Run a workflow twice: an argument and a source have changed, one call has not."""
    for factor, unit in ((2, "cm"), (3, "inch")):

        @task(name="scale", namespace="again", version=str(factor))
        def scale(x: int, by: int = factor) -> int:
            return x * by

        @task(name="show", namespace="again")
        def show(x: int, unit: str) -> str:
            return f"{x} {unit}"

        @task(name="keep", namespace="again")
        def keep(x: int) -> int:
            return x

        @task(name=f"add_{factor}", namespace="again")
        def add(x: int) -> int:
            return x

        @task(name="main", namespace="again")
        def main(unit: str, number: int = factor) -> list[Any]:
            return [show(scale(7), unit), keep(1), add(1), add(number)]

        await scheduler.run(main(unit))


async def test_why_over_http(backend: RedunBackendDb, scheduler: Scheduler) -> None:
    """The answer names the argument with its diff, the version, and the cause of a first call."""
    await run_versions(scheduler)
    async with serve(backend) as served:
        jobs = (await served.get("/api/executions/-/jobs"))["items"]
        show = next(job for job in jobs if job["task"] == "again.show")
        why = await served.get(f"/api/jobs/{show['id']}/why")
        assert why["cause"] == "changed"
        changed = {each["name"]: each["pieces"] for each in why["change"]["arguments"]}
        assert {"kind": "removed", "text": "cm"} in changed["unit"]
        assert {"kind": "added", "text": "inch"} in changed["unit"]
        scale = next(job for job in jobs if job["task"] == "again.scale")
        task_change = (await served.get(f"/api/jobs/{scale['id']}/why"))["change"]["task"]
        assert (task_change["before_version"], task_change["after_version"]) == ("2", "3")
        old = (await served.get("/api/executions/~2/jobs"))["items"]
        first = next(job for job in old if job["task"] == "again.show")
        assert (await served.get(f"/api/jobs/{first['id']}/why"))["cause"] == "first"
        # What differs from the call beside it made nothing run.
        added = [job for job in jobs if job["task"] == "again.add_3"]
        whys = [await served.get(f"/api/jobs/{job['id']}/why") for job in added]
        assert [why["cause"] for why in whys] == ["first", "first"]
        [change] = [why["change"] for why in whys if why["change"] is not None]
        assert [each["name"] for each in change["arguments"]] == ["x"]
        both = await served.get("/api/executions/~2/compare/-")
        keep = next(each for each in both["tasks"] if each["task"] == "again.keep")
        assert (keep["before"]["counts"], keep["after"]["counts"]) == ({"DONE": 1}, {"CACHED": 1})
        assert keep["same"] == 1
        assert keep["after"]["seconds"] == 0
        answer = await served.http.get("/api/executions/-/compare/nosuch")
        assert answer.status_code == 404


def test_texts_are_compared_word_by_word(dialect: str) -> None:
    """Short texts are told apart by words, long ones from where they differ."""
    assert [(piece.kind, piece.text) for piece in diff_texts("[1, 2, 3]", "[1, 5, 3]")] == [
        ("same", "[1, "),
        ("removed", "2"),
        ("added", "5"),
        ("same", ", 3]"),
    ]
    long = " ".join(map(str, range(1_000)))
    assert [piece.kind for piece in diff_texts(long + " a", long + " b")] == ["same", "removed", "added"]


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["1440", "390"])
async def test_from_the_list_to_what_changed(
    browser: Browser, backend: RedunBackendDb, scheduler: Scheduler, size: dict[str, int]
) -> None:
    """Two executions are picked and compared; a job tells why it ran; the address lasts."""
    await run_versions(scheduler)
    async with view(browser, backend, "executions", size) as watched:
        page = watched.page
        picks = page.get_by_role("checkbox", name="Compare again.main")
        await picks.first.check()
        await expect(page.locator(".compare-bar")).to_contain_text("Choose another")
        await picks.nth(1).check()
        await page.get_by_role("link", name="Compare these two").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Two executions side by side")
        before, after = page.get_by_label("Before", exact=True), page.get_by_label("After", exact=True)
        await expect(before).to_contain_text("6 done")
        await expect(after).to_contain_text("1 cached")
        row = page.get_by_role("row").filter(has_text="again.keep")
        await expect(row.get_by_role("cell").nth(4)).to_have_text("1")
        await expect(page.locator(".diff ins").filter(has_text="inch").first).to_be_visible()
        await expect(page.locator(".changes").filter(has_text="version of the task").first).to_be_visible()
        await watched.shoot(f"compare-{size['width']}")
        assert re.search(r"#/compare/[0-9a-f-]{36}/[0-9a-f-]{36}$", page.url)
        await watched.go("execution/-")
        await page.locator(".job-row").filter(has_text="show(").click()
        why = page.get_by_role("region", name="Why did it run?")
        await expect(why).to_contain_text("Argument unit changed")
        await expect(why.locator("del").filter(has_text="cm")).to_be_visible()
        await watched.shoot(f"why-{size['width']}")
        await watched.go("execution/-")
        await page.locator(".job-row").filter(has_text="add_3(3)").click()
        await expect(why).to_contain_text(
            "It ran for the first time: no execution before has called its task."
        )
        await expect(why).to_contain_text("Argument x differs")
        await expect(why).not_to_contain_text("changed")
        await why.get_by_role("link", name="the call before it that is most like it").click()
        panel = page.get_by_role("complementary", name="Details")
        await expect(panel.get_by_role("heading", level=2)).to_have_text("again.add_3")
        await expect(why).not_to_contain_text("differs")
