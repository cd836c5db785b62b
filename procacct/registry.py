"""What was signed: a line of JSON for each link, kept beside the programs and not in them, which bear only a UUID.

The records stand in a folder (`/var/lib/batchacct/signatures`, mode 1777, if a site makes it; or what BATCHACCT_SIGNATURES
names), in a file for each user and host, `UID-HOST.jsonl`; a single file can be named instead. A line:

    v               1
    uuid, build_id, sha256, size   of what was signed
    path            where it was written
    at              Unix time, s
    made_by         ld | sign
    linker, link_line              program and its arguments
    compiler, compile_line         the program that called the linker (gcc, not its collect2), and its arguments
    user, user_id, host, modules   LOADEDMODULES as a list

A file of XALT's link records (`link.*.json`, a line each) can be named instead, too: `made_by` is then xalt, and there is a `sha1`.

Anyone may write into such a folder, so a file counts only if it belongs to the user whose number it is named by, and a line only
if it says the same.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from procacct.linker import RECORDS, RECORDS_FOLDER

LONGEST_LINE = 1 << 20

Signed = dict[str, object]


def configured_place(environment: Mapping[str, str]) -> Path | None:
    """The folder or file for records; None where none is kept: no folder was made, and the variable is not set (or `no`)."""
    named = environment.get(RECORDS)
    if named is not None:
        return None if named in ("", "no") else Path(named)
    return RECORDS_FOLDER if RECORDS_FOLDER.is_dir() else None


def add(place: Path, signed: Signed) -> Path:
    """Appends one line, and returns the file.  Raises: OSError."""
    path = place / f"{os.getuid()}-{os.uname().nodename}.jsonl" if place.is_dir() else place
    line = json.dumps({"v": 1, **signed}, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o644)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is no regular file")
        os.write(descriptor, line)
    finally:
        os.close(descriptor)
    return path


def records(place: Path) -> Iterator[Signed]:
    """All records, file by file; what is none, may not be read, or belongs to another user than it says, is passed over.

    Raises: OSError.
    """
    if not place.is_dir():
        with place.open("rb") as lines:
            yield from _records_in(lines)
        return
    for path in sorted(place.glob("*.jsonl")):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue
        with os.fdopen(descriptor, "rb") as lines:
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode) and path.name.partition("-")[0] == str(found.st_uid):
                yield from (one for one in _records_in(lines) if one.get("user_id") == found.st_uid)


def _records_in(lines: IO[bytes]) -> Iterator[Signed]:
    while line := lines.readline(LONGEST_LINE):
        found = _record(line)
        if found:
            yield found


def records_of(place: Path, uuids: set[str], build_ids: set[str]) -> list[Signed]:
    """The records with one of these UUIDs or build ids.  Raises: OSError."""
    return [one for one in records(place) if one.get("uuid") in uuids or one.get("build_id") in build_ids]


def _record(line: bytes) -> Signed | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    if isinstance(found.get("resultT"), dict):
        return _of_xalt(found["resultT"], found.get("link_line"))
    return found if found.get("v") == 1 and isinstance(found.get("uuid"), str) else None


def _of_xalt(result: dict[str, object], link_line: object) -> Signed | None:
    """A link record of XALT 3 by our names; its `link_line` is that of the compiler."""
    if not isinstance(result.get("uuid"), str):
        return None
    named = {key: result[name] for key, name in _NAMES_OF_XALT.items() if isinstance(result.get(name), str)}
    try:
        at = {"at": int(float(str(result.get("build_epoch"))))}
    except (ValueError, OverflowError):
        at = {}
    return {"v": 1, "made_by": "xalt", **named, **at, **({"compile_line": link_line} if isinstance(link_line, list) else {})}


_NAMES_OF_XALT = {
    "uuid": "uuid", "path": "exec_path", "sha1": "hash_id", "compiler": "link_path", "user": "build_user", "host": "build_host",
}  # fmt: skip
