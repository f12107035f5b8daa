"""`make demo`: computed, cached, partly computed, traced; and the real redun reads the repository."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import run_redun

DEMO = Path(__file__).parent.parent / "examples" / "variants"


Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demo as it is in a fresh clone."""
    folder = tmp_path_factory.mktemp("demo") / "variants"
    shutil.copytree(DEMO, folder, ignore=shutil.ignore_patterns("run", "__pycache__"))
    return folder


@pytest.fixture(scope="module")
def outputs(folder: Path) -> list[Done]:
    """What the demo prints when it is run twice in a row."""
    done = []
    for _ in range(2):
        done.append(
            subprocess.run(
                [sys.executable, "demo.py"],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=110,
                check=False,
            )
        )
    return done


def count_jobs(lines: str, status: str) -> dict[str, int]:
    """Count the lines that tell of jobs, by task."""
    counts: dict[str, int] = {}
    for line in lines.splitlines():
        if line.startswith(status):
            name = line.split()[-1]
            counts[name] = counts.get(name, 0) + 1
    return counts


ALL = {
    "variants.main": 1,
    "variants.align_reads_all": 1,
    "variants.align_reads": 4,
    "variants.call_variants_all": 1,
    "variants.call_variants": 4,
}


@pytest.mark.parametrize("turn", [0, 1])
def test_three_runs(outputs: list[Done], turn: int) -> None:
    done = outputs[turn]
    assert done.returncode == 0, done.stderr
    assert count_jobs(done.stderr, "FAILED") == {}
    # All once; then, for the changed sample, one job of each task.
    assert count_jobs(done.stderr, "RUNNING") == {name: number + 1 for name, number in ALL.items()}
    cached = count_jobs(done.stderr, "CACHED")
    assert cached["variants.main"] == 1
    assert cached["variants.align_reads"] == cached["variants.call_variants"] == 4 + 3
    assert done.stdout.count("File(path=sample4.vcf") >= 3


@pytest.mark.parametrize("turn", [0, 1])
def test_dataflow_has_the_form_of_the_reference(outputs: list[Done], turn: int) -> None:
    text = outputs[turn].stdout
    assert "value = File(path=sample4.vcf, hash=" in text
    for line in (
        "> call_variants(bam, ref_genome)",
        "bam <-- argument of <",
        "> call_variants_all(bams, ref_genome)",
        "> align_reads_all(fastqs, ref_genome)",
        "> align_reads(fastq, ref_genome_2)",
        "File(path=sample4.fastq, hash=",
        "<-- origin",
    ):
        assert line in text


def test_real_redun_reads_the_repository(folder: Path, outputs: list[Done]) -> None:
    assert [done.returncode for done in outputs] == [0, 0]
    listing = run_redun("log", "--no-pager", cwd=folder / "run").stdout
    assert listing.count("[ DONE ]") == 3
    file_log = run_redun("log", "--no-pager", "sample4.vcf", cwd=folder / "run").stdout
    assert "variants.call_variants" in file_log
    assert "result = File(path=sample4.vcf" in file_log


def test_the_end_says_how_to_serve_the_repository(folder: Path, outputs: list[Done]) -> None:
    *_, command, then = outputs[0].stdout.splitlines()
    assert command.startswith("$ ")
    assert then == "then open http://127.0.0.1:8080"
    arguments = shlex.split(command[2:])
    assert arguments.pop() == "serve"
    # The same repository, from where the demo was started.
    done = subprocess.run([*arguments, "log"], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.count("variants.main") + done.stdout.count("workflow.py main") >= 3
