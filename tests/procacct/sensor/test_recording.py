"""What the sensor says of a program, and under which policy it says what."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from procacct.datagrams import Flags, Kind
from procacct.policy import Rule
from tests.procacct.sensor.sensed import BASE, Sensor, bound, compiled, is_root, need, need_program

SIGNATURE = "0f8fad5b-d9cb-469f-a165-70867728950e"


def test_a_program_is_told_at_its_start_and_end(sensor: Sensor) -> None:
    with sensor.listening() as received:
        child = subprocess.Popen(["/bin/echo", "x"], env={**BASE, "LD_PRELOAD": sensor.preload}, stdout=subprocess.DEVNULL)
        child.wait()
    start, end = (got.datagram for got in received)
    assert (start.kind, end.kind) == (Kind.START, Kind.END)
    assert start.pid == end.pid == received[0].pid == child.pid
    assert start.ppid == os.getpid()
    assert (start.uid, start.gid) == (os.getuid(), os.getgid())
    assert start.program == str(Path("/bin/echo").resolve())
    assert start.arguments == ("/bin/echo",)
    assert start.start_monotonic_ns == start.monotonic_ns == end.start_monotonic_ns < end.monotonic_ns
    assert 0 < end.realtime_ns - start.realtime_ns < 60e9
    assert (start.weight, start.flags, start.dropped, end.dropped) == (1, 0, 0, 0)
    assert end.usage is not None and end.usage.memory_kib > 500 and end.usage.minor_faults > 10
    assert end.objects is None and start.objects is not None
    assert [obj.path.rsplit("/")[-1].partition(".")[0] for obj in start.objects] == ["libc", "ld-linux-x86-64"]


def test_build_ids_are_those_of_the_files(sensor: Sensor) -> None:
    with sensor.listening():
        sensor.run(["/bin/echo"])
    (start,) = sensor.of("echo")
    assert start.objects is not None and start.program is not None
    for path, build_id in ((start.program, start.build_id), *((obj.path, obj.build_id) for obj in start.objects)):
        notes = subprocess.run([need_program("readelf"), "-n", path], capture_output=True, text=True, check=True).stdout
        assert f"Build ID: {build_id}" in notes


NOTES = {
    "batchacct": (0x42434154, b"BATCHACCT\0", SIGNATURE.encode()),
    "ogrt": (0x4F475254, b"OGRT\0", b"\1" + SIGNATURE.encode() + b"\0"),
    "xalt": (0x746C6158, b"XALT\0", b"\2XALT_Link_Info\0<XALT_Version>%%2%%\0<Build_UUID>%%" + SIGNATURE.encode() + b"%%\0"),
}


def _note(folder: Path, name: str, before: bytes) -> Path:
    """The source of an object with the note, and what stands before it in the same section."""
    number, owner, descriptor = NOTES[name]

    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 4)

    sizes = b"".join(value.to_bytes(4, "little") for value in (len(owner), len(descriptor), number))
    data = before + sizes + padded(owner) + padded(descriptor)
    source = folder / f"note-{name}.s"
    octets = ",".join(map(str, data))
    source.write_text(f'.section .note.test.{name},"a",@note\n.p2align 2\n.byte {octets}\n.section .note.GNU-stack,"",@progbits\n')
    return source


@pytest.mark.parametrize("name", NOTES)
def test_signatures_of_programs_and_libraries(sensor: Sensor, programs: Path, name: str) -> None:
    other = (3).to_bytes(4, "little") + (5).to_bytes(4, "little") + (9).to_bytes(4, "little") + b"XY\0\0" + b"12345\0\0\0"
    note = _note(programs, name, other)
    library = compiled(programs, f"libsigned-{name}.so", "int f(void) { return 0; }", "-shared", "-fPIC", str(note))
    program = compiled(programs, f"signed-{name}", "int f(void); int main(void) { return f(); }", str(library), str(note))
    with sensor.listening():
        assert sensor.run([program]).status == 0
    (start,) = sensor.of(program.name)
    assert start.signature == SIGNATURE and start.build_id
    assert start.objects is not None
    assert {obj.signature for obj in start.objects if obj.path == str(library)} == {SIGNATURE}
    assert {obj.signature for obj in start.objects if obj.path != str(library)} == {None}


def test_notes_made_elsewhere_are_read(sensor: Sensor, programs: Path) -> None:
    for name, expected in (("note.ogrt.info", 36), ("note.xalt.info", 36)):
        sample = Path(__file__).parents[1] / "samples" / f"{name}.bin"
        octets = ",".join(map(str, sample.read_bytes()))
        source = programs / f"{name}.s"
        source.write_text(f'.section .{name},"a",@note\n.p2align 2\n.byte {octets}\n.section .note.GNU-stack,"",@progbits\n')
        program = compiled(programs, f"with-{name}", "int main(void) { return 0; }", str(source))
        with sensor.listening():
            sensor.run([program])
        (start,) = sensor.of(program.name)
        assert start.signature is not None and len(start.signature) == expected
        assert start.signature.encode() in sample.read_bytes()


BAD_NOTES = {
    "name too long": (0xFFFFFFFF, 4, 3),
    "descriptor too long": (4, 0xFFFFFFF0, 3),
    "both": (0x7FFFFFFF, 0x7FFFFFFF, 0x42434154),
    "empty": (0, 0, 0),
}


@pytest.mark.parametrize("what", BAD_NOTES)
def test_notes_with_wrong_sizes(sensor: Sensor, programs: Path, what: str) -> None:
    source = programs / f"bad-{what.replace(' ', '-')}.s"
    octets = ",".join(map(str, b"".join(value.to_bytes(4, "little") for value in BAD_NOTES[what]) + b"GNU\0"))
    source.write_text(f'.section .note.test.bad,"a",@note\n.p2align 2\n.byte {octets}\n.section .note.GNU-stack,"",@progbits\n')
    program = compiled(programs, f"bad-{what.replace(' ', '-')}", "int main(void) { return 0; }", str(source))
    with sensor.listening():
        assert sensor.run([program]) == (0, b"", b"")
    assert len(sensor.of(program.name)) == 1


def test_objects_loaded_later_are_told_at_the_end(sensor: Sensor, programs: Path) -> None:
    later = compiled(programs, "liblater.so", "int later(void) { return 0; }", "-shared", "-fPIC")
    program = compiled(programs, "loads", "#include <dlfcn.h>\nint main(int n, char **a) { return !dlopen(a[1], RTLD_NOW); }")
    with sensor.listening():
        assert sensor.run([program, later]).status == 0
        assert sensor.run([program, "./programs/liblater.so"]).status == 0
    for start, end in zip(sensor.of("loads"), sensor.of("loads", Kind.END), strict=True):
        assert start.objects is not None and end.objects is not None
        assert len(end.objects) == len(start.objects) + 1
        assert [os.path.normpath(obj.path) for obj in end.objects if obj not in start.objects] == [str(later)]


def _loading_many(programs: Path) -> tuple[Path, list[Path]]:
    """A program that loads the libraries it is given, and many of them."""
    one = compiled(programs, "libone.so", "int f(void) { return 0; }", "-shared", "-fPIC")
    folder = programs / ("x" * 200)
    folder.mkdir(exist_ok=True)
    for number in range(320):
        if not (folder / f"lib{number}.so").exists():
            shutil.copy(one, folder / f"lib{number}.so")
    loads = "#include <dlfcn.h>\nint main(int n, char **a) { while (*++a) if (!dlopen(*a, RTLD_NOW)) return 1; return 0; }"
    return compiled(programs, "loads-many", loads), sorted(folder.iterdir())


def test_many_objects(sensor: Sensor, programs: Path) -> None:
    """More than a datagram takes: it says that they are cut."""
    program, libraries = _loading_many(programs)
    with sensor.listening():
        assert sensor.run([program, *libraries]).status == 0
    (end,) = sensor.of("loads-many", Kind.END)
    assert end.flags == Flags.OBJECTS_CUT and end.objects is not None and 150 < len(end.objects) < 320


def test_job_variables_modules_and_nothing_else(sensor: Sensor) -> None:
    given = {
        "SLURM_JOB_ID": "77",
        "SLURM_PROCID": "3",
        "PBS_JOBID": "1[2].srv",
        "LSB_JOBINDEX": "0",
        "JOB_ID": "5",
        "SGE_CELL": "default",
    }
    given |= {"_CONDOR_JOB_AD": "/x/.job.ad", "OMPI_COMM_WORLD_RANK": "1", "PMI_SIZE": "8", "GRID_GLOBAL_JOBID": "gsiftp://x/1"}
    others = {"SLURM_JOB_USER_TOKEN": "secret", "QUEUES": "x", "DB_PASSWORD": "secret", "LOADEDMODULES": "gcc/12:root/6.30"}
    with sensor.listening():
        sensor.run(["/bin/true"], environment={**given, **others})
    (start,) = sensor.of("true")
    assert dict(start.job_variables) == given
    assert start.modules == ("gcc/12", "root/6.30")
    assert start.environment == {}


def test_allowed_environment(sensor: Sensor) -> None:
    sensor.set_policy(environment=("OMP_NUM_THREADS", "EB*", "URL", "API_TOKEN", "LONG", "EMPTY"))
    given = {"OMP_NUM_THREADS": "4", "OMP_NUM_THREADSX": "5", "EBROOTGCC": "/sw", "EMPTY": "", "LONG": "x" * 5000}
    with sensor.listening():
        sensor.run(["/bin/true"], environment={**given, "URL": "https://me:geheim@host/x", "API_TOKEN": "geheim"})
    (start,) = sensor.of("true")
    told = dict(start.environment)
    assert (told.pop("URL"), told.pop("API_TOKEN")) == ("https://me:***@host/x", "***")
    assert set(told.pop("LONG")) == {"x"} and start.flags == Flags.ENVIRONMENT_CUT
    assert told == {"OMP_NUM_THREADS": "4", "EBROOTGCC": "/sw", "EMPTY": ""}


ARGUMENTS = ["/bin/echo", "--user=me", "--password", "geheim", "", "--token=geheim2", "x y"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("none", None),
        ("program", ("/bin/echo",)),
        ("redacted", ("/bin/echo", "--user=me", "--password", "***", "", "--token=***", "x y")),
        ("all", tuple(ARGUMENTS)),
    ],
)
def test_arguments_as_the_policy_says(sensor: Sensor, arguments: str, told: tuple[str, ...] | None) -> None:
    sensor.set_policy(arguments=arguments)
    with sensor.listening():
        sensor.run(ARGUMENTS)
    assert [start.arguments for start in sensor.of("echo")] == [told]


def test_rules(sensor: Sensor) -> None:
    rules = (
        Rule("keep", "*/echo", argument="kept*"),
        Rule("skip", "*/echo"),
        Rule("skip", "*/ba?h", argument="conftest*"),
    )
    sensor.set_policy(rules=rules)
    with sensor.listening():
        sensor.run(["/bin/echo", "x"])
        sensor.run(["/bin/echo", "x", "kept/it"])
        sensor.run(["/bin/bash", "-c", ":", "conftest.sh"])
        sensor.run(["/bin/bash", "-c", ":"])
    assert len(sensor.of("echo")) == len(sensor.of("echo", Kind.END)) == 1
    assert len(sensor.of("bash")) == 1


def test_sampling_has_its_weight(sensor: Sensor) -> None:
    """200 executions, one of four: 50, with a standard deviation of 6; start and end together."""
    sensor.set_policy(rules=(Rule("sample", "*/true", one_of=4),))
    with sensor.listening() as received:
        sensor.run(["/bin/bash", "-c", "for i in {1..200}; do /bin/true; done"])
    starts = sensor.of("true")
    assert 20 <= len(starts) <= 80
    assert len(sensor.of("true", Kind.END)) == len(starts)
    assert {got.datagram.weight for got in received if got.datagram.pid in {start.pid for start in starts}} == {4}


def test_switches(sensor: Sensor) -> None:
    with sensor.listening() as received:
        sensor.run(["/bin/true"], environment={"BATCHACCT_SENSOR": "0"})
        sensor.set_policy(active=False)
        sensor.run(["/bin/true"])
        assert received == []
        sensor.set_policy()
        sensor.run(["/bin/true"], environment={"BATCHACCT_SENSOR": "1"})
    assert len(received) == 2


def test_opting_out(sensor: Sensor, tmp_path: Path) -> None:
    with sensor.listening() as received:
        for pattern, file in (("%h/.no-sensor", ".no-sensor"), (f"{tmp_path}/out/%U", f"out/{os.getuid()}")):
            sensor.set_policy(opt_out=pattern)
            path = tmp_path / file
            sensor.run(["/bin/echo"], environment={"HOME": str(tmp_path)})
            path.parent.mkdir(exist_ok=True)
            path.touch()
            sensor.run(["/bin/true"], environment={"HOME": str(tmp_path)})
        if is_root:
            os.chown(path, 12345, -1)
            sensor.run(["/bin/cat"])
    assert {got.datagram.program for got in received if got.datagram.kind == Kind.START} == {
        str(Path(f"/bin/{name}").resolve()) for name in ("echo", *(("cat",) if is_root else ()))
    }


@pytest.mark.parametrize("how", ["foreign", "writable", "long", "cut", "nonsense", "folder", "link"])
def test_a_policy_that_cannot_be_trusted_is_obeyed_by_doing_nothing(sensor: Sensor, how: str, tmp_path: Path) -> None:
    text = sensor.policy.read_bytes()
    if how == "foreign":
        need("root", is_root)
        os.chown(sensor.policy, 12345, -1)
    elif how == "writable":
        sensor.policy.chmod(0o646)
    elif how == "folder":
        sensor.policy.unlink()
        sensor.policy.mkdir()
    elif how == "link":
        shutil.move(sensor.policy, tmp_path / "policy")
        sensor.policy.symlink_to(tmp_path / "policy")
    else:
        sensor.policy.write_bytes({"long": text + b"x" * 9000, "cut": text[:-4], "nonsense": b"\0\xff\n" * 50}[how])
    with sensor.listening() as received:
        assert sensor.run(["/bin/echo", "x"]) == (0, b"x\n", b"")
    assert received == []
    if how == "folder":
        sensor.policy.rmdir()


def test_without_a_policy_the_built_in_one_holds(sensor: Sensor) -> None:
    sensor.policy.unlink()
    with sensor.listening():
        sensor.run(["/bin/echo", "x"])
    assert [start.arguments for start in sensor.of("echo")] == [("/bin/echo",)]


def test_a_dropped_start_is_told_at_the_end(sensor: Sensor, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with subprocess.Popen(
        ["/bin/bash", "-c", f"echo; while [ ! -e {go} ]; do read -t 0.01 <> <(:); done"],
        env={**BASE, "LD_PRELOAD": sensor.preload},
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with sensor.listening() as received:
            go.touch()
            child.wait()
    ends = [got.datagram for got in received if got.pid == child.pid]
    assert [(end.kind, end.flags, end.dropped) for end in ends] == [(Kind.END, Flags.START_DROPPED, 1)]


def test_a_full_queue_drops_and_does_not_block(sensor: Sensor) -> None:
    with bound(sensor.socket, queue=4) as taking:
        assert sensor.run(["/bin/bash", "-c", "for i in {1..50}; do /bin/true; done; echo done"]).output == b"done\n"
        taking.setblocking(False)
        count = 0
        with pytest.raises(BlockingIOError):
            while taking.recv(1 << 17):
                count += 1
    assert 4 <= count <= 6


def test_a_datagram_too_large_for_the_machine_goes_without_objects(sensor: Sensor, programs: Path) -> None:
    need("root", is_root)
    limit = Path("/proc/sys/net/core/wmem_default")
    before = limit.read_text(encoding="ascii")
    program, libraries = _loading_many(programs)
    with sensor.listening():
        limit.write_text("4608", encoding="ascii")
        try:
            sensor.run([program, *libraries[:100]])
        finally:
            limit.write_text(before, encoding="ascii")
    (end,) = sensor.of("loads-many", Kind.END)
    assert end.flags == Flags.OBJECTS_CUT and end.objects is None and end.usage is not None


def test_two_copies_of_the_sensor_are_one(sensor: Sensor, sensor_folder: Path) -> None:
    copy = sensor_folder / "copy.so"
    shutil.copy(sensor.library, copy)
    with sensor.listening() as received:
        sensor.run(["/bin/true"], environment={"LD_PRELOAD": str(copy)})
    assert len(received) == 2


def test_chains_of_execs_are_told_one_by_one(sensor: Sensor) -> None:
    with sensor.listening() as received:
        sensor.run(["/bin/bash", "-c", "exec /bin/bash -c 'exec /usr/bin/env /bin/true'"])
    starts = [got.datagram for got in received if got.datagram.kind == Kind.START]
    assert [Path(start.program or "").name for start in starts] == ["bash", "bash", "env", "true"]
    assert len({start.pid for start in starts}) == 1
    assert [got.datagram.start_monotonic_ns for got in received if got.datagram.kind == Kind.END] == [starts[-1].monotonic_ns]


def test_forked_children_say_nothing_of_their_own(sensor: Sensor) -> None:
    """A subshell, whose exit runs destructors."""
    source = "#include <unistd.h>\n#include <stdlib.h>\n#include <sys/wait.h>\n"
    with sensor.listening() as received:
        sensor.run(["/bin/bash", "-c", "(exit 3); (exit 4) & wait"])
        sensor.run([compiled(sensor.folder, "forks", source + "int main(void) { if (!fork()) exit(0); wait(0); return 0; }")])
    assert [got.datagram.kind for got in received] == [Kind.START, Kind.END] * 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_killed_programs_have_a_start_alone(sensor: Sensor, number: int) -> None:
    with sensor.listening():
        assert sensor.run(["/usr/bin/env", "bash", "-c", f"kill -{number} $$"]).status == -number
    assert (len(sensor.of("bash")), len(sensor.of("bash", Kind.END))) == (1, 0)


def test_the_kernel_tells_who_sent(sensor: Sensor) -> None:
    need("root", is_root)
    with sensor.listening() as received:
        env = {**BASE, "LD_PRELOAD": sensor.preload}
        subprocess.run(["/bin/true"], env=env, user=65534, group=65534, extra_groups=[], check=True)
    assert [got.uid for got in received] == [65534, 65534]
