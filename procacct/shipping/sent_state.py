"""The file that says what the broker has of each spool file: small, replaced in whole.

Without it everything that is in the spool is sent once more, which the receiver knows already: so an unreadable one is put aside.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from procacct.shipping.durable import replace_file
from procacct.shipping.ranges import SpoolName
from procacct.shipping.spool import Cursor

log = logging.getLogger(__name__)

VERSION = 1


class SentState:
    """What was confirmed: a cursor for each spool file, and the number of the last message."""

    def __init__(self, path: Path) -> None:
        """Raises: OSError."""
        self._path = path
        self.files: dict[SpoolName, Cursor] = {}
        self.seq = 0
        self._written = b""
        try:
            self._read(path.read_bytes())
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            aside = path.with_name(f"{path.name}.unreadable")
            path.rename(aside)
            self.files, self.seq = {}, 0
            log.error("state file %s cannot be read (%s): it is %s now, and the whole spool is sent once more", path, error, aside)  # noqa: TRY400

    def save(self) -> None:
        """Writes it, if anything has changed.  Raises: OSError."""
        files = {str(name): [at.offset, at.mark, at.again] for name, at in sorted(self.files.items())}
        text = json.dumps({"version": VERSION, "seq": self.seq, "files": files}, indent=1).encode()
        if text != self._written:
            replace_file(self._path, text)
            self._written = text

    def _read(self, text: bytes) -> None:
        values = json.loads(text)
        if values["version"] != VERSION:
            raise ValueError(f"version {values['version']} is another release's")
        self.seq = int(values["seq"])
        for written, (offset, mark, again) in values["files"].items():
            if (name := SpoolName.of(written)) is not None:
                self.files[name] = Cursor(int(offset), str(mark), int(again))
