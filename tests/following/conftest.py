"""Folders on a disk, where the next file is given the inode of a deleted one: in memory none is given twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with TemporaryDirectory(prefix="following-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
