"""Files that are on the disk when they are said to be."""

from __future__ import annotations

import os
from pathlib import Path

FILE_MODE = 0o640
FOLDER_MODE = 0o750
"""They name people: a group may read them, and nobody else."""


def sync_folder(path: Path) -> None:
    """Names that were made or removed in the folder are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """The file has this content afterwards, or what it had before, whatever happens."""
    temporary = path.with_name(f".{path.name}.new")
    with os.fdopen(
        os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE), "wb"
    ) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def write_all(descriptor: int, content: bytes) -> None:
    """All of it, or OSError after as much as there is room for."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
