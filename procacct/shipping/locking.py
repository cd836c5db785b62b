"""One process at a time for a state file or a folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batchacct.errors import BusyError, SourceError


@contextmanager
def held(path: Path, program: str) -> Iterator[None]:
    """Holds the lock file beside `path`, which is made; the kernel lets go of it with the process.

    Raises: BusyError if another process holds it, SourceError if it cannot be made.
    """
    place = path.with_name(f".{path.name.lstrip('.')}.lock")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise SourceError(f"{place} cannot be written: {error.strerror}. Which user runs {program}?") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise BusyError(f"another {program} is running: it holds {place}. Stop it first") from error
    finally:
        os.close(descriptor)
