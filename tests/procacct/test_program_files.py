"""Marks of programs by their files: running ones, ones that were deleted, and files that change."""

from __future__ import annotations

import subprocess
from pathlib import Path

from procacct.elf_notes import build_id, notes_of_file
from procacct.program_files import Marks, ProgramFiles
from procacct.signing import sign_file
from tests.procacct.signing import needs, run

UUID = "0f4b1c52-93a0-4d5e-8e7f-0123456789ab"


@needs("gcc", "ld")
def test_a_static_program_that_runs_and_was_deleted(tmp_path: Path) -> None:
    """No sensor is in it, and its signature is in the file alone."""
    (tmp_path / "p.c").write_text("#include <unistd.h>\nint main(void) { return (int)read(0, &(char){0}, 1); }\n")
    run("gcc", "-static", "-Wl,--build-id", "p.c", "-o", "p", cwd=tmp_path)
    sign_file(tmp_path / "p", UUID)
    identity = build_id(notes_of_file(tmp_path / "p"))
    with subprocess.Popen([tmp_path / "p"], stdin=subprocess.PIPE) as running:
        (tmp_path / "p").unlink()
        files = ProgramFiles()
        assert files.marks(f"/proc/{running.pid}/exe") == Marks(identity, UUID)
        running.communicate(b"")
        assert files.marks(f"/proc/{running.pid}/exe") == Marks()


def test_what_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/bin/sh\n")
    files = ProgramFiles()
    assert files.marks(tmp_path / "script") == files.marks(tmp_path / "absent") == files.marks("/dev/null") == Marks()


@needs("gcc", "ld")
def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    """And no more files are remembered than is said."""
    (tmp_path / "p.c").write_text("int main(void) { return 0; }\n")
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path in paths:
        run("gcc", "-Wl,--build-id", "p.c", "-o", path, cwd=tmp_path)
    files = ProgramFiles(most_known=2)
    before = [files.marks(path) for path in paths]
    assert {found.signature for found in before} == {None}
    sign_file(paths[2], UUID)
    assert files.marks(paths[2]) == Marks(before[2].build_id, UUID)
    assert [files.marks(path) for path in paths[:2]] == before[:2]
    assert len(files._known) == 2
