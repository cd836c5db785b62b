"""The file that says what the broker has of each spool file: small, replaced in whole.

Without it everything that is in the spool is sent once more, which the receiver knows already: so an unreadable one is put aside.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from batchacct.durable import replace_file
from procacct.shipping.ranges import SpoolName
from procacct.shipping.spool import Cursor

log = logging.getLogger(__name__)

VERSION = 1


class SentState:
    """What was confirmed: a cursor for each spool file, and the number of the last message."""

    def __init__(self, path: Path, boot: str) -> None:
        """`boot`: that of the host.  Raises: OSError."""
        self._path = path
        self._boot = boot
        self.files: dict[SpoolName, Cursor] = {}
        self.seq = 0
        self._last: dict[tuple[str, str], Cursor] = {}
        """Of each kind and boot the last file: `offset` is its number."""
        self._written = b""
        try:
            self._read(path.read_bytes())
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            aside = path.with_name(f"{path.name}.unreadable")
            path.rename(aside)
            self.files, self._last, self.seq = {}, {}, 0
            log.error("state file %s cannot be read (%s): it is %s now, and the whole spool is sent once more", path, error, aside)  # noqa: TRY400

    def meet(self, names: list[SpoolName]) -> None:
        """What there is now. A number that was there before, and was gone, is another file: a daemon may begin anew."""
        there = set(names)
        self.files = {name: at for name, at in self.files.items() if name in there}
        for name in names:
            if name in self.files:
                continue
            key = (name.kind, name.boot)
            last = self._last.get(key, Cursor())
            again = last.again + 1 if name.number <= last.offset else last.again
            self._last[key] = Cursor(name.number, again=again)
            self.files[name] = Cursor(again=again)
        boots = {name.boot for name in names}
        self._last = {key: last for key, last in self._last.items() if key[1] in boots or key[1] == self._boot}

    def replaced(self, name: SpoolName) -> Cursor:
        """The file of that name has another content than before: it begins anew, as a file of its own."""
        key = (name.kind, name.boot)
        last = self._last.get(key, Cursor())
        self._last[key] = Cursor(last.offset, again=max(last.again, self.files[name].again) + 1)
        self.files[name] = Cursor(again=self._last[key].again)
        return self.files[name]

    def save(self) -> None:
        """Writes it, if anything has changed.  Raises: OSError."""
        files = {str(name): [at.offset, at.mark, at.again] for name, at in sorted(self.files.items())}
        last = [[kind, boot, at.offset, at.again] for (kind, boot), at in sorted(self._last.items())]
        text = json.dumps({"version": VERSION, "seq": self.seq, "last": last, "files": files}, indent=1).encode()
        if text != self._written:
            replace_file(self._path, text)
            self._written = text

    def _read(self, text: bytes) -> None:
        values = json.loads(text)
        if values["version"] != VERSION:
            raise ValueError(f"version {values['version']} is another release's")
        self.seq = int(values["seq"])
        for kind, boot, number, again in values["last"]:
            self._last[str(kind), str(boot)] = Cursor(int(number), again=int(again))
        for written, (offset, mark, again) in values["files"].items():
            if (name := SpoolName.of(written)) is not None:
                self.files[name] = Cursor(int(offset), str(mark), int(again))
