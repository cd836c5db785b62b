"""`batchacct-ld` in real links: every linker that is installed, by gcc and g++; the programs run, and readelf agrees."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from procacct.elf_notes import build_id, notes_of_file, signatures
from procacct.link_line import read_link_line, why_unsigned
from procacct.registry import records
from tests.procacct.signing import ROOT, install, need, needs, run

pytestmark = needs("gcc", "ld", "readelf", "strip")
LINKERS = ("bfd", "gold", "lld", "mold")
PROGRAM = '#include <stdio.h>\nint main(void) { puts("ran"); return 7; }\n'
CPP = """
#include <iostream>
#include <stdexcept>
int main() {
    try { throw std::runtime_error("ran"); } catch (std::exception &e) { std::cout << e.what() << "\\n"; }
    return 7;
}
"""
LIBRARY = "int answer(void) { return 42; }\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Links to the wrapper."""
    return install(tmp_path_factory.mktemp("linkers"))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "p.c").write_text(PROGRAM)
    (tmp_path / "p.cc").write_text(CPP)
    (tmp_path / "l.c").write_text(LIBRARY)
    return tmp_path


def signature_of(path: Path, *, build_id_expected: bool = True) -> str:
    """The one signature of the file, which readelf must see as well."""
    (found,) = signatures(notes_of_file(path))
    assert found.allocatable
    assert (found.kind, found.section) == ("batchacct", ".note.batchacct.id")
    shown = run("readelf", "-nW", path).stdout
    assert shown.count("BATCHACCT") == 1
    assert found.uuid.encode().hex(" ") in shown
    if build_id_expected:
        assert f"Build ID: {build_id(notes_of_file(path))}" in shown
    return found.uuid


def stack_of(path: Path) -> str:
    (line,) = [line for line in run("readelf", "-lW", path).stdout.splitlines() if "GNU_STACK" in line]
    return line.split()[6]


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize(
    "words",
    [
        "gcc p.c",
        "gcc p.c -static",
        "gcc p.c -static-pie",
        "gcc p.c -no-pie -Wl,--gc-sections -ffunction-sections -s",
        "gcc p.c -fcf-protection=full -Wl,--as-needed -Wl,-z,now",
        "g++ p.cc -O2",
    ],
)
def test_programs(folder: Path, work: Path, linker: str, words: str) -> None:
    need(f"ld.{linker}")
    command = [*words.split(), f"-fuse-ld={linker}", "-Wl,--build-id", "-o"]
    if run(*command, "plain", cwd=work, status=None).returncode:
        pytest.skip(f"ld.{linker} cannot do {words} by itself")
    linked = run(*command, "signed", "-B", folder, cwd=work)
    assert (linked.stdout, linked.stderr) == ("", "")
    uuid = signature_of(work / "signed")
    done = run(work / "signed", status=7)
    assert done.stdout == "ran\n"
    assert stack_of(work / "signed") == stack_of(work / "plain") == "RW"
    assert properties_of(work / "signed") == properties_of(work / "plain")
    run("strip", "signed", cwd=work)
    assert signature_of(work / "signed") == uuid
    run(work / "signed", status=7)


def properties_of(path: Path) -> list[str]:
    """What the linker says of IBT, SHSTK and the processor: one object without it takes it from all."""
    return [line.strip() for line in run("readelf", "-nW", path).stdout.splitlines() if "Properties" in line]


@pytest.mark.parametrize("linker", LINKERS)
def test_properties_are_kept(folder: Path, tmp_path: Path, linker: str) -> None:
    """All inputs claim IBT and SHSTK: so must the output (crt files of some distributions do not, so without them)."""
    need(f"ld.{linker}")
    (tmp_path / "s.c").write_text("void _start(void) { for (;;) ; }\n")
    run("gcc", "-c", "-fcf-protection=full", "s.c", cwd=tmp_path)
    options = ["-m", "elf_x86_64"]
    if linker == "bfd":
        options += ["-z", "cet-report=error"]
    run(folder / f"ld.{linker}", *options, "--build-id", "s.o", "-o", "s", cwd=tmp_path)
    signature_of(tmp_path / "s")
    run(f"ld.{linker}", *options, "--build-id", "s.o", "-o", "plain", cwd=tmp_path)
    assert properties_of(tmp_path / "s") == properties_of(tmp_path / "plain")
    assert "IBT" in str(properties_of(tmp_path / "s"))


@pytest.mark.parametrize("features", ["full", "branch", "none"])
@pytest.mark.parametrize("words", ["-z cet-report=warning", "-zcet-report=warning", "-z now"])
def test_warnings_of_missing_properties_are_those_of_the_others(folder: Path, tmp_path: Path, features: str, words: str) -> None:
    """Our object has no code, and is not what lacks them; nor does it add what the others lack."""
    (tmp_path / "s.c").write_text("void _start(void) { for (;;) ; }\n")
    (tmp_path / "t.c").write_text("void t(void) { for (;;) ; }\n")
    run("gcc", "-c", f"-fcf-protection={features}", "s.c", cwd=tmp_path)
    run("gcc", "-c", "-fcf-protection=full", "t.c", cwd=tmp_path)
    options = [*words.split(), "s.o", "t.o", "-o"]
    plain = run(str(shutil.which("ld")), *options, "plain", cwd=tmp_path)
    ours = run(folder / "ld", *options, "signed", cwd=tmp_path)
    assert ours.stderr == plain.stderr
    assert ("warning" in plain.stderr) == (features != "full" and words != "-z now")
    assert properties_of(tmp_path / "signed") == properties_of(tmp_path / "plain")
    signature_of(tmp_path / "signed", build_id_expected=False)


@pytest.mark.parametrize("linker", LINKERS)
def test_shared_objects(folder: Path, work: Path, linker: str) -> None:
    need(f"ld.{linker}")
    use: list[str | Path] = [f"-fuse-ld={linker}", "-Wl,--build-id", "-B", folder]
    run("gcc", "-shared", "-fPIC", "l.c", *use, "-o", "liba.so", cwd=work)
    (work / "u.c").write_text("int answer(void); int main(void) { return answer(); }\n")
    run("gcc", "u.c", *use, "-L.", "-la", "-Wl,-rpath,$ORIGIN", "-o", "u", cwd=work)
    run(work / "u", status=42)
    assert signature_of(work / "liba.so") != signature_of(work / "u")
    assert stack_of(work / "liba.so") == "RW"


@pytest.mark.parametrize("linker", ["bfd", "gold"])
def test_link_time_optimisation(folder: Path, work: Path, linker: str) -> None:
    run("gcc", "-flto", "-O2", "-c", "p.c", "l.c", cwd=work)
    run("gcc", "-flto", "-O2", f"-fuse-ld={linker}", "-B", folder, "p.o", "l.o", "-o", "signed", cwd=work)
    signature_of(work / "signed")
    run(work / "signed", status=7)


@needs("clang")
@pytest.mark.parametrize("linker", ["bfd", "lld"])
def test_clang(folder: Path, work: Path, linker: str) -> None:
    run("clang", "-B", folder, f"-fuse-ld={linker}", "p.c", "-o", "p", cwd=work)
    signature_of(work / "p", build_id_expected=False)
    run(work / "p", status=7)
    run("clang", f"--ld-path={folder}/ld.{linker}", "p.c", "-o", "q", cwd=work)
    signature_of(work / "q", build_id_expected=False)


def test_debugging_information_in_a_file_of_its_own(folder: Path, work: Path) -> None:
    run("gcc", "-g", "-B", folder, "p.c", "-o", "signed", cwd=work)
    run("objcopy", "--only-keep-debug", "signed", "signed.debug", cwd=work)
    run("strip", "--strip-unneeded", "signed", cwd=work)
    signature_of(work / "signed")
    assert build_id(notes_of_file(work / "signed.debug")) == build_id(notes_of_file(work / "signed"))


@pytest.mark.parametrize(
    ("target", "emulation"),
    [("aarch64-linux-gnu", ""), ("powerpc64le-linux-gnu", ""), ("riscv64-linux-gnu", ""), ("", "elf_i386")],
    ids=str,
)
def test_other_machines(folder: Path, tmp_path: Path, target: str, emulation: str) -> None:
    prefix = f"{target}-" if target else ""
    need(f"{prefix}as")
    (tmp_path / "s.s").write_text('.globl _start\n_start:\n nop\n.section .note.GNU-stack,"",@progbits\n')
    run(f"{prefix}as", *(["--32"] if emulation else []), "s.s", "-o", "s.o", cwd=tmp_path)
    options = ["-m", emulation] if emulation else []
    linked = run(folder / f"{prefix}ld", *options, "--build-id", "-z", "noexecstack", "s.o", "-o", "s", cwd=tmp_path)
    assert linked.stderr == ""
    signature_of(tmp_path / "s")
    assert stack_of(tmp_path / "s") == "RW"


def test_what_is_never_signed(folder: Path, work: Path) -> None:
    """Object files again, tests of configure scripts and CMake, linker scripts, and where it is turned off."""
    run("gcc", "-c", "l.c", "p.c", cwd=work)
    run("gcc", "-B", folder, "-r", "-nostdlib", "l.o", "p.o", "-o", "both.o", cwd=work)
    assert signatures(notes_of_file(work / "both.o")) == []
    for name in ("conftest", "_configtest", "cmTC_4f2a1", "module.ko"):
        run("gcc", "-B", folder, "p.o", "-o", name, cwd=work)
        assert signatures(notes_of_file(work / name)) == []
    for off in ("off", "no", "0"):
        run("gcc", "-B", folder, "p.o", "-o", "off", cwd=work, environment={"BATCHACCT_LD": off})
        assert signatures(notes_of_file(work / "off")) == []
    traced = run("gcc", "-B", folder, "p.o", "-Wl,-t", "-o", "traced", cwd=work)
    assert "/proc/self/fd" not in traced.stdout
    run("gcc", "-B", folder, "p.o", "-o", "on", cwd=work)
    signature_of(work / "on")


@pytest.mark.parametrize(
    ("words", "signed"),
    [
        (["-o", "x", "a.o"], True),
        (["-shared", "-soname", "libx.so", "-o", "libx.so", "a.o"], True),
        (["-Ttext=0x1000", "-rpath=/x", "-r.o"], True),
        (["-Ttext", "0x1000", "a.o"], True),
        (["-r", "a.o"], False),
        (["--relocatable", "a.o"], False),
        (["-o", "-r", "a.o"], True),
        (["-Tscript.ld", "a.o"], False),
        (["--script=s", "a.o"], False),
        (["--oformat", "binary", "a.o"], False),
        (["--oformat=elf64-x86-64", "a.o"], True),
        (["-oconftest", "a.o"], False),
        (["--output=build/meson-private/tmp/x", "a.o"], False),
        (["-o", "/dev/null", "a.o"], False),
        (["-Map", "m", "--print-map"], False),
        (["--build-id=none", "a.o"], False),
        (["--build-id=none", "--build-id", "a.o"], True),
        (["--build-id=sha1", "-now", "a.o"], True),
        (["-N", "a.o"], False),
        (["-no-pie", "-nostdlib", "a.o"], True),
    ],
    ids=str,
)
def test_options(words: list[str], signed: bool) -> None:
    assert (why_unsigned(read_link_line(words)) is None) == signed


def test_response_files(folder: Path, work: Path) -> None:
    run("gcc", "-c", "p.c", "-o", "with blank.o", cwd=work)
    (work / "args").write_text('"with blank.o" -o "the \\"program\\""\n-Wl,--build-id @more\n')
    (work / "more").write_text("-Wl,-z,now 'l.c'")
    run("gcc", "-B", folder, "@args", cwd=work)
    signature_of(work / 'the "program"')
    (work / "conf").write_text("-o conftest with\\ blank.o")
    run("gcc", "-B", folder, "@conf", cwd=work)
    assert signatures(notes_of_file(work / "conftest")) == []


@pytest.mark.parametrize("sources", [["absent.c.o"], ["p.c", "-labsent"], ["l.c"], ["p.c", "p2.c"]], ids=" ".join)
def test_a_link_that_fails_fails_alike(folder: Path, work: Path, sources: list[str]) -> None:
    """Same status, same words on standard error, but for the names of temporary files."""
    shutil.copy(work / "p.c", work / "p2.c")
    plain = run("gcc", "-save-temps", *sources, cwd=work, status=None)
    ours = run("gcc", "-save-temps", "-B", folder, *sources, cwd=work, status=None)
    assert plain.returncode == ours.returncode == 1
    assert ours.stderr.replace(f" {folder}", "") == plain.stderr
    assert not list(work.glob("*batchacct*"))


def test_warnings_are_shown(folder: Path, work: Path) -> None:
    (work / "w.c").write_text("#include <stdio.h>\nint main(void) { char b[99]; return tmpnam(b) != 0; }\n")
    run("gcc", "-c", "w.c", cwd=work)
    plain = run("gcc", "w.o", "-o", "w", cwd=work)
    ours = run("gcc", "-B", folder, "w.o", "-o", "w", cwd=work)
    assert ours.stderr == plain.stderr != ""
    signature_of(work / "w")


def stand_in(folder: Path, script: str) -> Path:
    """A linker that does as the script says."""
    folder.mkdir()
    path = folder / "ld"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_a_linker_that_refuses_our_object_links_without_it(folder: Path, work: Path) -> None:
    refusing = stand_in(
        work / "odd", 'for w in "$@"; do case $w in /proc/self/*) echo no >&2; exit 3;; esac; done\nexec /usr/bin/ld "$@"'
    )
    done = run("gcc", "-B", folder, "p.c", "-o", "p", cwd=work, environment={"BATCHACCT_LD_REAL": str(refusing)})
    assert done.stderr == ""
    run(work / "p", status=7)
    assert signatures(notes_of_file(work / "p")) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1])
def test_a_linker_that_is_killed(folder: Path, work: Path, number: signal.Signals) -> None:
    """How it ended is how we end; a linker that crashes is run again without the object, and crashes by itself."""
    run("gcc", "-c", "p.c", cwd=work)
    killed = stand_in(work / "odd", f"kill -{int(number)} $$")
    done = run(folder / "ld", "p.o", cwd=work, environment={"BATCHACCT_LD_REAL": str(killed)}, status=None)
    assert done.returncode == -number


def test_the_linker_is_asked_to_end_when_we_are(folder: Path, work: Path) -> None:
    run("gcc", "-c", "p.c", cwd=work)
    slow = stand_in(work / "odd", "echo $$ >pid; exec sleep 60")
    environment = {**os.environ, "BATCHACCT_LD_REAL": str(slow)}
    with subprocess.Popen([folder / "ld", "p.o"], cwd=work, env=environment) as ours:
        until = time.monotonic() + 60
        while not (work / "pid").exists() or not (work / "pid").read_text().strip():
            assert time.monotonic() < until
            time.sleep(0.02)
        time.sleep(0.1)
        ours.send_signal(signal.SIGTERM)
        assert ours.wait(20) == -signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int((work / "pid").read_text()), 0)


@pytest.mark.parametrize("broken", ["python", "packages", "home"])
def test_a_broken_installation_links_all_the_same(folder: Path, work: Path, broken: str) -> None:
    """No Python any more, no batchacct any more, or an environment in which another Python would not start."""
    mine = work / "linkers"
    shutil.copytree(folder, mine, symlinks=True)
    stub = mine / "batchacct-ld"
    text = stub.read_text()
    if broken == "python":
        text = text.replace(f"python={sys.executable}\n", "python=/nowhere/python3\n")
    if broken == "packages":
        text = text.replace(f"packages={ROOT}\n", "packages=/nowhere\n")
    assert text != stub.read_text() or broken == "home"
    stub.write_text(text)
    environment = {"PYTHONHOME": "/nowhere", "PYTHONPATH": "/nowhere"} if broken == "home" else {}
    done = run("gcc", "-B", mine, "p.c", "-o", "p", cwd=work, environment=environment)
    assert done.stderr == ""
    run(work / "p", status=7)
    assert len(signatures(notes_of_file(work / "p"))) == (broken == "home")


@pytest.mark.parametrize("named", ["/usr/bin/ld.gold", "ld.gold"])
def test_a_linker_that_is_named(folder: Path, work: Path, named: str) -> None:
    """Signing or not, it is the one that links."""
    need("ld.gold")
    for off in ({}, {"BATCHACCT_LD": "off"}):
        done = run(folder / "ld", "--version", environment={"BATCHACCT_LD_REAL": named, **off})
        assert done.stdout.startswith("GNU gold")


def test_wrappers_that_find_each_other(folder: Path, work: Path) -> None:
    """Two installations in PATH, and another wrapper that takes the next `ld` of PATH: each link ends, and is signed once."""
    second = work / "second"
    shutil.copytree(folder, second, symlinks=True)
    other = stand_in(work / "other", f'exec {second}/ld "$@"')
    path = f"{folder}:{other.parent}:{second}:{os.environ['PATH']}"
    run("gcc", "p.c", "-o", "p", cwd=work, environment={"PATH": path})
    signature_of(work / "p")


def test_the_same_inputs_give_the_same_file(folder: Path, work: Path) -> None:
    """As a comparison of a bootstrap needs it: in another folder, under other temporary names, byte for byte."""
    made = []
    for place in ("one", "two"):
        (work / place).mkdir()
        shutil.copy(work / "p.c", work / place)
        for how, name in (({"SOURCE_DATE_EPOCH": "1"}, "a"), ({"BATCHACCT_LD_UUID": "inputs"}, "b")):
            run("gcc", "-B", folder, "p.c", "-o", name, cwd=work / place, environment=how)
            made.append((name, (work / place / name).read_bytes()))
    assert len({content for name, content in made if name == "a"}) == 1
    assert len(set(made)) == 2
    uuid = signature_of(work / "one" / "a")
    (work / "p.c").write_text(PROGRAM.replace("7", "8"))
    run("gcc", "-B", folder, "p.c", "-o", "a", cwd=work, environment={"SOURCE_DATE_EPOCH": "1"})
    assert signature_of(work / "a") != uuid
    run("gcc", "-B", folder, "p.c", "-o", "a", cwd=work, environment={"SOURCE_DATE_EPOCH": "1", "BATCHACCT_LD_UUID": "random"})
    first = signature_of(work / "a")
    run("gcc", "-B", folder, "p.c", "-o", "a", cwd=work)
    assert signature_of(work / "a") != first
    given = "00000000-0000-4000-8000-000000000001"
    run("gcc", "-B", folder, "p.c", "-o", "a", cwd=work, environment={"BATCHACCT_LD_UUID": given})
    assert signature_of(work / "a") == given


@pytest.mark.parametrize("linker", ["bfd", "lld", "mold"])
def test_lists_of_dependencies_do_not_name_our_object(folder: Path, work: Path, linker: str) -> None:
    """CMake has the linker write them, and would link anew each time."""
    need(f"ld.{linker}")
    run("gcc", "-c", "p.c", cwd=work)
    command = ["gcc", f"-fuse-ld={linker}", "p.o", "-o", "p", "-Wl,--dependency-file=list"]
    run(*command, cwd=work)
    plain = (work / "list").read_bytes()
    run(*command, "-B", folder, cwd=work)
    signature_of(work / "p")
    assert (work / "list").read_bytes() == plain


def test_record(folder: Path, work: Path) -> None:
    """Everything about the link stands in the record, and nothing of it in the program."""
    place = work / "records"
    place.mkdir()
    environment = {"BATCHACCT_SIGNATURES": str(place), "LOADEDMODULES": "gcc/12.2.0:openmpi/4.1.5"}
    run("gcc", "-B", folder, "p.c", "-o", "p", cwd=work, environment=environment)
    (file,) = place.iterdir()
    (line,) = file.read_bytes().splitlines()
    record = json.loads(line)
    assert record["uuid"] == signature_of(work / "p")
    assert record["build_id"] == build_id(notes_of_file(work / "p"))
    assert record["sha256"] == run("sha256sum", work / "p").stdout.split()[0]
    assert record["path"] == str(work / "p")
    assert record["compile_line"][-3:] == ["p.c", "-o", "p"]
    assert "gcc" in record["compiler"]
    assert "-o" in record["link_line"]
    assert record["linker"].endswith("/ld")
    assert record["modules"] == ["gcc/12.2.0", "openmpi/4.1.5"]
    assert (record["made_by"], record["user_id"], record["host"]) == ("ld", os.getuid(), os.uname().nodename)
    assert abs(record["at"] - time.time()) < 60
    content = (work / "p").read_bytes()
    assert b"openmpi" not in content
    assert str(work).encode() not in content


def test_records_of_links_at_the_same_time(folder: Path, work: Path) -> None:
    """As `make -j` does it: each is a line of its own."""
    (work / "records").mkdir()
    run("gcc", "-c", "p.c", cwd=work)
    environment = {**os.environ, "BATCHACCT_SIGNATURES": str(work / "records")}
    links = [subprocess.Popen(["gcc", "-B", folder, "p.o", "-o", f"p{n}"], cwd=work, env=environment) for n in range(6)]
    assert [link.wait() for link in links] == [0] * 6
    found = {str(one["path"]): one["uuid"] for one in records(work / "records")}
    assert found == {str(work / f"p{n}"): signature_of(work / f"p{n}", build_id_expected=False) for n in range(6)}


def test_no_record_where_it_cannot_be_kept(folder: Path, work: Path) -> None:
    for place in (work / "absent" / "folder", Path("/dev/full"), work / "p.c" / "x"):
        done = run("gcc", "-B", folder, "p.c", "-o", "p", cwd=work, environment={"BATCHACCT_SIGNATURES": str(place)})
        assert done.stderr == ""
        signature_of(work / "p")


def test_links_for_what_is_installed(folder: Path) -> None:
    for name in ("ld", "ld.bfd", "ld.gold", "ld.lld", "ld.mold", "mold"):
        assert (folder / name).exists() == (shutil.which(name) is not None), name
    assert run(folder / "ld", "--version").stdout == run("ld", "--version").stdout
    done = run(sys.executable, "-m", "procacct.linker", "--help", environment={"PYTHONPATH": str(ROOT)})
    assert "--install" in done.stdout


def test_an_absent_linker_is_told(folder: Path, tmp_path: Path) -> None:
    for named, status in (("ld.absent", 127), (str(tmp_path / "ld"), 126)):
        done = run(folder / "ld", "x.o", environment={"BATCHACCT_LD_REAL": named}, status=status)
        assert done.stderr.startswith("batchacct-ld: ")
        assert done.stderr.endswith(": set BATCHACCT_LD_REAL\n")
