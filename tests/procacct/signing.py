"""What the tests of signatures share: compilers and linkers that are really there, and programs made with them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.servers import REQUIRED

ROOT = Path(__file__).parents[2]


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skips a test where a program is not installed, unless everything has to be there."""
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing) and not REQUIRED, reason=f"not installed: {', '.join(missing)}")


def need(program: str) -> None:
    """The same, of one that only some runs of a test need."""
    if shutil.which(program) is None and not REQUIRED:
        pytest.skip(f"not installed: {program}")


def run(
    *command: str | Path, cwd: Path | None = None, environment: Mapping[str, str] | None = None, status: int | None = 0
) -> subprocess.CompletedProcess[str]:
    """Runs a program; `status` is what it must end with, None if that is looked at elsewhere."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("BATCHACCT_") and k != "SOURCE_DATE_EPOCH"}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env={**clean, **(environment or {})}, capture_output=True, text=True, check=False
    )
    assert status is None or done.returncode == status, (command, done)
    return done


def install(folder: Path) -> Path:
    """Links to `batchacct-ld`, made by itself."""
    run(sys.executable, "-m", "procacct.linker", "--install", folder, environment={"PYTHONPATH": str(ROOT)})
    return folder
