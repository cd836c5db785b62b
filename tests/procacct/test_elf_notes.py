"""Notes of ELF files: what others wrote, every word size and byte order, and anything at all."""

from __future__ import annotations

import itertools
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procacct.elf import ElfError, Form, Header
from procacct.elf_notes import build_id, notes_of_bytes, notes_of_file, signature, signatures, walk
from procacct.note_object import note_bytes
from tests.procacct.signing import needs

SAMPLES = Path(__file__).parent / "samples"
UUID = "0f4b1c52-93a0-4d5e-8e7f-0123456789ab"


def note(order: str, name: bytes, kind: int, descriptor: bytes, padding: int = 4) -> bytes:
    """A note as the gABI has it; an implementation apart from the one that is tested."""
    head = struct.pack(order + "III", len(name), len(descriptor), kind) + name
    head += b"\0" * (-len(head) % padding)
    return head + descriptor + b"\0" * (-len(descriptor) % padding)


def elf_of(form: Form, segments: list[tuple[bytes, int]], sections: list[tuple[str, int, bytes]] = []) -> bytes:  # noqa: B006
    """A file of PT_NOTE segments (content, alignment) and note sections (name, flags, content)."""
    wide = form.bits == 64
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if form.order == "<" else 2, 1]) + bytes(9)
    start = 16 + form.header.size
    body, phdrs, shdrs = b"", b"", form.section.pack(*[0] * 10)
    names = b"\0"
    for content, align in segments:
        body += bytes(-(start + len(body)) % 8)
        at = start + len(body)
        fields = (
            (4, 4, at, at, at, len(content), len(content), align) if wide else (4, at, at, at, len(content), len(content), 4, align)
        )
        phdrs += form.segment.pack(*fields)
        body += content
    for name, flags, content in sections:
        body += bytes(-(start + len(body)) % 8)
        shdrs += form.section.pack(len(names), 7, flags, 0, start + len(body), len(content), 0, 0, 4, 0)
        names += name.encode() + b"\0"
        body += content
    shdrs += form.section.pack(0, 3, 0, 0, start + len(body), len(names), 0, 0, 1, 0)
    body += names
    phoff = start + len(body) if segments else 0
    shoff = start + len(body) + len(phdrs)
    header = Header(
        form, ident, 3, 62, 1, 0, phoff, shoff, 0, start, form.segment.size, len(segments),
        form.section.size, len(sections) + 2, len(sections) + 1,
    )  # fmt: skip
    return header.packed() + body + phdrs + shdrs


FORMS = [Form(bits, order) for bits in (32, 64) for order in "<>"]


def test_note_of_ogrt() -> None:
    """The section of a program that OGRT 0.4.1 stamped."""
    content = (SAMPLES / "note.ogrt.info.bin").read_bytes()
    (found,) = signatures(notes_of_bytes(elf_of(Form(64, "<"), [(content, 4)])))
    assert (found.kind, found.version, found.name, found.uuid) == ("ogrt", 1, "OGRT", "71580393-1617-42da-afa9-964104de3fb8")
    assert found.allocatable


def test_note_of_xalt() -> None:
    """The section of a program that was linked through XALT 3.2.4."""
    content = (SAMPLES / "note.xalt.info.bin").read_bytes()
    (found,) = signatures(notes_of_bytes(elf_of(Form(64, "<"), [], [(".note.xalt.info", 2, content)])))
    assert (found.kind, found.version, found.uuid) == ("xalt", 2, "01a1f98c-555b-7147-bb57-58bdf3043a47")
    assert found.section == ".note.xalt.info"
    assert found.details["Build_date"] == "Fri Nov 20 15:21:26 2026"
    assert found.details["Build_LOADEDMODULES"] == "gcc/12.2.0:xalt/3.2.4"
    assert found.details["Build_LMFILES"] == ""
    assert len(found.details) == 13


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f"{f.bits}{f.order}")
def test_every_word_size_and_byte_order(form: Form) -> None:
    """A second note behind OGRT's, and a second segment: OGRT itself read neither."""
    ogrt = note(form.order, b"OGRT\0", 0x4F475254, b"\1" + UUID.encode() + b"\0")
    first = ogrt + note(form.order, b"GNU\0", 3, bytes.fromhex("c0ffee"))
    content = elf_of(
        form, [(first, 4), (note_bytes(UUID, form.order), 4)], [(".note.package", 0, note(form.order, b"FDO\0", 1, b"{}"))]
    )
    notes = notes_of_bytes(content)
    assert [(n.name, n.allocatable) for n in notes] == [
        (b"OGRT\0", True),
        (b"GNU\0", True),
        (b"BATCHACCT\0", True),
        (b"FDO\0", False),
    ]
    assert build_id(notes) == "c0ffee"
    assert [s.kind for s in signatures(notes)] == ["ogrt", "batchacct"]
    found = signature(notes)
    assert found and found.kind == "batchacct"


@pytest.mark.parametrize("padding", [4, 8])
def test_padding_in_a_segment_aligned_to_8(padding: int) -> None:
    """By the gABI it is 8; mold puts notes padded to 4 into such a segment, too."""
    content = note("<", b"GNU\0", 5, bytes(16), padding) + note("<", b"GNU\0", 3, b"\1" * 20, padding)
    content += note("<", b"GNU\0", 1, bytes(16), padding) + note("<", b"OGRT\0", 0x4F475254, b"\1" + UUID.encode() + b"\0", padding)
    assert [(kind, len(descriptor)) for _, _, kind, descriptor in walk(content, 8, "<")] == [
        (5, 16),
        (3, 20),
        (1, 16),
        (0x4F475254, 38),
    ]


def test_sizes_beyond_the_segment_end_it() -> None:
    content = note("<", b"GNU\0", 3, b"\1\2") + struct.pack("<III", 4, 0xFFFFFFF0, 3) + b"GNU\0"
    assert build_id(notes_of_bytes(elf_of(Form(64, "<"), [(content, 4)]))) == "0102"


def test_name_and_type_both_count() -> None:
    """Xen's notes have types of their own, and so has anybody else's name."""
    content = note("<", b"Xen\0", 3, b"\1") + note("<", b"GNU\0", 1, b"\2") + note("<", b"BATCHACCT\0", 1, UUID.encode())
    notes = notes_of_bytes(elf_of(Form(64, "<"), [(content, 4)]))
    assert build_id(notes) is None
    assert signatures(notes) == []


@pytest.mark.parametrize("cut", [0, 3, 10, 40, 63])
def test_cut_files_are_told(cut: int) -> None:
    with pytest.raises(ElfError):
        notes_of_bytes(elf_of(Form(64, "<"), [(note_bytes(UUID, "<"), 4)])[:cut])


@given(st.binary(max_size=400))
def test_any_bytes_give_notes_or_an_error(content: bytes) -> None:
    for head in (b"", b"\x7fELF\2\1\1" + bytes(9), b"\x7fELF\1\2\1" + bytes(9)):
        try:
            signatures(notes_of_bytes(head + content))
        except ElfError as error:
            assert str(error)


@settings(max_examples=300)
@given(
    st.sampled_from(FORMS),
    st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=4)), min_size=1, max_size=6),
)
def test_damaged_files_give_notes_or_an_error(form: Form, damages: list[tuple[int, bytes]]) -> None:
    xalt = (SAMPLES / "note.xalt.info.bin").read_bytes()
    content = bytearray(
        elf_of(form, [(note_bytes(UUID, form.order), 4), (xalt, 8)], [(".note.x", 2, note_bytes(UUID, form.order))])
    )
    for at, damage in damages:
        start = at % len(content)
        content[start : start + len(damage)] = damage
    try:
        for found in signatures(notes_of_bytes(bytes(content))):
            assert len(found.uuid) == 36
    except ElfError as error:
        assert str(error)


@needs("readelf")
def test_build_ids_are_those_that_readelf_reads() -> None:
    """Of this machine's programs and libraries."""
    tried = 0
    for path in itertools.islice(
        sorted({*Path("/usr/bin").glob("[a-z]*"), *Path("/usr/lib/x86_64-linux-gnu").glob("*.so.*")}), 0, None, 40
    ):
        if not path.is_file() or path.is_symlink():
            continue
        try:
            notes = notes_of_file(path)
        except ElfError:
            continue
        said = subprocess.run(["readelf", "-n", str(path)], capture_output=True, text=True, check=False).stdout
        expected = said.partition("Build ID: ")[2].split("\n")[0].strip() or None
        assert build_id(notes) == expected, path
        tried += 1
    assert tried > 5


def test_special_files_are_no_elf_files(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(ElfError):
            notes_of_file(path)
    assert notes_of_file(sys.executable)
