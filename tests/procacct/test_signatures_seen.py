"""What the sensor reads of signatures and build ids in memory is what `elf_notes` reads in the files."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from procacct import policy
from procacct.datagrams import Datagram, Kind, decode
from procacct.elf_notes import build_id, notes_of_file, signature
from procacct.sensor.building import build
from tests.procacct.signing import install, need, needs, run

pytestmark = needs("gcc", "ld", "make")
LINKERS = ("bfd", "gold", "lld", "mold")
SAMPLES = Path(__file__).parent / "samples"


class Listening:
    """A sensor that reports to a socket of ours."""

    def __init__(self, folder: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "socket"))
        self._socket.settimeout(20)
        policy.write(folder / "policy", policy.Policy(socket=folder / "socket"))
        self.library = build(folder, policy=folder / "policy", socket=folder / "socket")

    def start_of(self, program: Path) -> Datagram:
        """Runs the program, and returns what it reported when it started."""
        environment = {**os.environ, "LD_PRELOAD": str(self.library)}
        done = subprocess.run([program], env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (42, "")
        datagrams = [decode(self._socket.recv(1 << 20)) for _ in range(2)]
        assert [d.kind for d in datagrams] == [Kind.START, Kind.END]
        return datagrams[0]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    if os.geteuid() and not os.environ.get("BATCHACCT_REQUIRE_SERVICES"):
        pytest.skip("the sensor believes only a policy that is root's")
    found = Listening(tmp_path_factory.mktemp("sensor"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("linkers"))


def in_file(path: Path) -> tuple[str | None, str | None]:
    notes = notes_of_file(path)
    found = signature(notes)
    return build_id(notes), found.uuid if found and found.allocatable else None


@pytest.mark.parametrize("linker", LINKERS)
def test_signed_programs_and_libraries(listening: Listening, folder: Path, tmp_path: Path, linker: str) -> None:
    need(f"ld.{linker}")
    (tmp_path / "l.c").write_text("int answer(void) { return 42; }\n")
    (tmp_path / "p.c").write_text("int answer(void); int main(void) { return answer(); }\n")
    use: list[str | Path] = [f"-fuse-ld={linker}", "-Wl,--build-id", "-B", folder]
    run("gcc", "-shared", "-fPIC", "l.c", *use, "-o", "libanswer.so", cwd=tmp_path)
    run("gcc", "p.c", *use, "-L.", "-lanswer", f"-Wl,-rpath,{tmp_path}", "-o", "p", cwd=tmp_path)
    seen = listening.start_of(tmp_path / "p")
    assert seen.program == str(tmp_path / "p")
    assert (seen.build_id, seen.signature) == in_file(tmp_path / "p")
    assert seen.signature
    assert seen.objects
    of_library = {Path(found.path).name: (found.build_id, found.signature) for found in seen.objects}
    for found in seen.objects:
        assert (found.build_id, found.signature) == in_file(Path(found.path)), found
    assert of_library["libanswer.so"][1]
    assert of_library["libc.so.6"] == (in_file(Path("/lib/x86_64-linux-gnu/libc.so.6"))[0], None)


@pytest.mark.parametrize("sample", ["note.ogrt.info", "note.xalt.info"])
@pytest.mark.parametrize("ours", [False, True])
def test_programs_that_others_signed(listening: Listening, folder: Path, tmp_path: Path, sample: str, ours: bool) -> None:
    """With a second signature by batchacct-ld that one counts, for both."""
    (tmp_path / "p.c").write_text("int main(void) { return 42; }\n")
    run("gcc", "-c", "p.c", cwd=tmp_path)
    section = f".{sample}"
    flags = ["--add-section", f"{section}={SAMPLES / sample}.bin", "--set-section-flags", f"{section}=alloc,readonly"]
    run("objcopy", *flags, "p.o", "q.o", cwd=tmp_path)
    use: list[str | Path] = ["-B", folder] if ours else []
    run("gcc", "-Wl,--build-id", *use, "q.o", "-o", "p", cwd=tmp_path)
    seen = listening.start_of(tmp_path / "p")
    assert (seen.build_id, seen.signature) == in_file(tmp_path / "p")
    found = signature(notes_of_file(tmp_path / "p"))
    assert found and found.kind == ("batchacct" if ours else sample.split(".")[1])
