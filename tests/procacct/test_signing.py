"""`batchacct procs sign` and `show-signature`, on files that gcc made."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from batchacct.errors import ConfigError, IncompleteError, SourceError
from procacct.elf import ElfError
from procacct.elf_notes import build_id, notes_of_file, signature, signatures
from procacct.registry import records, records_of
from procacct.signing import with_note
from procacct.signing_commands import show_signature, sign
from tests.procacct.signing import need, needs, run

pytestmark = needs("gcc", "ld", "readelf", "strip")
UUID = "0f4b1c52-93a0-4d5e-8e7f-0123456789ab"
PROGRAM = '#include <stdio.h>\nint main(void) { puts("ran"); return 7; }\n'


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "p.c").write_text(PROGRAM)
    (tmp_path / "records").mkdir()
    run("gcc", "p.c", "-Wl,--build-id", "-o", "p", cwd=tmp_path)
    run("gcc", "-c", "p.c", cwd=tmp_path)
    return tmp_path


def call(command: object, *words: str | Path) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=True)  # type: ignore[arg-type]


def loaded(path: Path) -> list[str]:
    """What of a file gets into memory, and where: its program headers, by readelf."""
    return run("readelf", "-lW", path).stdout.splitlines()


def test_a_finished_program(work: Path) -> None:
    """Nothing that is loaded changes; the signature is in the file, and stays through strip."""
    program = work / "p"
    before, headers = program.read_bytes(), loaded(program)
    mode = stat.S_IMODE(program.stat().st_mode)
    done = call(sign, program, "--uuid", UUID, "--records", work / "records")
    assert done.exit_code == 0, done
    assert done.output == f"{program}: {UUID}, in the file alone, recorded\n"
    run(program, status=7)
    assert stat.S_IMODE(program.stat().st_mode) == mode
    after = program.read_bytes()
    assert after[64 : len(before)] == before[64:]
    assert loaded(program) == headers
    (found,) = signatures(notes_of_file(program))
    assert (found.uuid, found.allocatable, found.section) == (UUID, False, ".note.batchacct.id")
    shown = run("readelf", "-nW", program)
    assert UUID.encode().hex(" ") in shown.stdout
    assert shown.stderr == ""
    run("strip", program)
    (found,) = signatures(notes_of_file(program))
    assert found.uuid == UUID
    run(program, status=7)
    (record,) = records_of(work / "records", set(), {str(build_id(notes_of_file(program)))})
    assert (record["uuid"], record["path"], record["made_by"]) == (UUID, str(program), "sign")
    assert record["user_id"] == os.getuid()


def test_a_shared_object_without_section_headers(work: Path) -> None:
    """Its table of sections is made anew."""
    run("gcc", "-shared", "-fPIC", "p.c", "-o", "p.so", cwd=work)
    content = bytearray((work / "p.so").read_bytes())
    shoff = int.from_bytes(content[40:48], "little")
    content[40:48], content[58:64] = bytes(8), bytes(6)
    (work / "p.so").write_bytes(content[:shoff])
    headers = loaded(work / "p.so")
    ends = [
        int(w[1], 16) + int(w[4], 16) for w in map(str.split, headers) if len(w) > 6 and w[0].isupper() and w[1].startswith("0x")
    ]
    (work / "p.so").write_bytes(content[: max(ends)])
    assert call(sign, work / "p.so", "--uuid", UUID).exit_code == 0
    assert [s.uuid for s in signatures(notes_of_file(work / "p.so"))] == [UUID]
    assert [line for line in loaded(work / "p.so") if "LOAD" in line] == [line for line in headers if "LOAD" in line]
    assert ".note.batchacct.id" in run("readelf", "-SW", work / "p.so").stdout


@pytest.mark.parametrize("linker", ["bfd", "gold", "lld", "mold"])
def test_an_object_file(work: Path, linker: str) -> None:
    """What is linked from it bears the signature in memory."""
    need(f"ld.{linker}")
    done = call(sign, work / "p.o", "--uuid", UUID)
    assert f"{UUID}, in memory, not recorded" in done.output
    run("gcc", f"-fuse-ld={linker}", "p.o", "-o", "q", cwd=work)
    found = signature(notes_of_file(work / "q"))
    assert found and found.uuid == UUID and found.allocatable
    run(work / "q", status=7)


def test_signing_again_changes_nothing(work: Path) -> None:
    first = json.loads(call(sign, work / "p", "--json").output.splitlines()[-1])
    content = (work / "p").read_bytes()
    second = json.loads(call(sign, work / "p", "--json", "--records", work / "records").output)
    assert first[0]["uuid"] == second[0]["uuid"]
    assert not first[0]["recorded"] and second[0]["recorded"]
    assert (work / "p").read_bytes() == content
    assert len(list(records(work / "records"))) == 1


def test_what_cannot_be_signed(work: Path) -> None:
    """A file with an archive behind its end, one that is cut, text, and one that is not there; none is touched."""
    content = (work / "p").read_bytes()
    (work / "archive").write_bytes(content + b"PK\5\6 the index of an archive")
    (work / "cut").write_bytes(content[:-100])
    for name, error in (("archive", ConfigError), ("cut", ConfigError), ("p.c", ConfigError), ("absent", SourceError)):
        before = (work / name).read_bytes() if (work / name).exists() else None
        done = call(sign, work / name)
        assert isinstance(done.exception, error), (name, done)
        assert str(work / name) in done.exception.message
        assert ((work / name).read_bytes() if (work / name).exists() else None) == before
    (work / "second").hardlink_to(work / "p")
    assert "hard links" in str(call(sign, work / "p").exception)
    assert isinstance(call(sign, work / "p", "--uuid", "x").exception, ConfigError)
    assert sorted(path.name for path in work.iterdir()) == ["archive", "cut", "p", "p.c", "p.o", "records", "second"]


def test_links_stay_and_the_file_they_name_is_signed(work: Path) -> None:
    (work / "link").symlink_to("p")
    assert call(sign, work / "link", "--uuid", UUID).exit_code == 0
    assert (work / "link").is_symlink()
    assert [s.uuid for s in signatures(notes_of_file(work / "p"))] == [UUID]


def test_show_signature(work: Path) -> None:
    shutil.copy(work / "p", work / "unsigned")
    call(sign, work / "p", "--uuid", UUID, "--records", work / "records")
    done = call(show_signature, work / "p")
    assert done.exit_code == 0
    for word in (UUID, ".note.batchacct.id", "BATCHACCT", str(build_id(notes_of_file(work / "p"))), "no"):
        assert word in done.output
    done = call(show_signature, work / "p", "--record", "--records", work / "records", "--json")
    (shown,) = json.loads(done.output)
    assert shown["signatures"][0]["uuid"] == UUID
    assert shown["records"][0]["made_by"] == "sign"
    assert "made_by: sign" in call(show_signature, work / "p", "--record", "--records", work / "records").output
    done = call(show_signature, work / "p", work / "unsigned", work / "p.c", "--json")
    assert isinstance(done.exception, IncompleteError)
    shown = json.loads(done.stdout)
    assert [len(one["signatures"]) for one in shown] == [1, 0, 0]
    assert "no ELF file" in shown[2]["error"]
    assert call(show_signature, work / "p", work / "unsigned", "--ogrt-status").exit_code == 1
    assert call(show_signature, work / "unsigned", "--ogrt-status").exit_code == 0
    assert isinstance(call(show_signature, work / "absent").exception, IncompleteError)


def test_show_signature_of_xalt(work: Path) -> None:
    """A program with XALT's note: its other values are shown, too."""
    sample = Path(__file__).parent / "samples" / "note.xalt.info.bin"
    run(
        "objcopy",
        f"--add-section=.note.xalt.info={sample}",
        "--set-section-flags=.note.xalt.info=alloc,readonly",
        "p.o",
        "x.o",
        cwd=work,
    )
    run("gcc", "x.o", "-o", "x", cwd=work)
    (shown,) = json.loads(call(show_signature, work / "x", "--json").output)
    assert shown["signatures"][0]["kind"] == "xalt"
    assert shown["signatures"][0]["details"]["Build_User"] == "alice"


def test_link_records_of_xalt(work: Path) -> None:
    """Lead from the UUID in a program to what XALT recorded when it was linked."""
    link = Path(__file__).parents[1] / "samples" / "xalt" / "link.json"
    (found,) = records_of(link, {"01a1f98c-555b-7147-bb57-58bdf3043a47"}, set())
    assert found == {
        "v": 1, "made_by": "xalt", "uuid": "01a1f98c-555b-7147-bb57-58bdf3043a47", "path": "/home/alice/src/hello",
        "sha1": "851adf2ab37aadd285680a52648dacad3ee16197", "compiler": "/usr/bin/x86_64-linux-gnu-gcc-12", "user": "alice",
        "host": "node042.example.org", "at": 1795188086, "compile_line": ["gcc", "-O2", "-o", "hello", "hello.c"],
    }  # fmt: skip
    (work / "odd").write_text('{"resultT":{"uuid":"u","build_epoch":"1e999"}}\n{"resultT":{}}\n{"resultT":[]}\n7\n')
    assert list(records(work / "odd")) == [{"v": 1, "made_by": "xalt", "uuid": "u"}]


def test_records_of_others_are_not_believed(work: Path) -> None:
    """In a folder where all may write, a file counts by its owner, and lines that are none are passed over."""
    folder = work / "records"
    call(sign, work / "p", "--uuid", UUID, "--records", folder)
    (own,) = folder.iterdir()
    with own.open("a") as lines:
        lines.write('{"v":1,"uuid":"\n[]\n{"v":1,"uuid":"u","user_id":12345}\n')
    shutil.copy(own, folder / "12345-host.jsonl")
    (folder / f"{os.getuid()}-link.jsonl").symlink_to(own)
    os.mkfifo(folder / f"{os.getuid()}-pipe.jsonl")
    assert [one["uuid"] for one in records(folder)] == [UUID]


def test_a_file_of_records_that_is_a_link_is_not_written(work: Path) -> None:
    (work / "elsewhere").touch()
    (work / "list").symlink_to("elsewhere")
    done = call(sign, work / "p", "--records", work / "list")
    assert isinstance(done.exception, SourceError)
    assert (work / "elsewhere").read_bytes() == b""


def test_no_elf_is_refused_by_the_writer() -> None:
    for content in (b"", b"\x7fELF", b"#!/bin/sh\n" * 20):
        with pytest.raises(ElfError):
            with_note(content, UUID)
