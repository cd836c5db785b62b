"""The object file that `batchacct-ld` adds to a link: our note, and nothing that changes the program otherwise.

It is written here, byte for byte, so that no assembler is needed. Machine, word size, byte order and flags (the ABI of floating
point on RISC-V, of calls on POWER) are those of an object file of the same link. Two sections keep the program as it would be
without it:

- `.note.GNU-stack`, empty and without SHF_EXECINSTR: without it linkers make the stack executable;
- `.note.gnu.property`, a copy of that file's, if it has one: the linker gives the program only those properties (IBT, SHSTK, BTI,
  PAC) that every object has. What it does with two equal ones is what it does with one, and so does one that knows none of this.
  Where the linker was asked to tell which objects lack them, ours claims them all: it has no code that could.

Sources: gABI; Linux Extensions to gABI, "Program Property"; GNU ld manual, `-z execstack`.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from procacct.elf import (
    ET_REL,
    SHF_ALLOC,
    SHT_NOTE,
    SHT_PROGBITS,
    SHT_STRTAB,
    Bytes,
    ElfError,
    Header,
    read_header,
    read_sections,
)

SECTION = ".note.batchacct.id"
NAME = b"BATCHACCT\0"
TYPE = 0x42434154
PROPERTIES = ".note.gnu.property"
MACHINES = frozenset({(62, 64, "<"), (183, 64, "<"), (21, 64, "<"), (243, 64, "<"), (3, 32, "<")})
"""x86-64, AArch64, POWER (little endian), RISC-V 64, i386: (e_machine, bits, byte order)."""

FEATURES = {62: (0xC0000002, 3), 3: (0xC0000002, 3), 183: (0xC0000000, 3)}
"""By e_machine: type of the property of features that all objects must have, and its bits (IBT, SHSTK; BTI, PAC)."""


class Model(NamedTuple):
    """What the new object takes from an object file of the link."""

    header: Header
    properties: bytes
    properties_align: int


def model_of(content: Bytes, *, claims_all: bool = False) -> Model:
    """claims_all: the linker tells of objects that lack properties.

    Raises: ElfError if it is no object file, or one of a machine for which no note is made.
    """
    header = read_header(content)
    if header.type != ET_REL:
        raise ElfError("it is no object file")
    if (header.machine, header.form.bits, header.form.order) not in MACHINES:
        raise ElfError(f"notes are not made for machine {header.machine}, {header.form.bits} bit")
    properties = b""
    for section in read_sections(content, header):
        if section.name == PROPERTIES and section.type == SHT_NOTE:
            properties = content.at(section.offset, section.bytes_in_file)
            break
    if claims_all:
        properties = with_features(properties, header)
    return Model(header, properties, header.form.bits // 8)


def with_features(properties: bytes, header: Header) -> bytes:
    """A note of properties that claims all features of code, too; what is of another form stays as it is."""
    if header.machine not in FEATURES:
        return properties
    kind, all_of_them = FEATURES[header.machine]
    order, align = header.form.order, header.form.bits // 8
    head = struct.Struct(order + "III4s")
    found: dict[int, bytes] = {}
    if properties:
        name_size, size, note_type, name = head.unpack_from(properties)
        if (name_size, note_type, name) != (4, 5, b"GNU\0") or head.size + size != len(properties):
            return properties
        at = head.size
        while at < len(properties):
            number, length = struct.unpack_from(order + "II", properties, at)
            found[number] = properties[at + 8 : at + 8 + length]
            at += 8 + length + -length % align
    claimed = int.from_bytes(found.get(kind, b""), "little") | all_of_them
    found[kind] = struct.pack(order + "I", claimed & 0xFFFFFFFF)
    packed = b"".join(struct.pack(order + "II", n, len(v)) + v + bytes(-len(v) % align) for n, v in sorted(found.items()))
    return head.pack(4, len(packed), 5, b"GNU\0") + packed


def note_object(model: Model, uuid: str) -> bytes:
    """A relocatable ELF file with the note of this UUID."""
    form = model.header.form
    sections = [(SECTION, SHT_NOTE, SHF_ALLOC, note_bytes(uuid, form.order), 4)]
    if model.properties:
        sections.append((PROPERTIES, SHT_NOTE, SHF_ALLOC, model.properties, model.properties_align))
    sections.append((".note.GNU-stack", SHT_PROGBITS, 0, b"", 1))
    names = b"\0" + b"".join(name.encode() + b"\0" for name, *_ in sections) + b".shstrtab\0"
    sections.append((".shstrtab", SHT_STRTAB, 0, names, 1))
    ehsize = 16 + form.header.size
    body = bytearray()
    table = form.section.pack(*(10 * [0]))
    for name, kind, flags, content, align in sections:
        body += bytes(-(ehsize + len(body)) % max(align, 1))
        at = names.index(b"\0" + name.encode() + b"\0") + 1
        table += form.section.pack(at, kind, flags, 0, ehsize + len(body), len(content), 0, 0, align, 0)
        body += content
    body += bytes(-(ehsize + len(body)) % 8)
    header = model.header._replace(
        version=1, entry=0, phoff=0, shoff=ehsize + len(body), ehsize=ehsize, phentsize=0, phnum=0,
        shentsize=form.section.size, shnum=len(sections) + 1, shstrndx=len(sections),
    )  # fmt: skip
    return header.packed() + bytes(body) + table


def note_bytes(uuid: str, order: str) -> bytes:
    """Our note, for a file of this byte order (as in `struct`)."""
    text = uuid.encode("ascii")
    return struct.pack(order + "III", len(NAME), len(text), TYPE) + NAME.ljust(12, b"\0") + text
