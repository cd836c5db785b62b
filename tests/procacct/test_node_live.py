"""A daemon on this kernel, and workloads that know what they do: its rows say the same."""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from batchacct.errors import ConfigError
from procacct import datagrams
from procacct.node.config import NodeConfig, load_node_config, sample
from procacct.sensor.building import build
from procacct.signing import sign_file
from tests.procacct.gnu_acct import missing
from tests.procacct.node_daemon import ROOT, Node, Row, need_kernel, running, wait_for

C_THREADS = r"""
#include <pthread.h>
#include <unistd.h>
static void *stay(void *arg) { (void)arg; usleep(300000); return 0; }
int main(void) {
  pthread_t one, two;
  pthread_create(&one, 0, stay, 0); pthread_create(&two, 0, stay, 0);
  pthread_exit(0);
}
"""
C_EXEC_IN_THREAD = r"""
#include <pthread.h>
#include <unistd.h>
static void *run(void *arg) { (void)arg; execl("/bin/sleep", "sleep", "0.2", (char *)0); return 0; }
int main(void) { pthread_t one; usleep(300000); pthread_create(&one, 0, run, 0); pthread_join(one, 0); return 1; }
"""
"""It waits first: what /proc says of a program within 50 ms before the next one is not believed, so it would have no name."""

BUSY = """
import os, sys, time
held = bytearray(80 << 20)
until = time.process_time() + 0.5
while time.process_time() < until:
    pass
with open(sys.argv[1], "wb") as file:
    file.write(bytes(3 << 20))
    file.flush()
    os.fsync(file.fileno())
"""
LEAVING = """
import os, time
if os.fork() == 0:
    os.setsid()
    child = os.fork()
    if child:
        print(os.getpid(), child, flush=True)
        os._exit(3)
    time.sleep(0.4)
    os._exit(5)
time.sleep(0.2)
"""
MOVING = """
import os, sys
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
os.environ.update(SLURM_JOB_ID=sys.argv[2], SLURM_ARRAY_JOB_ID="77", SLURM_ARRAY_TASK_ID="5")
os.execv("/bin/sh", ["sh", "-c", "sleep 0.3; /bin/true; (exit 1); SLURM_JOB_ID=1 /bin/sh -c 'sleep 0.2'"])
"""
MIXED = """
for i in 1 2 3 4 5; do
    /bin/true; /bin/false; (exit 9); /bin/sh -c 'kill -TERM $$'; /bin/echo hello | /bin/cat >/dev/null
done
exec /bin/sleep 0.1
"""


C_STATIC = "#include <unistd.h>\nint main(void) { usleep(300000); return 0; }\n"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    need_kernel()
    with running(tmp_path_factory.mktemp("node"), 'arguments = "all"') as node:
        yield node
        assert node.stop() == 0
        node.demand_readable()
        assert "Traceback" not in node.errors()


@pytest.fixture(autouse=True)
def _begin(node: Node) -> None:
    node.since_ns = time.time_ns()


def compiled(folder: Path, source: str, *options: str) -> Path:
    if shutil.which("cc") is None:
        missing("there is no C compiler")
    (folder / "it.c").write_text(source, encoding="ascii")
    subprocess.run(["cc", "-pthread", *options, "-o", folder / "it", folder / "it.c"], check=True)
    return folder / "it"


def told(node: Node, *pids: int) -> list[Row]:
    node.settle()
    return node.rows_of(*pids)


def one(node: Node, pid: int) -> Row:
    (row,) = told(node, pid)
    return row


def spawn(*command: str | Path, **more: object) -> int:
    """Runs it to its end; its pid."""
    process = subprocess.Popen(list(command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)  # type: ignore[call-overload]
    process.wait()
    return int(process.pid)


def test_a_static_program_has_the_marks_of_its_file(node: Node, tmp_path: Path) -> None:
    program = compiled(tmp_path, C_STATIC, "-static", "-Wl,--build-id=0x0123456789abcdef")
    signature = sign_file(program, str(uuid.uuid4())).uuid
    row = one(node, spawn(program))
    assert (row["build_id"], row["signature"]) == ("0123456789abcdef", signature)
    assert "sensor" not in row["seen_by"]


def test_a_program_is_a_row(node: Node) -> None:
    before = time.time()
    pid = spawn("/bin/sh", "-c", "sleep 0.3; exit 7")
    row = one(node, pid)
    assert (row["kind"], row["ended_by"], row["exit_code"]) == ("program", "exit", 7)
    assert (row["program"], row["command"]) == (str(Path("/bin/sh").resolve()), "sh")
    assert row["arguments"] == ["/bin/sh", "-c", "sleep 0.3; exit 7"]
    assert (row["parent_pid"], row["user_id"], row["user_name"]) == (os.getpid(), os.getuid(), "root")
    assert before - 0.1 <= row["start_ns"] / 1e9 <= row["end_ns"] / 1e9 <= time.time() + 0.1
    assert 0.3 <= row["elapsed_s"] < 30
    assert row["record_key"].startswith(f"node1/{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}/{pid}/")
    assert row["seen_by"] == ["connector", "taskstats", "proc"]
    assert row["memory_real_kib"] > 100


def test_cpu_memory_and_writing_are_accounted_for(node: Node, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", BUSY, str(tmp_path / "file")])
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = 0
    row = one(node, process.pid)
    assert row["cpu_user_s"] + row["cpu_system_s"] == pytest.approx(used.ru_utime + used.ru_stime, abs=0.02)
    assert 80 << 10 < row["memory_real_kib"] < 110 << 10, "ru_maxrss would begin with that of this process"
    assert (row["minor_faults"], row["major_faults"]) == (pytest.approx(used.ru_minflt, abs=50), used.ru_majflt)


def test_each_process_of_a_pipeline(node: Node) -> None:
    pid = spawn("/bin/sh", "-c", "/bin/cat /etc/passwd | /bin/cat | /usr/bin/wc -l; /bin/true; (exit 4)")
    told(node, pid)
    children = [row for row in node.rows() if row.get("parent_pid") == pid]
    names = Counter(row["command"] for row in children if row["kind"] == "program")
    assert names == {"cat": 2, "wc": 1, "true": 1}
    (fork,) = [row for row in children if row["kind"] == "fork"]
    assert (fork["command"], fork["program"], fork["exit_code"]) == ("sh", str(Path("/bin/sh").resolve()), 4)


def test_a_chain_of_executions(node: Node) -> None:
    pid = spawn("/bin/sh", "-c", "exec /usr/bin/env X=1 /bin/sh -c 'exec sleep 0.2'")
    rows = told(node, pid)
    assert [row["record_key"].rpartition("/")[2] for row in rows] == ["1", "2", "3", "4"]
    assert rows[-1]["command"] == "sleep"
    assert [row["ended_by"] for row in rows] == ["exec", "exec", "exec", "exit"]
    assert [row["start_ns"] for row in rows][1:] == [row["end_ns"] for row in rows][:-1]
    assert ["cpu_user_s" in row for row in rows] == [False, False, False, True]
    assert rows[-1]["arguments"] == ["sleep", "0.2"]


@pytest.mark.parametrize(("number", "name"), [(9, "KILL"), (11, "SEGV"), (15, "TERM")])
def test_a_signal_ends_it(node: Node, number: int, name: str) -> None:
    row = one(node, spawn("/bin/sh", "-c", f"ulimit -c 0; kill -{name} $$"))
    assert (row["ended_by"], row["exit_signal"], row["core_dumped"], "exit_code" in row) == ("signal", number, 0, False)


def test_threads_are_counted_and_the_leader_may_end_first(node: Node, tmp_path: Path) -> None:
    row = one(node, spawn(compiled(tmp_path, C_THREADS)))
    assert (row["threads"], row["ended_by"], row["exit_code"]) == (3, "exit", 0)
    assert row["elapsed_s"] >= 0.3


def test_a_thread_may_execute(node: Node, tmp_path: Path) -> None:
    rows = told(node, spawn(compiled(tmp_path, C_EXEC_IN_THREAD)))
    assert [(row["command"], row["ended_by"]) for row in rows] == [("it", "exec"), ("sleep", "exit")]
    assert rows[1]["elapsed_s"] >= 0.2


def test_forks_without_execution_and_a_daemon_that_leaves(node: Node) -> None:
    done = subprocess.run([sys.executable, "-S", "-c", LEAVING], capture_output=True, text=True, check=True)
    middle, left = map(int, done.stdout.split())
    wait_for(lambda: bool(node.rows_of(left)), "the end of the one that left")
    first, second = one(node, middle), one(node, left)
    assert (first["kind"], first["exit_code"], second["kind"], second["exit_code"]) == ("fork", 3, "fork", 5)
    assert (second["parent_pid"], second["command"]) == (middle, first["command"])
    assert second["elapsed_s"] >= 0.4


def test_another_user(node: Node) -> None:
    row = one(node, spawn("/bin/sleep", "0.1", user=65_534, group=65_534))
    assert (row["user_id"], row["group_id"], row["user_name"]) == (65_534, 65_534, "nobody")


def test_a_storm_of_forks_is_complete(node: Node, tmp_path: Path) -> None:
    storm = compiled(tmp_path, (ROOT / "benchmarks/fork_storm.c").read_text(encoding="ascii"))
    process = subprocess.Popen([storm, "3000", "1"], stdout=subprocess.PIPE, text=True)
    forked = int(process.communicate()[0].split()[0])
    told(node, process.pid)
    rows = [row for row in node.rows() if row.get("parent_pid") == process.pid]
    assert len(rows) == forked > 500
    assert len({row["record_key"] for row in rows}) == forked
    assert {row["kind"] for row in rows} == {"fork"}
    status = node.status()
    assert (status["lost_events"], status["event_overruns"], status["rows_dropped"]) == (0, 0, 0)


def test_a_batch_job_by_its_cgroup(node: Node) -> None:
    number = str(secrets.randbelow(10**8) + 10**8)
    folder = Path(f"/sys/fs/cgroup/freezer/slurm/uid_0/job_{number}/step_3")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    try:
        pid = spawn(sys.executable, "-S", "-c", MOVING, str(folder), number)
        rows = [row for row in told(node, pid) if row.get("command") == "sh"]
        children = [row for row in node.rows() if row.get("parent_pid") == pid]
    finally:
        time.sleep(0.1)
        for one_folder in (folder, folder.parent, folder.parents[1], folder.parents[2]):
            with suppress(OSError):
                one_folder.rmdir()
    (row,) = rows
    assert [row.get(name) for name in ("lrms", "lrms_job_id", "join_id", "array_index", "step_id")] == ["Slurm", "77", "77", 5, "3"]
    assert (row["job_from"], "job_claims" in row) == ("cgroup", False)
    assert len(children) == 4
    assert {(child["join_id"], child["array_index"], child["step_id"]) for child in children} == {("77", 5, "3")}


def message(kind: int, start_ns: int, items: dict[int, bytes], pid: int) -> bytes:
    body = b"".join(struct.pack("=HHI", tag, 0, len(value)) + value + bytes(-len(value) % 4) for tag, value in items.items())
    now_ns = time.monotonic_ns()
    head = (datagrams.MAGIC, 1, kind, 0, 64 + len(body), pid, 1, 0, 0, 1, time.time_ns(), now_ns, start_ns or now_ns, 0)
    return datagrams.HEADER.pack(*head) + body


SENDER = """
import socket, sys
one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
one.connect(sys.argv[1])
for line in sys.stdin:
    one.send(bytes.fromhex(line))
"""


def test_what_a_sensor_sends_is_in_the_row_and_nobody_speaks_for_others(node: Node) -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", SENDER, str(node.folder / "sensor")], stdin=subprocess.PIPE)
    time.sleep(0.3)
    start_ns = time.monotonic_ns()
    objects = b"".join(struct.pack("=HBB", len(path), 2, 0) + path + b"\x12\x34" for path in (b"/lib/libfun.so", b"/lib/libc.so.6"))
    usage = struct.pack("=9Q", 10, 20, 30, 40, 50, 60, 70, 80, 90)
    start = {
        1: b"/forged/path",
        4: objects,
        5: b"\xaa\xbb",
        6: b"uuid",
        8: b"SLURM_JOB_ID=5511\0PMI_RANK=2\0PMI_SIZE=4\0",
        9: b"gcc/12:mpi/4",
        3: b"OMP_NUM_THREADS=4\0",
    }
    messages = [message(1, start_ns, start, pid=1), message(2, start_ns, {7: usage}, pid=1), b"nonsense"]
    before = node.status()
    process.communicate("\n".join(one.hex() for one in messages).encode() + b"\n")
    row = one(node, process.pid)
    assert row["program"] == str(Path(sys.executable).resolve()), "the kernel's word"
    assert (row["build_id"], row["signature"], row["modules"]) == ("aabb", "uuid", ["gcc/12", "mpi/4"])
    assert (row["environment"], row["mpi_rank"], row["mpi_size"]) == ({"OMP_NUM_THREADS": "4"}, 2, 4)
    assert (row["join_id"], row["job_from"]) == ("5511", "environment")
    assert row["minor_faults"] > 100, "taskstats' word, not the sensor's"
    assert row["seen_by"] == ["connector", "sensor", "taskstats", "proc"]
    told_objects = [one["path"] for one in node.rows("objects") if one["object_set"] == row["object_set"]]
    assert told_objects == ["/lib/libc.so.6", "/lib/libfun.so"]
    after = node.status()
    assert after["sensor_unreadable"] == before["sensor_unreadable"] + 1
    assert after["sensor_other_pid"] == before["sensor_other_pid"] + 2
    assert not node.rows_of(1)


@pytest.fixture(scope="module")
def sensor(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None or shutil.which("make") is None:
        missing("the sensor cannot be built here")
    return build(tmp_path_factory.mktemp("sensor"), policy=node.folder / "policy", socket=node.folder / "sensor")


def test_the_sensor_itself_names_what_is_too_short_to_be_looked_at(node: Node, sensor: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "LD_PRELOAD": str(sensor), "SLURM_JOB_ID": "88", "SLURM_STEP_ID": "1"}
    pid = spawn("/bin/sh", "-c", "exec /usr/bin/env Y=1 /bin/sh -c 'exec /bin/true'", env=environment)
    rows = told(node, pid)
    named = [Path(name).resolve() for name in ("/bin/sh", "/usr/bin/env", "/bin/sh", "/bin/true")]
    assert [Path(row["program"]) for row in rows] == named
    assert [row["ended_by"] for row in rows] == ["exec", "exec", "exec", "exit"]
    assert {row["join_id"] for row in rows} == {"88"}
    assert rows[3]["arguments"] == ["/bin/true"]
    assert all("sensor" in row["seen_by"] and row["object_set"] for row in rows)
    objects = {row["path"] for row in node.rows("objects") if row["object_set"] == rows[3]["object_set"]}
    assert any("libc.so" in path for path in objects)


def test_a_build_with_the_sensor_loses_nothing(node: Node, sensor: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "LD_PRELOAD": str(sensor), "PBS_JOBID": "1234.srv"}
    before = node.status()
    top = spawn("/bin/sh", "-c", "for i in $(seq 200); do /bin/true; done; exit 0", env=environment)
    told(node, top)
    rows = [row for row in node.rows() if row.get("parent_pid") == top and row["command"] == "true"]
    assert len(rows) == 200
    assert sum("sensor" in row["seen_by"] for row in rows) + node.status()["sensor_unsent"] - before["sensor_unsent"] == 200
    assert {row["join_id"] for row in rows} == {"1234"}
    assert {row["program"] for row in rows} == {str(Path("/bin/true").resolve())}


def test_a_flood_of_nonsense_harms_nobody(node: Node) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one_socket:
        one_socket.connect(str(node.folder / "sensor"))
        one_socket.setblocking(False)
        for number in range(3000):
            with suppress(BlockingIOError):
                one_socket.send(os.urandom(number % 2000) if number % 2 else message(1, 0, {4: os.urandom(100)}, number))
    row = one(node, spawn("/bin/sh", "-c", "exit 3"))
    assert row["exit_code"] == 3


def test_the_same_as_the_kernels_accounting_says(node: Node, tmp_path: Path) -> None:
    """Process by process, against acct(2) of the same kernel."""
    libc = ctypes.CDLL(None, use_errno=True)
    file = tmp_path / "pacct"
    file.touch()
    with Path("/tmp/batchacct-acct.lock").open("w", encoding="ascii") as lock:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX)
        if libc.acct(os.fsencode(file)):
            pytest.skip(f"acct(2): {os.strerror(ctypes.get_errno())}")
        try:
            top = spawn("/bin/sh", "-c", MIXED)
            time.sleep(0.1)
        finally:
            libc.acct(None)
    told(node, top)
    rows = {
        row["pid"]: row for row in node.rows() if row["ended_by"] != "exec" and (row.get("parent_pid") == top or row["pid"] == top)
    }
    raw = file.read_bytes()
    records = [struct.unpack("=BBHIIIIIIfHHHHHHHH16s", raw[at : at + 64]) for at in range(0, len(raw) - 63, 64)]
    acct = {record[6]: record for record in records if record[6] in rows}
    assert len(rows) == 1 + 5 * 6
    assert acct.keys() == rows.keys()
    for pid, row in rows.items():
        flag, _, _, status, user_id, group_id, _, parent_pid, began, elapsed, *_, comm = acct[pid]
        assert row["command"] == comm.partition(b"\0")[0].decode()
        assert row["kind"] == ("fork" if flag & 1 else "program")
        assert (row.get("exit_signal", 0), row.get("exit_code", 0)) == (status & 0x7F, status >> 8)
        assert (row["user_id"], row["group_id"], row["parent_pid"]) == (user_id, group_id, parent_pid)
        fork_ns = int(row["record_key"].split("/")[3])
        assert abs(fork_ns / 1e9 - began) < 1.5
        assert abs((row["end_ns"] - fork_ns) / 1e9 - elapsed / 100) < 0.5


def test_its_status_and_its_own_cost(node: Node) -> None:
    """Programs that wait, so that it reads /proc in time on a busy host too."""
    before = node.status()
    processes = [subprocess.Popen(["/bin/sleep", "0.5"]) for _ in range(40)]
    assert [process.wait() for process in processes] == [0] * 40
    node.settle()
    status = node.status()
    assert status["hears_events"] and status["hears_taskstats"]
    for count in ("processes_started", "programs_executed", "rows_written"):
        assert status[count] - before[count] >= 40, count
    exact_to_kib = 256  # the kernel gathers what each thread and CPU counted only now and then (proc_pid_status(5))
    assert before["own_memory_kib"] - exact_to_kib <= status["own_memory_kib"] < 200_000


def test_policy_is_written_for_the_sensors(node: Node) -> None:
    assert (node.folder / "policy").read_text(encoding="ascii").startswith("batchacct-policy 1\n")
    assert "arguments\tall" in (node.folder / "policy").read_text(encoding="ascii")


def test_without_events_there_are_rows_of_what_sensors_say(tmp_path: Path) -> None:
    with running(tmp_path, 'events = {use = "no"}\ntaskstats = {use = "no"}') as node:
        process = subprocess.Popen([sys.executable, "-S", "-c", SENDER, str(node.folder / "sensor")], stdin=subprocess.PIPE)
        killed = subprocess.Popen([sys.executable, "-S", "-c", SENDER, str(node.folder / "sensor")], stdin=subprocess.PIPE)
        time.sleep(0.3)
        start_ns = time.monotonic_ns()
        second_ns = start_ns + 50_000_000
        usage = struct.pack("=9Q", 10, 20, 30, 40, 50, 60, 70, 80, 90)
        assert killed.stdin is not None
        killed.stdin.write(message(1, start_ns, {1: b"/k", 8: b"PBS_JOBID=8.srv\0"}, pid=1).hex().encode() + b"\n")
        killed.stdin.flush()
        wait_for(lambda: node.status()["sensor_messages"] == 1, "the message")
        wait_for(lambda: time.monotonic_ns() > second_ns, "the time that the second program has begun at")
        killed.kill()
        killed.wait()
        killed.stdin.close()
        messages = [message(1, start_ns, {1: b"/a"}, 1), message(1, second_ns, {1: b"/b"}, 1), message(2, second_ns, {7: usage}, 1)]
        process.communicate("\n".join(one.hex() for one in messages).encode() + b"\n")
        wait_for(lambda: len(node.rows_of(process.pid, killed.pid)) >= 3, "the ends to be told")
        rows = node.rows_of(process.pid)
        assert [row["ended_by"] for row in rows] == ["exec", "exit"]
        assert (rows[1]["minor_faults"], rows[1]["user_id"], "exit_code" in rows[1]) == (40, os.getuid(), False)
        (gone,) = node.rows_of(killed.pid)
        assert (gone["ended_by"], gone["join_id"], "end_ns" in gone) == ("unknown", "8", False)
        assert node.stop() == 0


def test_paths_that_depend_on_where_it_is_started_are_refused(tmp_path: Path) -> None:
    """All of them at once, by their names."""
    path = tmp_path / "procacctd.toml"
    path.write_text(
        'state = "here"\nprometheus_file = "m.prom"\nspool.path = "spool"\nsensor.policy = "/run/policy"\n'
        'ship.brokers = ["mq:1"]\nship.state = "../sent.json"\nship.tls.ca = "ca.pem"\n',
        encoding="utf-8",
    )
    with pytest.raises(ConfigError, match="write them from / on") as told:
        load_node_config(path)
    named = [text.strip().partition(":")[0] for text in told.value.message.splitlines()[1:]]
    assert named == ["state", "prometheus_file", "spool.path", "ship.tls.ca", "ship.state"]


def test_the_sample_is_a_configuration_and_shows_every_key(tmp_path: Path) -> None:
    path = tmp_path / "procacctd.toml"
    path.write_text(sample(), encoding="utf-8")
    assert load_node_config(path) == NodeConfig()
    lines = []
    for line in sample().splitlines():
        assignment = line.removeprefix("# ")
        is_key = line.startswith(("# ", "[")) and (" = " in assignment or line.startswith("# ["))
        empty = assignment.endswith(' = ""')
        lines.append(assignment if is_key and not empty and "; " not in assignment.partition("=")[0] else line)
    path.write_text("\n".join(lines), encoding="utf-8")
    shown = load_node_config(path)
    assert shown.host == "node042.example.org"
    assert shown.sensor.rule[0].action == "skip"


def test_json_of_a_row_is_one_line(node: Node) -> None:
    row = one(node, spawn("/bin/sh", "-c", "sleep 0.3; exit", "a\nb", "\xff\t"))
    assert row["arguments"] == ["/bin/sh", "-c", "sleep 0.3; exit", "a\nb", "\xff\t"]
    assert json.dumps(row)


def test_messages_wait_while_the_daemon_is_busy(node: Node) -> None:
    """More than the kernel's default of ten, which a storm of short programs fills within one pause of the daemon."""
    limit = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text(encoding="ascii"))
    before = node.status()["sensor_messages"]
    node.send(signal.SIGSTOP)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one_socket:
            one_socket.connect(str(node.folder / "sensor"))
            one_socket.setblocking(False)
            for _ in range(100):
                one_socket.send(b"x")
    finally:
        node.send(signal.SIGCONT)
    wait_for(lambda: node.status()["sensor_messages"] == before + 100, "the messages")
    assert int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text(encoding="ascii")) == limit, "it is as it was"
