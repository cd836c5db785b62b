"""The version to upgrade from, which is a commit of this repository's history."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools.packages import previous
from tools.packages.layout import SOURCE


@pytest.fixture
def with_history() -> None:
    found = subprocess.run(["git", "-C", SOURCE, "cat-file", "-e", previous.BEFORE], check=False, capture_output=True, text=True)
    if found.returncode:
        pytest.skip(f"the earlier release is a commit of this repository's history: git fetch --unshallow\n{found.stderr}")


@pytest.fixture
def previous_tree(with_history: None, tmp_path: Path) -> Path:
    """Its source, to be packed."""
    return previous.write(tmp_path / "previous")
