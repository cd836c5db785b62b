"""The whole sensor within a program, under sanitizers, started with any arguments and environment."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from procacct.datagrams import Kind
from procacct.policy import Rule
from procacct.sensor.building import SOURCES
from tests.procacct.sensor.sensed import TIMEOUT_S, Sensor, compiled

MAIN = "#include <dlfcn.h>\nint main(int n, char **a) { if (n > 1) dlopen(a[1], RTLD_NOW); return 7; }"
texts = st.binary(max_size=60).map(lambda b: b.replace(b"\0", b""))
names = st.sampled_from(
    [b"SLURM_JOB_ID", b"LOADEDMODULES", b"HOME", b"A", b"TOKEN", b"JOB_ID", b"BATCHACCT_SENSOR", b"", b"_CONDOR_SLOT"]
)


@pytest.fixture(scope="module")
def sanitized(programs: Path, sensor_folder: Path) -> Path:
    parts = [str(path) for path in SOURCES.glob("*.c") if path.name != "freestanding.c"]
    places = [f'-DBATCHACCT_POLICY="{sensor_folder}/policy"', f'-DBATCHACCT_SOCKET="{sensor_folder}/sensor.sock"']
    options = ["-g", "-D_GNU_SOURCE", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{SOURCES}"]
    return compiled(programs, "sanitized", MAIN, *places, *options, *parts)


def _run(program: Path, arguments: list[bytes], environment: dict[bytes, bytes]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([program, *arguments], env=environment, capture_output=True, timeout=TIMEOUT_S, check=False)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arguments=st.lists(texts, max_size=6),
    environment=st.dictionaries(names | texts.filter(lambda b: b"=" not in b), texts, max_size=8),
)
def test_any_program(sensor: Sensor, sanitized: Path, arguments: list[bytes], environment: dict[bytes, bytes]) -> None:
    sensor.set_policy(arguments="redacted", environment=("*",), rules=(Rule("skip", "*/x", argument="*y*"),), opt_out="%h/%U")
    with sensor.listening() as received:
        done = _run(sanitized, arguments, {**environment, b"ASAN_OPTIONS": b"detect_leaks=0"})
    assert (done.returncode, done.stdout, done.stderr) == (7, b"", b"")
    assert [got.datagram.kind for got in received] == (
        [] if environment.get(b"BATCHACCT_SENSOR") == b"0" else [Kind.START, Kind.END]
    )


def test_a_library_loaded_later(sensor: Sensor, sanitized: Path, programs: Path) -> None:
    library = compiled(programs, "liblate.so", "int late(void) { return 0; }", "-shared", "-fPIC")
    with sensor.listening():
        done = _run(sanitized, [bytes(library)], {b"ASAN_OPTIONS": b"detect_leaks=0"})
    assert (done.returncode, done.stderr) == (7, b"")
    (end,) = sensor.of("sanitized", Kind.END)
    assert end.objects is not None and str(library) in {obj.path for obj in end.objects}


def test_no_daemon(sensor: Sensor, sanitized: Path) -> None:
    done = _run(sanitized, [], {b"ASAN_OPTIONS": b"detect_leaks=0"})
    assert (done.returncode, done.stderr) == (7, b"")
