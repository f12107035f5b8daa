"""Run the workflow three times and trace one of its results; `make demo` calls this.

First everything is computed; then everything comes from the cache; then, after one sample has changed, only
what depends on it is computed again. The dataflow of one result tells what it was made from.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from rich.console import Console

from aredun import File
from aredun.cli import main as aredun

STARTED_IN = Path.cwd()
HERE = Path(__file__).resolve().parent
RUN_FOLDER = HERE / "run"
SAMPLES = ("sample1.fastq", "sample2.fastq", "sample3.fastq", "sample4.fastq")
GENOME = "genome.fasta"
RESULT = "sample4.vcf"
RUN = ("run", "../workflow.py", "main", "--fastqs", *SAMPLES, "--ref-genome", GENOME)
LINES_PER_READ = 4

console = Console()


def main() -> None:
    """Run the demo in a fresh folder; a command that fails ends it with that command's exit code."""
    prepare_folder()
    show("First run: everything is computed", *RUN)
    show("Second run: everything comes from the cache", *RUN)
    drop_last_read(SAMPLES[-1])
    show("Third run, one sample edited: what depends on it is computed", *RUN)
    show(f"Where {RESULT} comes from", "dataflow", RESULT)
    console.rule("The same in the browser")
    console.print(f"$ {get_serve_command()}", style="bold", highlight=False, soft_wrap=True)
    console.print("then open http://127.0.0.1:8080", highlight=False)


def show(title: str, *command: str) -> None:
    """Run one command of `aredun`, as if it were typed."""
    console.rule(title)
    console.print(f"$ aredun {' '.join(command)}", style="bold", highlight=False, soft_wrap=True)
    if RESULT in command:
        console.print(f"value = {File(RESULT)!r}\n", highlight=False)
    code = aredun(command)
    if code:
        sys.exit(code)


def get_serve_command() -> str:
    """Return the command that serves the demo's repository, as it is typed where the demo was started."""
    command = os.path.relpath(Path(sys.executable).parent / "aredun", STARTED_IN)
    return f"{command} --config {os.path.relpath(RUN_FOLDER / '.redun', STARTED_IN)} serve"


def prepare_folder() -> None:
    """Start from nothing: a folder with copies of the samples and the genome, and no repository."""
    shutil.rmtree(RUN_FOLDER, ignore_errors=True)
    RUN_FOLDER.mkdir()
    for name in (*SAMPLES, GENOME):
        shutil.copyfile(HERE / "data" / name, RUN_FOLDER / name)
    os.chdir(RUN_FOLDER)
    # The demo's repository is the one in its folder, whatever the environment says.
    os.environ["REDUN_CONFIG"] = str(RUN_FOLDER / ".redun")


def drop_last_read(name: str) -> None:
    """Edit a sample."""
    path = RUN_FOLDER / name
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:-LINES_PER_READ]), encoding="utf-8")


if __name__ == "__main__":
    main()
