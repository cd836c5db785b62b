"""Notes of programs and libraries: build ids, and the signatures that batchacct, OGRT and XALT put in when they are linked.

A note is u32 name size, u32 descriptor size, u32 type, name, descriptor, in the byte order of the file; name and descriptor are
padded to 4 bytes, or to 8 in a segment aligned to 8 (gABI, "Note Section"; `.note.gnu.property` is such a one). Allocatable ones
lie in PT_NOTE segments and can be read in memory, too; all others only in the file.

    origin      section               name         type         descriptor
    batchacct   .note.batchacct.id    BATCHACCT    0x42434154   UUID, 36 characters
    OGRT        .note.ogrt.info       OGRT         0x4f475254   version (1 byte), UUID, NUL
    XALT        .note.xalt.info       XALT         0x746c6158   version (1 byte), `<KEY>%%VALUE%%`s with NUL; its UUID is Build_UUID
    GNU         .note.gnu.build-id    GNU          3            build id

Sources: programs linked by OGRT 0.4.1 and by XALT 3.2.4, `elf.h` of glibc.
Any bytes give notes or an `ElfError`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from procacct.elf import (
    ET_REL,
    PT_NOTE,
    SHT_NOTE,
    Bytes,
    ElfError,
    Memory,
    Section,
    opened,
    read_header,
    read_sections,
    read_segments,
)
from procacct.note_object import NAME, TYPE

MOST_NOTES = 10_000

_UUID = re.compile(rb"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
_XALT_VALUE = re.compile(rb"<([^<>\0]{1,64})>%%([^\0]*?)%%\Z")
_XALT_BLANK = "_%_%_"


@dataclass(frozen=True, slots=True)
class Note:
    """One note; `name` as it stands, with its NUL. `section` is None where no section header names its place."""

    name: bytes
    type: int
    descriptor: bytes
    section: str | None
    allocatable: bool


@dataclass(frozen=True, slots=True)
class Signature:
    """A UUID that a linker put in. `kind`: batchacct, ogrt, xalt; `details`: what else XALT wrote (user, host, paths, ...)."""

    kind: str
    version: int
    name: str
    uuid: str
    section: str | None
    allocatable: bool
    details: dict[str, str] = field(default_factory=dict)


def notes_of_file(path: str | Path) -> list[Note]:
    """The notes of the file at `path`; see `notes_of`.  Raises: OSError, ElfError."""
    with opened(path) as content:
        return notes_of(content)


def notes_of_bytes(content: bytes) -> list[Note]:
    """The notes of a whole file in memory; see `notes_of`.  Raises: ElfError."""
    return notes_of(Memory(content))


def notes_of(content: Bytes) -> list[Note]:
    """The notes of all PT_NOTE segments, in the order of the segments; then those of note sections that lie in none of them.

    A note whose sizes reach beyond its segment ends the segment.  Raises: ElfError.
    """
    header = read_header(content)
    segments = [segment for segment in read_segments(content, header) if segment.type == PT_NOTE]
    sections = [section for section in read_sections(content, header) if section.type == SHT_NOTE]
    notes: list[Note] = []
    for segment in segments:
        data = content.at(segment.offset, segment.filesz)
        for start, name, kind, descriptor in walk(data, segment.align, header.form.order):
            section = _section_at(sections, segment.offset + start)
            notes.append(Note(name, kind, descriptor, section.name if section else None, True))
            _check_number(notes)
    for section in sections:
        if any(s.offset <= section.offset and section.offset + section.size <= s.offset + s.filesz for s in segments):
            continue
        allocatable = section.allocatable and (header.type == ET_REL or not header.phnum)
        for _, name, kind, descriptor in walk(content.at(section.offset, section.size), section.align, header.form.order):
            notes.append(Note(name, kind, descriptor, section.name, allocatable))
            _check_number(notes)
    return notes


def walk(data: bytes, align: int, order: str) -> list[tuple[int, bytes, int, bytes]]:
    """(offset, name, type, descriptor) of each note of a segment or section; `order` as in `struct`.

    mold puts notes padded to 4 into one segment aligned to 8. So where padding to 8 does not come out even, it is padding to 4.
    """
    if align == 8:
        found, even = _walk(data, 8, order)
        if even:
            return found
    return _walk(data, 4, order)[0]


def _walk(data: bytes, padding: int, order: str) -> tuple[list[tuple[int, bytes, int, bytes]], bool]:
    """The notes, and whether they have names that end with NUL and fill the segment to its end."""
    head = struct.Struct(order + "III")
    found: list[tuple[int, bytes, int, bytes]] = []
    start = 0
    while start + head.size <= len(data) and len(found) <= MOST_NOTES:
        name_size, descriptor_size, kind = head.unpack_from(data, start)
        name_end = start + head.size + name_size
        descriptor_start = _padded(name_end, padding)
        descriptor_end = descriptor_start + descriptor_size
        if name_end > len(data) or descriptor_end > len(data):
            return found, False
        found.append((start, data[start + head.size : name_end], kind, data[descriptor_start:descriptor_end]))
        start = _padded(descriptor_end, padding)
    return found, start >= len(data) and all(name.endswith(b"\0") for _, name, _, _ in found)


def build_id(notes: Sequence[Note]) -> str | None:
    """The first GNU build id, in hex; None where there is none (`ld --build-id=none`)."""
    for note in notes:
        if note.name == b"GNU\0" and note.type == 3 and note.descriptor:
            return note.descriptor.hex()
    return None


def signatures(notes: Sequence[Note]) -> list[Signature]:
    """All signatures, in the order of the notes."""
    found = []
    for note in notes:
        read = _READERS.get((note.name, note.type))
        signature = read(note) if read else None
        if signature:
            found.append(signature)
    return found


def signature(notes: Sequence[Note]) -> Signature | None:
    """The one that counts, as it does for the sensor: what is in memory before what is not, ours before OGRT's before XALT's."""
    return min(signatures(notes), key=lambda one: (not one.allocatable, _RANKS[one.kind]), default=None)


def _of_batchacct(note: Note) -> Signature | None:
    return _with_uuid("batchacct", 1, note.descriptor, note)


def _of_ogrt(note: Note) -> Signature | None:
    return _with_uuid("ogrt", note.descriptor[0], note.descriptor[1:], note) if note.descriptor else None


def _with_uuid(kind: str, version: int, text: bytes, note: Note) -> Signature | None:
    match = _UUID.match(text)
    return Signature(kind, version, kind.upper(), match[0].decode("ascii"), note.section, note.allocatable) if match else None


def _of_xalt(note: Note) -> Signature | None:
    details: dict[str, str] = {}
    for text in note.descriptor[1:].split(b"\0"):
        match = _XALT_VALUE.fullmatch(text)
        if match:
            key, value = (part.decode("utf-8", "backslashreplace") for part in match.groups())
            details.setdefault(key, value.replace(_XALT_BLANK, " "))
    uuid = _UUID.match(details.pop("Build_UUID", "").encode("utf-8", "backslashreplace"))
    if not uuid:
        return None
    return Signature("xalt", note.descriptor[0], "XALT", uuid[0].decode("ascii"), note.section, note.allocatable, details)


_READERS = {
    (NAME, TYPE): _of_batchacct,
    (b"OGRT\0", 0x4F475254): _of_ogrt,
    (b"XALT\0", 0x746C6158): _of_xalt,
}
_RANKS = {"batchacct": 0, "ogrt": 1, "xalt": 2}


def _padded(end: int, padding: int) -> int:
    return -(-end // padding) * padding


def _section_at(sections: Sequence[Section], offset: int) -> Section | None:
    return next((s for s in sections if s.offset <= offset < s.offset + s.size), None)


def _check_number(notes: Sequence[Note]) -> None:
    if len(notes) > MOST_NOTES:
        raise ElfError(f"it has more than {MOST_NOTES:,} notes")
