"""The record of one signed file: who linked it, when, where, with what."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import time
from collections.abc import Sequence
from pathlib import Path

from procacct.elf_notes import build_id, notes_of_file, signatures
from procacct.registry import Signed, add, configured_place

MOST_CHARACTERS = 200_000
"""Of a command line; a longer one is cut at a word, and says so by the word `...`."""
BETWEEN = frozenset({"collect2", "batchacct-ld", "ld"})
"""Programs between a compiler and its linker."""


def record_link(uuid: str, output: Path, linker: str, link_line: Sequence[str]) -> None:
    """Records the output of a link, if it bears this UUID and records are kept.  Raises: OSError, ElfError."""
    place = configured_place(os.environ)
    if place is None:
        return
    made = what_was_made(output)
    if uuid not in {one.uuid for one in signatures(notes_of_file(output))}:
        return
    compiler, compile_line = _compiler()
    record: Signed = {
        "uuid": uuid, **made, **who_and_when(), "made_by": "ld", "linker": linker, "link_line": _at_most(link_line),
    }  # fmt: skip
    if compiler:
        record |= {"compiler": compiler, "compile_line": _at_most(compile_line)}
    add(place, record)


def what_was_made(path: Path) -> Signed:
    """Path, size, SHA-256 and build id of a file.  Raises: OSError, ElfError."""
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
        size = os.fstat(content.fileno()).st_size
    found: Signed = {"path": str(path.resolve()), "size": size, "sha256": digest}
    identity = build_id(notes_of_file(path))
    return found | {"build_id": identity} if identity else found


def who_and_when() -> Signed:
    """User, host, modules, time."""
    user = os.getuid()
    found: Signed = {"at": int(time.time()), "user_id": user, "host": os.uname().nodename}
    with contextlib.suppress(KeyError):
        found["user"] = pwd.getpwuid(user).pw_name
    modules = [module for module in os.environ.get("LOADEDMODULES", "").split(":") if module]
    return found | {"modules": modules} if modules else found


def _compiler() -> tuple[str | None, list[str]]:
    """Path and arguments of the program that called the linker."""
    process = os.getppid()
    for _ in range(4):
        folder = Path("/proc", str(process))
        try:
            program = str((folder / "exe").readlink())
            arguments = (folder / "cmdline").read_bytes().decode("utf-8", "backslashreplace").split("\0")[:-1]
            status = (folder / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            break
        if Path(program).name not in BETWEEN:
            return program, arguments
        process = int(status.rpartition(")")[2].split()[1])
    return None, []


def _at_most(words: Sequence[str]) -> list[str]:
    kept: list[str] = []
    length = 0
    for word in words:
        length += len(word) + 1
        if length > MOST_CHARACTERS:
            return [*kept, "..."]
        kept.append(word.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))
    return kept
