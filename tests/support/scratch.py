"""Where the test run keeps its databases: in memory where the system offers room for that."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
# A run with two workers leaves less than this behind; containers often have 64 MB there.
ENOUGH = 4 << 30


def find_scratch_folder() -> Path:
    """Return the folder for databases that live no longer than the run.

    The files are the same and so is what the databases do; but a commit does not wait for a disk that
    whatever else runs on the machine uses too. No test cuts the power.
    """
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ENOUGH:
        return MEMORY
    return Path(tempfile.gettempdir())
