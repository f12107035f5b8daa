"""Run redun's own shipped tests on the bridge: `python -m tests.redun_suite [pytest arguments]`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import redun.tests

CHECKOUT = Path(__file__).parents[2]
TESTS = (
    "test_db",
    "test_dataflow",
    "test_tags",
    "test_serializers",
    "test_db_query",
    "test_handle",
    "test_scheduler",
    "test_repos",
    "test_value_store",
    "test_context",
    "test_functools",
    "test_cli",
    "test_async",
)
# One of redun's tests reads this from the folder that it runs in.
WORKFLOW = """\
import redun


@redun.task
def main(context: dict = redun.get_context("my_tool", None)) -> dict:
    return context
"""


def main(arguments: list[str]) -> int:
    """Run the tests in a folder of their own; returns pytest's exit code."""
    folder = Path(redun.tests.__file__).parent
    files = [str(folder / f"{name}.py") for name in TESTS]
    with tempfile.TemporaryDirectory(prefix="aredun-redun-suite-") as work:
        Path(work, "workflow.py").write_text(WORKFLOW)
        environ = dict(os.environ)
        # The tests call the command `redun`, and import from the folder that they run in.
        environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", "")])
        shim = Path(__file__).parent / "shim"
        environ["PYTHONPATH"] = os.pathsep.join([".", str(CHECKOUT), str(shim)])
        # moto cannot read the trailing checksums that today's botocore would send.
        environ["AWS_REQUEST_CHECKSUM_CALCULATION"] = "when_required"
        config = str(Path(__file__).parent / "pytest.ini")
        command = [sys.executable, "-m", "pytest", "-q", "-c", config, "--rootdir", work, *files, *arguments]
        return subprocess.run(command, cwd=work, env=environ, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
