"""Signing a file that is linked already.

Into an object file (.o) the note goes as an allocatable section: whatever is linked from it bears it in memory. A finished
program or shared object has no room for a further program header, and moving its headers would change what debuggers, package
managers and loaders rely on. So there the note becomes a section of the file that is not loaded: `show-signature` reads it, and a
running program is led to it by its GNU build id, through the record (`registry`). Every byte that is loaded stays as it is; only
what is appended is new, and in the ELF header where the section headers are, and how many.
"""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

from batchacct.errors import ConfigError, SourceError
from procacct.elf import (
    ET_REL,
    EXTENDED_COUNT,
    SHF_ALLOC,
    SHT_NOTE,
    SHT_STRTAB,
    ElfError,
    Header,
    Memory,
    read_header,
    read_sections,
    read_segments,
)
from procacct.elf_notes import Signature, notes_of_bytes, signatures
from procacct.note_object import SECTION, note_bytes

TYPES = {ET_REL: "object file", 2: "program", 3: "program or shared object"}
MOST_SLACK = 16
"""Zero bytes that linkers leave behind the end."""


def sign_file(path: Path, uuid: str) -> Signature:
    """Puts a note with this UUID into the file, which is replaced as a whole: owner, mode and attributes stay.

    A file that bears a signature of ours is left as it is.  Returns: the signature it has now.
    Raises: SourceError; ConfigError for a file that cannot be signed.
    """
    path = path.resolve()
    try:
        content = path.read_bytes()
        present = next((one for one in signatures(notes_of_bytes(content)) if one.kind == "batchacct"), None)
        if present:
            return present
        signed = with_note(content, uuid)
        _replace(path, signed)
    except ElfError as error:
        raise ConfigError(f"{path} cannot be signed: {error}. Give a program, a shared object or an object file.") from error
    except OSError as error:
        raise SourceError(f"{path} cannot be signed ({error}): check its path and permissions.") from error
    return next(one for one in signatures(notes_of_bytes(signed)) if one.uuid == uuid)


def with_note(content: bytes, uuid: str) -> bytes:
    """The file with one section more.  Raises: ElfError if it is none to which one can be added."""
    memory = Memory(content)
    header = read_header(memory)
    if header.type not in TYPES:
        raise ElfError(f"it is neither program, shared object nor object file (type {header.type})")
    if EXTENDED_COUNT in (header.phnum, header.shstrndx) or (header.shoff and not header.shnum):
        raise ElfError("it has too many sections")
    _check_end(memory, header)
    sections = read_sections(memory, header)
    layout = header.form.section
    rows = [list(layout.unpack_from(content, header.shoff + n * header.shentsize)) for n in range(len(sections))]
    names_at = header.shstrndx
    if not rows:
        rows, names_at = [[0] * 10, [0, SHT_STRTAB, 0, 0, 0, 0, 0, 0, 1, 0]], 1
    elif not (0 < names_at < len(rows) and rows[names_at][1] == SHT_STRTAB):
        raise ElfError("its sections have no names")
    names = content[rows[names_at][4] :][: rows[names_at][5]] or b"\0"
    note = note_bytes(uuid, header.form.order)
    note_at = len(content) + -len(content) % 8
    flags = SHF_ALLOC if header.type == ET_REL else 0
    if not header.shoff:
        rows[names_at][0], names = len(names), names + b".shstrtab\0"
    rows.append([len(names), SHT_NOTE, flags, 0, note_at, len(note), 0, 0, 4, 0])
    names += SECTION.encode("ascii") + b"\0"
    rows[names_at][4], rows[names_at][5] = note_at + len(note), len(names)
    body = bytes(note_at - len(content)) + note + names
    body += bytes(-(len(content) + len(body)) % 8)
    header = header._replace(shoff=len(content) + len(body), shentsize=layout.size, shnum=len(rows), shstrndx=names_at)
    try:
        return header.packed() + content[len(header.packed()) :] + body + b"".join(layout.pack(*row) for row in rows)
    except struct.error as error:
        raise ElfError("it is too large to be added to") from error


def _check_end(content: Memory, header: Header) -> None:
    """Raises: ElfError if something follows the ELF file: an archive that its program reads from the end, a module's signature."""
    end = 16 + header.form.header.size
    if header.phoff:
        end = max(end, header.phoff + header.phnum * header.phentsize)
    if header.shoff:
        end = max(end, header.shoff + header.shnum * header.shentsize)
    for segment in read_segments(content, header):
        end = max(end, segment.offset + segment.filesz)
    for section in read_sections(content, header):
        end = max(end, section.offset + section.bytes_in_file)
    if end > content.size:
        raise ElfError(f"it is cut: {end} bytes are due, and it has {content.size}")
    rest = content.size - end
    if rest > MOST_SLACK or any(content.at(end, rest)):
        raise ElfError(f"{rest} bytes follow the end of the ELF file, and what reads them there would not find them any more")


def _replace(path: Path, content: bytes) -> None:
    """Raises: OSError."""
    found = path.stat()
    if found.st_nlink > 1:
        raise OSError(f"it has {found.st_nlink} names (hard links), of which only one would be signed")
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(aside, found.st_uid, found.st_gid)
        shutil.copystat(path, aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
