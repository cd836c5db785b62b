"""acc_run, acc_bash, `batchacct procs sensor`, and finding the library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from procacct.running import preloading
from procacct.sensor import NAME, building, library, preload_path
from procacct.sensor.command import sensor as command
from tests.procacct.sensor.sensed import BASE, Sensor

ROOT = Path(__file__).parents[3]


def run(sensor: Sensor, function: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.argv[0] = '{function}'; from procacct.running import {function}; {function}()"
    env = {**BASE, "PYTHONPATH": str(ROOT), "BATCHACCT_SENSOR_LIBRARY": sensor.preload, **environment}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_command_is_recorded_and_its_own(sensor: Sensor) -> None:
    with sensor.listening():
        done = run(sensor, "acc_run", "sh", "-c", "echo out; echo err >&2; exit 42")
    assert (done.returncode, done.stdout, done.stderr) == (42, "out\n", "err\n")
    assert len(sensor.of("dash") + sensor.of("bash") + sensor.of("sh")) == 1


def test_bash_with_arguments(sensor: Sensor) -> None:
    with sensor.listening():
        done = run(sensor, "acc_bash", "-c", "/bin/true; echo $0 $1", "zero", "one")
    assert (done.returncode, done.stdout, done.stderr) == (0, "zero one\n", "")
    assert len(sensor.of("true")) == len(sensor.of("bash")) == 1


def test_signals_are_the_commands_own(sensor: Sensor) -> None:
    assert run(sensor, "acc_run", "sh", "-c", "kill -TERM $$").returncode == -15
    assert run(sensor, "acc_run", "bash", "-c", "yes | head -1; echo ${PIPESTATUS[0]}").stdout == "y\n141\n"


@pytest.mark.parametrize(("name", "status"), [("nosuchprogram", 127), ("/etc/passwd", 126), ("/nonexistent/x", 127)])
def test_what_cannot_be_run(sensor: Sensor, name: str, status: int) -> None:
    done = run(sensor, "acc_run", name)
    assert done.returncode == status
    assert done.stderr.startswith(f"acc_run: {name}: ")


def test_usage(sensor: Sensor) -> None:
    assert run(sensor, "acc_run").returncode == 2
    assert run(sensor, "acc_run", "--help").stdout.startswith("Usage: acc_run COMMAND")
    assert run(sensor, "acc_run", "--", "printf", "%s", "--help").stdout == "--help"


def test_the_environment_is_changed_by_nothing_else(sensor: Sensor) -> None:
    given = {**BASE, "PYTHONPATH": str(ROOT), "BATCHACCT_SENSOR_LIBRARY": sensor.preload, "A": "b\nc"}
    done = run(sensor, "acc_run", "env", "-0", A="b\nc")
    assert dict(v.split("=", 1) for v in done.stdout.split("\0") if v) == {**given, "LD_PRELOAD": sensor.preload}


def test_preloaded_libraries_stay_before_it(sensor: Sensor) -> None:
    assert preloading(b"", b"/s.so") == b"/s.so"
    assert preloading(b"/a.so /b.so", b"/s.so") == b"/a.so:/b.so:/s.so"
    assert preloading(b"/s.so:/a.so", b"/s.so") == b"/s.so:/a.so"
    done = run(sensor, "acc_run", "bash", "-c", "echo $LD_PRELOAD", LD_PRELOAD=str(sensor.library))
    assert done.stdout == f"{sensor.library}:{sensor.preload}\n"


def test_the_library_is_built_where_it_is_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "FOLDERS", (tmp_path / "none",))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = library()
    made = first.stat().st_mtime_ns
    assert first.parent.parent == tmp_path / "cache" / "batchacct"
    assert library() == first and first.stat().st_mtime_ns == made
    assert list(first.parent.parent.iterdir()) == [first.parent]
    assert preload_path(first) == first.parent / "libasan.so" / NAME
    (first.parent / "libasan.so").unlink()
    assert preload_path(first) == first


def test_without_a_compiler_the_command_runs_and_it_is_said(sensor: Sensor, tmp_path: Path) -> None:
    code = "import sys, pathlib; from procacct.sensor import building; building.FOLDERS = (pathlib.Path('/none'),) * 2; "
    code += "from procacct.running import run; sys.argv[0] = 'acc_run'; run(['/bin/echo', 'ran'])"
    env = {"PATH": "/nonexistent", "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert "not recorded" in done.stderr and "Install make and a C compiler" in done.stderr


def test_the_command_builds(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["--build", str(tmp_path / "a")])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{tmp_path}/a/libasan.so/{NAME}\n"
    assert "/usr/$LIB/batchacct/libasan.so/" in done.stderr
    done = CliRunner().invoke(command, ["--build", str(tmp_path / "b"), "--bits", "64", "--policy", "/x/policy"])
    assert done.exit_code == 0 and b"/x/policy\0" in (tmp_path / "b" / NAME).read_bytes()
