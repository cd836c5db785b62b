"""The library itself: what it exports, depends on, maps and calls."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from procacct.sensor import build
from tests.procacct.sensor.sensed import BASE, Sensor, compiled, need_program

MOST_CALLS = 19
"""System calls of the sensor in one execution, both datagrams together."""
OLDEST_GLIBC = (2, 17)


def _lines(*command: str | Path) -> list[str]:
    return subprocess.run(
        [need_program(str(command[0])), *command[1:]], capture_output=True, text=True, check=True
    ).stdout.splitlines()


def test_it_exports_nothing(sensor: Sensor) -> None:
    assert [line for line in _lines("nm", "-D", "--defined-only", sensor.library) if line] == []


def test_it_calls_what_every_libc_has(sensor: Sensor) -> None:
    symbols = {line.split()[-1] for line in _lines("nm", "-D", sensor.library)}
    assert {symbol.partition("@")[0] for symbol in symbols} == {"dl_iterate_phdr", "getauxval", "gnu_get_libc_version"}
    for symbol in symbols:
        numbers = re.search(r"@GLIBC_(\d+)\.(\d+)", symbol)
        assert numbers and tuple(map(int, numbers.groups())) <= OLDEST_GLIBC


def test_it_depends_on_libc_alone(sensor: Sensor) -> None:
    needed = [line for line in _lines("readelf", "-dW", sensor.library) if "NEEDED" in line]
    assert len(needed) == 1 and "libc.so.6" in needed[0]


def test_it_is_small_and_not_executable_where_it_is_writable(sensor: Sensor) -> None:
    segments = [line.split() for line in _lines("readelf", "-lW", sensor.library) if re.match(r"\s+(LOAD|GNU_STACK|TLS)", line)]
    assert [segment[0] for segment in segments] == ["LOAD", "LOAD", "GNU_STACK"]
    assert not any("W" in segment[6:-1] and "E" in segment[6:-1] for segment in segments)
    assert sum(int(segment[5], 16) for segment in segments) < 128 << 10


def test_compiled_with_what_distributions_add(tmp_path: Path, sensor: Sensor, programs: Path) -> None:
    flags = "-O2 -g -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fcf-protection -fstack-clash-protection -Wp,-D_GLIBCXX_ASSERTIONS"
    path = build(tmp_path, cflags=flags)
    assert {line.split()[-1].partition("@")[0] for line in _lines("nm", "-D", path)} == {
        "dl_iterate_phdr",
        "getauxval",
        "gnu_get_libc_version",
    }


@pytest.mark.parametrize("flags", ["-O0", "-O3", "-Os", "-O2 -flto", "-O2 -march=native"])
def test_compiled_otherwise(tmp_path: Path, sensor: Sensor, flags: str) -> None:
    other = Sensor(sensor.folder, build(tmp_path, policy=sensor.policy, socket=sensor.socket, cflags=flags))
    with other.listening() as received:
        assert other.run(["/bin/echo", "x"]) == (0, b"x\n", b"")
    assert len(received) == 2


def test_for_32_bits(tmp_path: Path, sensor: Sensor, programs: Path) -> None:
    program = compiled(programs, "narrow", "int main(void) { return 5; }", "-m32")
    narrow = Sensor(sensor.folder, build(tmp_path, bits=32, policy=sensor.policy, socket=sensor.socket))
    with narrow.listening():
        assert narrow.run([program]) == (5, b"", b"")
    (start,) = narrow.of("narrow")
    assert start.pid and start.objects and start.realtime_ns > 1e18


def test_lib_of_the_loader_names_the_right_one(tmp_path: Path, sensor: Sensor, programs: Path) -> None:
    """LD_PRELOAD with $LIB in it, for programs of 32 and 64 bits."""
    wide, narrow = (
        compiled(programs, name, "int main(void) { return 5; }", option) for name, option in (("wide", "-m64"), ("narrow", "-m32"))
    )
    folders = {}
    for program, bits in ((wide, 64), (narrow, 32)):
        shown = subprocess.run(
            [need_program("strace"), "-e", "openat", "-E", f"LD_PRELOAD={tmp_path}/$LIB/x.so", program],
            capture_output=True,
            text=True,
            check=False,
        )
        found = re.search(rf"{tmp_path}/([^$]*)/x.so", shown.stderr)
        assert found is not None
        folders[bits] = tmp_path / found[1]
        build(folders[bits], bits=bits, policy=sensor.policy, socket=sensor.socket)
    with sensor.listening():
        for program in (wide, narrow):
            done = sensor.run([program], on=False, environment={"LD_PRELOAD": f"{tmp_path}/$LIB/libasan.so/libbatchacct_sensor.so"})
            assert done == (5, b"", b"")
    assert len(sensor.of("wide")) == len(sensor.of("narrow")) == 1


def _calls(sensor: Sensor, folder: Path, program: Path, preloaded: str, **environment: str) -> list[str]:
    log = folder / "strace"
    variables = [f"-E{name}={value}" for name, value in {"LD_PRELOAD": preloaded, **environment}.items()]
    command: list[str | Path] = ["strace", "-o", log, *variables, program]
    subprocess.run(command, env=BASE, check=True)
    return [line.partition("(")[0] for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if "(" in line]


def test_how_many_system_calls_it_adds(sensor: Sensor, programs: Path, tmp_path: Path) -> None:
    need_program("strace")
    program = compiled(programs, "trivial", "int main(void) { return 0; }")
    empty = compiled(programs, "libempty.so", "", "-shared", "-fPIC")
    with sensor.listening() as received:
        without = _calls(sensor, tmp_path, program, str(empty))
        switched_off = _calls(sensor, tmp_path, program, sensor.preload, BATCHACCT_SENSOR="0")
        assert received == []
        with_ = _calls(sensor, tmp_path, program, sensor.preload)
    assert len(received) == 2
    assert len(switched_off) < len(without), "fewer mappings than an empty library as a compiler makes it"
    assert len(with_) - len(switched_off) <= MOST_CALLS
    added = with_[len(switched_off) - 1 :]
    assert not set(added) & {"connect", "futex", "mmap", "brk", "fork", "clone", "kill", "rt_sigaction", "poll", "write"}


def test_closed_standard_descriptors_are_not_used(sensor: Sensor, programs: Path, tmp_path: Path) -> None:
    """The policy is read and the socket is written by others; what the system calls were given tells it."""
    need_program("strace")
    program = compiled(programs, "trivial", "int main(void) { return 0; }")
    shell = f"exec 0<&- 1>&- 2>&-; LD_PRELOAD={sensor.preload} exec {program}"
    with sensor.listening():
        subprocess.run(["strace", "-o", tmp_path / "log", "/bin/sh", "-c", shell], env=BASE, check=True)
    assert len(sensor.of("trivial")) == 1
    calls = (tmp_path / "log").read_text(encoding="utf-8", errors="replace")
    sent = re.findall(r"sendto\((\d+), ", calls)
    (read,) = re.findall(r'read\((\d+), "batchacct-policy', calls)
    assert len(sent) == 2 and all(int(number) > 2 for number in (*sent, read))
