"""What an ELF file says about itself: header, program headers, section headers; 32 and 64 bit, both byte orders.

Nothing is believed: every offset and size is held against the size of the file, and whatever is wrong is an `ElfError`. Little is
imported here, since `batchacct-ld` starts with every link: importing `dataclasses` alone would double its cost.

Sources: System V ABI (gABI), chapters "ELF Header", "Sections", "Program Header"; `elf.h` of glibc for the numbers.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

MAGIC = b"\x7fELF"
ET_REL = 1
PT_NOTE = 4
SHT_PROGBITS, SHT_STRTAB, SHT_NOTE, SHT_NOBITS = 1, 3, 7, 8
SHF_ALLOC = 2
EXTENDED_COUNT = 0xFFFF
"""Of `e_phnum` and `e_shstrndx`: the number stands in section 0 (gABI)."""
MOST_BYTES_OF_ONE = 16 << 20
"""Of a table or a segment of notes; real ones have some KiB."""


class ElfError(ValueError):
    """It is no ELF file, or it is cut or damaged; the text says what is wrong."""


class Bytes(Protocol):
    """The content of a file."""

    size: int

    def at(self, offset: int, length: int) -> bytes:
        """Exactly these bytes.  Raises: ElfError where the file does not have them."""


class Memory:
    """Bytes that are there already."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)

    def at(self, offset: int, length: int) -> bytes:
        check_range(self.size, offset, length)
        return self._content[offset : offset + length]


class Descriptor:
    """An open file, of which only what is asked for is read."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def at(self, offset: int, length: int) -> bytes:
        check_range(self.size, offset, length)
        found = os.pread(self._descriptor, length, offset)
        if len(found) != length:
            raise ElfError(f"the file became shorter while it was read: {length} bytes are due at {offset}")
        return found


def check_range(size: int, offset: int, length: int) -> None:
    """Raises: ElfError unless a file of `size` bytes has `length` bytes at `offset`, and they are few enough to be read."""
    if offset + length > size:
        raise ElfError(f"it is cut or damaged: {length} bytes are due at {offset}, and it has {size}")
    if length > MOST_BYTES_OF_ONE:
        raise ElfError(f"it is damaged: a table or segment of {length} bytes at {offset}")


class Form(NamedTuple):
    """Word size and byte order, and the layouts that follow from them."""

    bits: int
    order: str

    @property
    def header(self) -> struct.Struct:
        """After e_ident: type machine version entry phoff shoff flags ehsize phentsize phnum shentsize shnum shstrndx."""
        return struct.Struct(self.order + ("HHIQQQIHHHHHH" if self.bits == 64 else "HHIIIIIHHHHHH"))

    @property
    def section(self) -> struct.Struct:
        """name type flags addr offset size link info addralign entsize."""
        return struct.Struct(self.order + ("IIQQQQIIQQ" if self.bits == 64 else "IIIIIIIIII"))

    @property
    def segment(self) -> struct.Struct:
        """64 bit: type flags offset vaddr paddr filesz memsz align; 32 bit: flags stands before align."""
        return struct.Struct(self.order + ("IIQQQQQQ" if self.bits == 64 else "IIIIIIII"))


class Header(NamedTuple):
    """The fields of the ELF header; `ident` are its first 16 bytes."""

    form: Form
    ident: bytes
    type: int
    machine: int
    version: int
    entry: int
    phoff: int
    shoff: int
    flags: int
    ehsize: int
    phentsize: int
    phnum: int
    shentsize: int
    shnum: int
    shstrndx: int

    def packed(self) -> bytes:
        """As it stands in a file."""
        return self.ident + self.form.header.pack(
            self.type, self.machine, self.version, self.entry, self.phoff, self.shoff, self.flags,
            self.ehsize, self.phentsize, self.phnum, self.shentsize, self.shnum, self.shstrndx,
        )  # fmt: skip


class Segment(NamedTuple):
    """A program header, as far as it matters here."""

    type: int
    offset: int
    filesz: int
    align: int


class Section(NamedTuple):
    """A section header, and its name."""

    name: str
    type: int
    flags: int
    offset: int
    size: int
    align: int

    @property
    def allocatable(self) -> bool:
        return bool(self.flags & SHF_ALLOC)

    @property
    def bytes_in_file(self) -> int:
        return 0 if self.type == SHT_NOBITS else self.size


@contextmanager
def opened(path: str | Path) -> Iterator[Descriptor]:
    """The content of the file at `path`.  Raises: OSError; ElfError if it is no regular file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ElfError("it is no regular file")
        yield Descriptor(descriptor)
    finally:
        os.close(descriptor)


def read_header(content: Bytes) -> Header:
    """The ELF header.  Raises: ElfError."""
    if content.size < len(MAGIC) or content.at(0, len(MAGIC)) != MAGIC:
        raise ElfError("it is no ELF file")
    ident = content.at(0, 16)
    try:
        form = Form({1: 32, 2: 64}[ident[4]], {1: "<", 2: ">"}[ident[5]])
    except KeyError as error:
        raise ElfError(f"it is of an unknown word size or byte order ({ident[4]}, {ident[5]})") from error
    return Header(form, ident, *form.header.unpack(content.at(16, form.header.size)))


def read_segments(content: Bytes, header: Header) -> list[Segment]:
    """The program headers, in their order.  Raises: ElfError."""
    if not header.phoff:
        return []
    count = header.phnum
    if count == EXTENDED_COUNT:
        count = _raw_section(content, header, 0)[7]
    layout = header.form.segment
    table = _table(content, header.phoff, count, header.phentsize, layout)
    if header.form.bits == 64:
        return [Segment(row[0], row[2], row[5], row[7]) for row in table]
    return [Segment(row[0], row[1], row[4], row[7]) for row in table]


def read_sections(content: Bytes, header: Header) -> list[Section]:
    """The section headers, in their order, section 0 included.  Raises: ElfError."""
    if not header.shoff:
        return []
    first = _raw_section(content, header, 0)
    count = header.shnum or first[5]
    names_at = first[6] if header.shstrndx == EXTENDED_COUNT else header.shstrndx
    table = _table(content, header.shoff, count, header.shentsize, header.form.section)
    names = b""
    if 0 < names_at < count and table[names_at][1] == SHT_STRTAB:
        names = content.at(table[names_at][4], table[names_at][5])
    return [Section(_name(names, row[0]), row[1], row[2], row[4], row[5], row[8]) for row in table]


def _raw_section(content: Bytes, header: Header, number: int) -> tuple[int, ...]:
    layout = header.form.section
    if not header.shoff or header.shentsize < layout.size:
        raise ElfError("it is damaged: its section headers are missing or too short")
    return layout.unpack(content.at(header.shoff + number * header.shentsize, layout.size))


def _table(content: Bytes, offset: int, count: int, step: int, layout: struct.Struct) -> list[tuple[int, ...]]:
    if count and step < layout.size:
        raise ElfError(f"it is damaged: headers of {step} bytes in its table at {offset}")
    table = content.at(offset, count * step)
    return [layout.unpack_from(table, number * step) for number in range(count)]


def _name(names: bytes, offset: int) -> str:
    end = names.find(b"\0", offset)
    return names[offset : end if end >= 0 else len(names)].decode("utf-8", "backslashreplace")
