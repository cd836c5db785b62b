"""Messages that are not taken: kept in FOLDER/.refused while there is room, told, and counted."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from procacct.shipping.durable import FOLDER_MODE, replace_file

log = logging.getLogger(__name__)

REFUSED = ".refused"
MOST_FILES = 1000
MOST_BYTES = 256 << 20


class Refused:
    """Each in a file of its own: a line of JSON with reason and headers, then the body."""

    def __init__(self, folder: Path) -> None:
        """Raises: OSError."""
        self._folder = folder / REFUSED
        self._counts: Counter[str] = Counter()
        sizes = [path.stat().st_size for path in self._folder.glob("*")] if self._folder.is_dir() else []
        self._files, self._bytes = len(sizes), sum(sizes)

    @property
    def count(self) -> int:
        """Since this process began."""
        return self._counts.total()

    def put(self, headers: Mapping[str, str], body: bytes, reason: str) -> None:
        """Keeps it.  Raises: OSError."""
        told = {name: value[:1000] for name, value in sorted(headers.items())}
        content = json.dumps({"reason": reason, "headers": told}).encode() + b"\n" + body
        has_room = self._files < MOST_FILES and self._bytes + len(content) <= MOST_BYTES
        kept_as = "is not kept, as that folder is full"
        if has_room:
            self._folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            path = self._folder / f"{time.time_ns()}-{self._files}"
            replace_file(path, content)
            self._files, self._bytes = self._files + 1, self._bytes + len(content)
            kept_as = f"is kept as {path}"
        self._tell(headers.get("host", "")[:100], reason, kept_as)

    def _tell(self, host: str, reason: str, kept_as: str) -> None:
        """The first of a host, the second, the fourth, the eighth: one that sends nothing else does not fill the log."""
        self._counts[host] += 1
        count = self._counts[host]
        if count & (count - 1) == 0:
            log.error("host=%r: a message is refused, and %s (%d of this host by now): %s", host, kept_as, count, reason)
