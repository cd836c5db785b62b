"""A folder that other users reach: pytest's own are closed to them, and closed again whenever another pytest begins."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def open_folder() -> Iterator[Path]:
    """Everybody may search and read it; it is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="batchacct-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
