"""What survives the daemon: the state of the groups, and the job file, memberships that ended.

`groups.json` is one JSON object, written beside itself, synced and renamed, then its folder synced: it is the old one or the new
one, whole. Keys: format, boot_id, host, saved_ns, next (number of the next group), groups, members, gaps. What happened after
`saved_ns` is not in it: whoever reads it looks at /proc, and notes the gap.

`members.tsv` has a line for each membership that lasted to the end of its process: group, pid, start and end in Unix seconds, user
id of the group's owner. It is flushed before the state is written, so that after a crash a line can be there twice, and is never
missing. At half its bound it becomes `members.old.tsv`, in place of the former one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from batchacct.durable import replace_file
from batchacct.errors import ConfigError

log = logging.getLogger(__name__)

FORMAT = 1
STATE = "groups.json"
ENDED = "members.tsv"
OLDER = "members.old.tsv"
LONGEST_LINE = 200
LINES_AT_ONCE = 1000


class GroupMemory:
    """The two files in a folder that belongs to the daemon alone."""

    def __init__(self, folder: Path, most_bytes: int = 64 << 20) -> None:
        """Raises: ConfigError if the folder cannot be made or written to."""
        self.folder = folder
        self._most_bytes = most_bytes
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._ended = (folder / ENDED).open("ab")
        except OSError as error:
            raise ConfigError(
                f"{error.filename or folder} cannot be written: {error.strerror}. Groups of processes are kept there: let the user "
                "that runs procacctd write to it, or set another folder"
            ) from error

    def load(self) -> dict[str, Any] | None:
        """The state that was written last; None if there is none, or none that can be read (it is put aside then, and told)."""
        path = self.folder / STATE
        try:
            state = json.loads(path.read_bytes())
            if isinstance(state, dict) and state.get("format") == FORMAT:
                return state
            reason = "is of another release"
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            reason = f"cannot be read: {error}"
        aside = path.with_suffix(".unreadable")
        log.warning("%s %s. Groups made by hand before are lost; the file is kept as %s", path, reason, aside)
        with contextlib.suppress(OSError):
            path.replace(aside)
        return None

    def save(self, state: dict[str, Any]) -> None:
        """Puts the state in place of the former one.  Raises: OSError, and the former one stays."""
        self._ended.flush()
        replace_file(self.folder / STATE, json.dumps({"format": FORMAT, **state}, separators=(",", ":")).encode())

    def note_ended(self, group_id: str, pid: int, start_s: int, end_s: int, user_id: int) -> None:
        """Adds a line to the job file, in time.  Raises: OSError."""
        self._ended.write(f"{group_id}\t{pid}\t{start_s}\t{end_s}\t{user_id}\n".encode())
        if self._ended.tell() > self._most_bytes // 2:
            self._ended.close()
            (self.folder / ENDED).replace(self.folder / OLDER)
            self._ended = (self.folder / ENDED).open("ab")

    def ended(self, user_id: int | None = None) -> EndedLines:
        """Lines of the job file so far, without the owner: of groups of one user, or all."""
        with contextlib.suppress(OSError):
            self._ended.flush()
        return EndedLines([self.folder / OLDER, self.folder / ENDED], user_id)

    def close(self) -> None:
        self._ended.close()


class EndedLines:
    """The files are opened at once, and read as they were then, whatever becomes of them meanwhile; to be closed.

    After each LINES_AT_ONCE lines that were read, whoever's they are, comes b"": whoever may not be kept long goes on later.
    """

    def __init__(self, paths: list[Path], user_id: int | None) -> None:
        self._owner = None if user_id is None else str(user_id).encode()
        self._files: list[tuple[BufferedReader, int]] = []
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                file = path.open("rb")
                self._files.append((file, os.fstat(file.fileno()).st_size))

    def __iter__(self) -> Iterator[bytes]:
        count = 0
        for file, size in self._files:
            while file.tell() < size and (line := file.readline(LONGEST_LINE)):
                count += 1
                if count % LINES_AT_ONCE == 0:
                    yield b""
                fields = line.rstrip(b"\n").split(b"\t")
                if line.endswith(b"\n") and len(fields) == 5 and self._owner in (None, fields[4]):
                    yield b"\t".join(fields[:4]) + b"\n"

    def close(self) -> None:
        for file, _ in self._files:
            file.close()
