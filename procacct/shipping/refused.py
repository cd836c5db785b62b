"""Messages that are not taken: kept in FOLDER/.refused while there is room, told, and counted."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

from batchacct.durable import FOLDER_MODE, replace_file
from procacct.shipping.recent import Recent

log = logging.getLogger(__name__)

REFUSED = ".refused"
MOST_FILES = 1000
MOST_BYTES = 256 << 20
HOSTS_KEPT = 10_000
"""Names are what a sender likes: the log counts by so many."""


class Refused:
    """Each in a file of its own: a line of JSON with reason and headers, then the body."""

    def __init__(self, folder: Path) -> None:
        """Raises: OSError."""
        self._folder = folder / REFUSED
        self._counts = Recent(HOSTS_KEPT)
        sizes = [path.stat().st_size for path in self._folder.glob("*")] if self._folder.is_dir() else []
        self._files, self._bytes = len(sizes), sum(sizes)

    def put(self, headers: Mapping[str, str], body: bytes, reason: str) -> bool:
        """Keeps it; whether it was not there yet, as one is that a broker gives once more.  Raises: OSError."""
        told = {name: value[:1000] for name, value in sorted(headers.items())}
        path = self._folder / _digest(told, body)
        if path.exists():
            return False
        content = json.dumps({"reason": reason, "headers": told}).encode() + b"\n" + body
        kept_as = "is not kept, as that folder is full"
        if self._files < MOST_FILES and self._bytes + len(content) <= MOST_BYTES:
            self._folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            replace_file(path, content)
            self._files, self._bytes = self._files + 1, self._bytes + len(content)
            kept_as = f"is kept as {path}"
        self._tell(headers.get("host", "")[:100], reason, kept_as)
        return True

    def _tell(self, host: str, reason: str, kept_as: str) -> None:
        """The first of a host, the second, the fourth, the eighth: one that sends nothing else does not fill the log."""
        count = self._counts.count(host)
        if count & (count - 1) == 0:
            log.error("host=%r: a message is refused, and %s (%d of this host by now): %s", host, kept_as, count, reason)


def _digest(headers: Mapping[str, str], body: bytes) -> str:
    """The same for the same message, whatever the broker adds to its headers."""
    of_range = "\0".join(headers.get(name, "") for name in ("host", "file", "offset", "sha256"))
    return hashlib.sha256(of_range.encode() + b"\0" + body).hexdigest()[:40]
