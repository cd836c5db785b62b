"""Truth by other means: what ran, as the node daemon's rows have it, and as the kernel's log, its accounting and strace have it.

Each difference is named by a rule of RULES, or is an error. Counts are printed (`pytest -s`); docs/explanation/process-truth.md
shows those of one run.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner

from procacct.asking.accounting_report import report
from procacct.node.control_client import asked
from procacct.node.losses import UNSENT
from procacct.running import preloading
from procacct.sensor.building import build
from tests.procacct.event_log import FORK, EventLog, listening
from tests.procacct.node_daemon import Node, Row, need_kernel, running
from tests.procacct.open_folder import open_folder
from tests.procacct.sensor.sensed import QUEUE, need, need_program
from tests.procacct.truth_sources import (
    UNKNOWN,
    Accounted,
    Told,
    Traced,
    Used,
    accounted,
    accounting,
    processes_below,
    traced,
    used,
)

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
TICK_S = 0.01
"""Accounting counts in these, and /proc."""

HOSTS_OWN = (Path("/var/log/account/pacct"), Path("/var/account/pacct"))
ACCOUNTED_WITHIN_S = 1.5
"""Accounting tells starts in whole seconds, one late at times."""
LATE_S = 0.5
FREEING_S_PER_KIB = 0.5e-6
"""What the kernel takes to free memory at most; on a busy machine."""
PYTHON_KIB = 18_000
"""More than the memory of the process that starts the others."""

RULES = {
    "sampled": "accounting counts the clock ticks at which it finds a process running, tasks are told what they really ran",
    "late": "the end is told after accounting has written its record; on a busy host a process may wait for a CPU in between",
    "slice": "a task is told what it ran until the scheduler counted last (at most a tick, 4 ms), and before its memory is freed",
    "before": "wait4 tells the memory of a process before it executed its program, too: that of its parent, after vfork",
    "orphan": "accounting tells the parent at the end, of an orphan the process that took it in",
    "script": "strace tells the file that was executed, the row the interpreter that runs it",
    "dropped": "where the daemon does not get a CPU for long, its socket is full, and sensors do not wait: a gap tells of it",
    "unseen": "the program was gone before it could be looked at, and had no sensor in it: its name is known "
    "(but of an earlier one of a chain of execs), its path is not",
}


@dataclass
class Seen:
    """One run, as everybody saw it."""

    log: EventLog
    told: list[Told]
    rows: list[Row]
    gaps: list[Row]
    accounted: list[Accounted]
    traced: list[Traced]
    used: list[Used]
    offset_ns: int
    folder: Path
    rounds: int = 0
    members: list[Row] = field(default_factory=list)
    cpu_s: tuple[float, float] = (0, 0)
    explained: Counter[str] = field(default_factory=Counter)

    def of(self, one: Told) -> list[Row]:
        """Rows of a process, in the order of its programs."""
        return self._by_process[(one.pid, one.forked_ns)]

    def sort(self) -> None:
        """Rows to the processes of the log: same pid, forked at the same time to the clock tick."""
        self._by_process: dict[tuple[int, int], list[Row]] = defaultdict(list)
        self.strangers: list[Row] = []
        by_pid: dict[int, list[Told]] = defaultdict(list)
        for one in self.told:
            by_pid[one.pid].append(one)
        for row in self.rows:
            forked_ns = int(row["record_key"].split("/")[-2])
            for one in by_pid[row["pid"]]:
                if abs(forked_ns - one.forked_ns - self.offset_ns) < TICK_S * 1e9:
                    self._by_process[(one.pid, one.forked_ns)].append(row)
                    break
            else:
                if not self._is_of_others(row["pid"], forked_ns):
                    self.strangers.append(row)
        self.rows = [row for rows in self._by_process.values() for row in rows] + self.strangers
        for rows in self._by_process.values():
            rows.sort(key=lambda row: int(row["record_key"].split("/")[-1]))

    def _is_of_others(self, pid: int, forked_ns: int) -> bool:
        """Whether it was forked before all this, or outside it: pids come again."""
        at_ns = forked_ns - self.offset_ns
        before = at_ns < self.log.events[0].at_ns
        return before or any(
            one.pid == pid and abs(one.at_ns - at_ns) < TICK_S * 1e9 for one in self.log.events if one.what == FORK
        )


def _made_programs(folder: Path) -> None:
    source = HERE / "truth_workload.c"
    shutil.copy(source, folder)
    for name, *flags in (("dynamic",), ("static", "-static")):
        done = subprocess.run(["gcc", "-O1", "-pthread", *flags, "-o", folder / name, source], check=False)
        need(f"what gcc takes to make a {name} program", done.returncode == 0)
        (folder / name).chmod(0o755)
    for name, copy in (("dynamic", "setuid"), ("static", "static-setuid")):
        shutil.copy(folder / name, folder / copy)
        (folder / copy).chmod(0o4755)


@contextmanager
def _started(folder: Path, extra: str) -> Iterator[Node]:
    """A daemon whose socket is as deep as a site is told to make it (docs/how-to/sensor.md)."""
    before = QUEUE.read_text()
    QUEUE.write_text("4096")
    try:
        with running(folder, extra) as started:
            QUEUE.write_text(before)
            yield started
    finally:
        QUEUE.write_text(before)


def _ran(folder: Path, rounds: int, *, trace: bool) -> Seen:
    """Runs the workload before everybody's eyes."""
    programs = folder / "programs"
    programs.mkdir()
    programs.chmod(0o755)
    _made_programs(programs)
    library = build(folder, policy=folder / "node" / "policy", socket=folder / "node" / "sensor")
    group = '[[group]]\nname = "truth"\nenvironment = {TRUTH = "run"}\n'
    environment = {**os.environ, "TRUTH": "run", "LD_PRELOAD": os.fsdecode(preloading(b"", os.fsencode(library)))}
    command = [sys.executable, str(HERE / "truth_workload.py"), str(programs), str(rounds)]
    strace = ["strace", "-f", "-q", "-e", "trace=process", "-o", str(folder / "trace")]
    with _started(folder / "node", group) as node, accounting(folder / "pacct"), listening() as log:
        offset_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        if trace:
            given = [word for name in ("LD_PRELOAD", "TRUTH") for word in ("-E", f"{name}={environment[name]}")]
            process = subprocess.Popen([*strace, *given, *command], cwd=programs)
        else:
            process = subprocess.Popen(command, cwd=programs, env=environment)
        assert process.wait(300) == 0
        node.settle()
        with asked(folder / "node" / "control", "dump") as (_, lines):
            (folder / "jobs").write_bytes(lines.read())
        status = node.stop()
        assert status == 0, node.errors()
    root = traced(folder / "trace")[0].pid if trace else process.pid
    seen = _as_seen(node, log, processes_below(root, log.events), offset_ns, folder)
    seen.rounds, seen.members = rounds, node.rows("groups")
    return seen


def _as_seen(node: Node, log: EventLog, told: list[Told], offset_ns: int, folder: Path) -> Seen:
    began: dict[int, list[float]] = defaultdict(list)
    for one in told:
        began[one.pid].append((one.forked_ns + offset_ns) / 1e9)
    rows = [row for row in node.rows() if row["pid"] in began]
    records = [
        one for one in accounted(folder / "pacct") if any(abs(one.began - at) <= ACCOUNTED_WITHIN_S for at in began[one.pid])
    ]
    programs = folder / "programs"
    seen = Seen(log, told, rows, node.gaps(), records, traced(folder / "trace"), used(programs / "used"), offset_ns, programs)
    seen.sort()
    return seen


def _need_all() -> None:
    need_kernel()
    need("root", os.geteuid() == 0)
    need_program("gcc")
    recent = [one for one in HOSTS_OWN if one.exists() and one.stat().st_size and one.stat().st_mtime > time.time() - 3600]
    need("a host without accounting of its own, which would be ended here,", not recent)


@pytest.fixture(scope="module")
def plain() -> Iterator[Seen]:
    _need_all()
    with open_folder() as folder:
        seen = _ran(folder, 18, trace=False)
        yield seen
    print("\n" + _table(seen))


@pytest.fixture(scope="module")
def under_strace() -> Iterator[Seen]:
    _need_all()
    need_program("strace")
    with open_folder() as folder:
        seen = _ran(folder, 3, trace=True)
        yield seen
    print("\n" + _table(seen))


def _table(seen: Seen) -> str:
    programs = sum(len(one.executed_ns) for one in seen.told)
    by = Counter(source for row in seen.rows for source in row["seen_by"])
    last = [seen.of(one)[-1] for one in seen.told if seen.of(one)]
    rows = Counter(row["kind"] for row in seen.rows)
    lines = {
        "processes": (len(seen.told), len(last), len(seen.accounted), len(seen.traced)),
        "... of them without a program of their own": (
            sum(not one.executed_ns for one in seen.told),
            rows["fork"],
            sum(one.flag & 1 for one in seen.accounted),
            sum(not one.programs for one in seen.traced),
        ),
        "programs executed": (programs, rows["program"], "", sum(len(one.programs) for one in seen.traced)),
        "... of them with their path": ("", sum(row["kind"] == "program" and "program" in row for row in seen.rows), "", ""),
        "... of them told by their sensor": ("", by["sensor"], "", ""),
        "threads beside the first": (sum(one.threads - 1 for one in seen.told), sum(row["threads"] - 1 for row in last), "", ""),
    }
    told = [f"{'':45}{'events':>10}{'rows':>10}{'acct':>10}{'strace':>10}"]
    told += [f"{name:45}" + "".join(f"{count:>10}" for count in counts) for name, counts in lines.items()]
    return "\n".join([*told, f"CPU (s), rows and wait4: {seen.cpu_s}", f"explained: {dict(seen.explained)}"])


class TestTruth:
    """Rows against the kernel's log and its accounting, of thousands of processes."""

    @pytest.fixture(params=["plain", "under_strace"])
    def seen(self, request: pytest.FixtureRequest) -> Seen:
        seen: Seen = request.getfixturevalue(request.param)
        return seen

    def test_nothing_was_lost(self, seen: Seen) -> None:
        assert seen.log.lost == 0
        assert [gap for gap in seen.gaps if gap["command"] != UNSENT] == []

    def test_same_processes(self, seen: Seen) -> None:
        assert len(seen.told) > (2000 if not seen.traced else 300)
        assert [one for one in seen.told if not seen.of(one)] == []
        assert seen.strangers == []
        assert len({row["record_key"] for row in seen.rows}) == len(seen.rows)
        assert all(row["processes"] == 1 for row in seen.rows)

    def test_same_programs(self, seen: Seen) -> None:
        """A row for each program executed, one for a process that executed none; each ends where the next begins."""
        wrong = []
        for one in seen.told:
            rows = seen.of(one)
            kinds = ["program"] * len(one.executed_ns) or ["fork"]
            starts = one.executed_ns or [one.forked_ns]
            ends = [*one.executed_ns[1:], one.ended_ns]
            is_same = [row["kind"] for row in rows] == kinds and all(
                _is_near(row["start_ns"], start, seen) and _is_near(row["end_ns"], end, seen)
                for row, start, end in zip(rows, starts, ends, strict=True)
            )
            if not is_same or any(row["ended_by"] != "exec" for row in rows[:-1]):
                wrong.append((one, rows))
        assert wrong == []

    def test_same_parents(self, seen: Seen) -> None:
        assert [(one, row) for one in seen.told for row in seen.of(one) if row["parent_pid"] != one.parent] == []

    def test_same_ends(self, seen: Seen) -> None:
        wrong = []
        for one in seen.told:
            row = seen.of(one)[-1]
            assert one.status is not None
            number, core = one.status & 0x7F, one.status >> 7 & 1
            due = {"exit_signal": number, "core_dumped": core} if number else {"exit_code": one.status >> 8}
            found = {key: row[key] for key in ("exit_signal", "core_dumped", "exit_code") if key in row}
            if found != due or row["ended_by"] != ("signal" if number else "exit"):
                wrong.append((one, row))
        assert wrong == []

    def test_same_threads(self, seen: Seen) -> None:
        assert [(one, seen.of(one)[-1]) for one in seen.told if seen.of(one)[-1]["threads"] != one.threads] == []

    def test_accounting_has_the_same_processes(self, seen: Seen) -> None:
        assert len(_paired(seen)) == len(seen.told) == len(seen.accounted)

    def test_accounting_says_the_same(self, seen: Seen) -> None:
        wrong, far = [], 0
        for one, record in _paired(seen):
            rows = seen.of(one)
            row = rows[-1]
            elapsed_s = sum(part["elapsed_s"] for part in rows)
            off_s = abs(_cpu_s(row) - record.user - record.system)
            forked_s = 0 if not one.executed_ns else (one.executed_ns[0] - one.forked_ns) / 1e9
            same = {
                "status": record.status == one.status,
                "fork": bool(record.flag & 1) == (row["kind"] == "fork"),
                "user": (record.user_id, record.group_id) == (row["user_id"], row["group_id"]),
                "command": record.command == row["command"],
                "superuser": bool(record.flag & 2) == bool(row["superuser"]),
                "elapsed": -TICK_S < elapsed_s + forked_s - record.elapsed < LATE_S,
                "time": off_s < LATE_S,
            }
            seen.explained["late"] += elapsed_s + forked_s - record.elapsed > 2 * TICK_S
            seen.explained["sampled"] += off_s > 2 * TICK_S
            far += off_s > TICK_S + _chance_s(row)
            if record.parent != row["parent_pid"]:
                seen.explained["orphan"] += 1
                same["parent"] = _had_ended(seen, one)
            if not all(same.values()):
                wrong.append(([key for key, is_same in same.items() if not is_same], record, rows))
        assert wrong == []
        assert far <= len(seen.told) / 100, "a guest's ticks come late and together where its host is busy, and not all by chance"

    def test_the_kernel_told_the_parent_the_same(self, seen: Seen) -> None:
        """wait4(2), of those without children."""
        parents = {one.parent for one in seen.told}
        last = {one.pid: seen.of(one)[-1] for one in seen.told}
        compared = [(one, last[one.pid]) for one in seen.used if one.pid not in parents]
        assert len(compared) > len(seen.used) / 2
        seen.cpu_s = sum(_cpu_s(row) for _, row in compared), sum(one.user + one.system for one, _ in compared)
        wrong = []
        for one, row in compared:
            less_s = one.user + one.system - _cpu_s(row)
            seen.explained["slice"] += less_s > 0.0005
            seen.explained["before"] += one.memory > row["memory_real_kib"]
            same = [
                -0.0005 < less_s < 0.005 + FREEING_S_PER_KIB * row["memory_real_kib"],
                one.memory == row["memory_real_kib"] or row["memory_real_kib"] < one.memory < PYTHON_KIB,
                (one.minor, one.major) == (row["minor_faults"], row["major_faults"]),
            ]
            if not all(same):
                wrong.append((same, one, row))
        assert wrong == []
        assert any(one.memory == row["memory_real_kib"] > PYTHON_KIB for one, row in compared)

    def test_all_are_in_the_group_that_a_rule_made_of_the_first(self, seen: Seen) -> None:
        """Each from its fork to its end; the first from when it executed its program."""
        first, *others = seen.told
        by_pid = {row["pid"]: row for row in seen.members}
        assert Counter(row["pid"] for row in seen.members) == Counter(one.pid for one in seen.told)
        assert {(row["group_name"], row["made_by"]) for row in seen.members} == {("truth", "rule:truth")}
        assert [one.pid for one in seen.told if not by_pid[one.pid]["inherited"]] == [first.pid]
        wrong = [
            one
            for one in others
            if not _is_near(by_pid[one.pid]["joined_ns"], one.forked_ns, seen)
            or not _is_near(by_pid[one.pid]["left_ns"], one.ended_ns, seen)
            or by_pid[one.pid]["start_ns"] != int(seen.of(one)[0]["record_key"].split("/")[-2])
        ]
        assert wrong == []

    def test_what_the_group_cost(self, seen: Seen) -> None:
        """As of `elsa -x`: the job file and the accounting file together, each process once."""
        folder = seen.folder.parent
        arguments = ["--groups-file", str(folder / "jobs"), "--format", "json", str(folder / "pacct")]
        result = CliRunner().invoke(report, arguments, catch_exceptions=False)
        costs = {row["group"]: row for row in json.loads(result.stdout)["rows"]}
        (group,) = {row["group_id"] for row in seen.members}
        assert costs[group]["processes"] == len(seen.told)
        assert costs[group]["cpu_user_s"] == pytest.approx(sum(one.user for one in seen.accounted))

    def test_paths(self, seen: Seen) -> None:
        """A program without a path is one that had no sensor in it and was gone at once; its name is that of accounting."""
        unseen = [row for row in seen.rows if row["kind"] == "program" and "program" not in row]
        seen.explained["unseen"] = len(unseen)
        assert [row for row in unseen if "sensor" in row["seen_by"] or row["elapsed_s"] > 0.2] == []
        assert len(unseen) < len(seen.rows) / 3

    def test_sensors(self, seen: Seen) -> None:
        """Each program that is dynamic and not setuid, and has its environment, told of itself."""
        silent = ("/static", "/setuid", "/static-setuid")
        wrong = [
            row
            for row in seen.rows
            if row["kind"] == "program" and "program" in row and ("sensor" in row["seen_by"]) == row["program"].endswith(silent)
        ]
        cleared = [row for row in wrong if row["program"].endswith(("/true", "/dash")) and "sensor" not in row["seen_by"]]
        dropped = sum(gap["lost_events"] for gap in seen.gaps)
        seen.explained["dropped"] = len([row for row in wrong if row not in cleared])
        assert dropped or not seen.explained["dropped"]
        assert dropped or len(cleared) <= 3 * seen.rounds, "those that `env -i` runs"


def _cpu_s(row: Row) -> float:
    return float(row["cpu_user_s"] + row["cpu_system_s"])


def _chance_s(row: Row) -> float:
    """By how much the ticks of a process (4 ms here) can be wrong by chance: four standard deviations."""
    return 4 * math.sqrt(_cpu_s(row) * 0.004)


def _is_near(row_ns: int, event_ns: int | None, seen: Seen) -> bool:
    return event_ns is not None and abs(row_ns - event_ns - seen.offset_ns) < TICK_S * 1e9


def _had_ended(seen: Seen, one: Told) -> bool:
    """Whether its parent ended before it did."""
    return any(
        other.pid == one.parent and other.ended_ns is not None and one.ended_ns is not None and other.ended_ns <= one.ended_ns
        for other in seen.told
    )


def _paired(seen: Seen) -> list[tuple[Told, Accounted]]:
    """Records of accounting by pid, and the start, which is to be within a second of the process's."""
    by_pid: dict[int, list[Accounted]] = defaultdict(list)
    for record in seen.accounted:
        by_pid[record.pid].append(record)
    pairs = []
    for one in seen.told:
        for record in by_pid[one.pid]:
            if abs(record.began - (one.forked_ns + seen.offset_ns) / 1e9) <= ACCOUNTED_WITHIN_S:
                pairs.append((one, record))
                by_pid[one.pid].remove(record)
                break
    return pairs


class TestStrace:
    """Rows against what strace, which stops every process at each of its calls, saw."""

    def test_same_processes(self, under_strace: Seen) -> None:
        seen = under_strace
        assert Counter(one.pid for one in seen.traced) == Counter(one.pid for one in seen.told)

    def test_same_programs_and_ends(self, under_strace: Seen) -> None:
        seen = under_strace
        by_pid: dict[int, list[Told]] = defaultdict(list)
        for one in seen.told:
            by_pid[one.pid].append(one)
        wrong = []
        for trace in seen.traced:
            one = by_pid[trace.pid].pop(0)
            rows = [row for row in seen.of(one) if row["kind"] == "program"]
            same = [
                len(rows) == len(trace.programs),
                trace.parent in (None, one.parent),
                trace.exit_code == seen.of(one)[-1].get("exit_code"),
                trace.signal == seen.of(one)[-1].get("exit_signal"),
                *(self._is_same_program(seen, row, path) for row, path in zip(rows, trace.programs, strict=False)),
            ]
            if not all(same):
                wrong.append((same, trace, rows))
        assert wrong == []

    def _is_same_program(self, seen: Seen, row: Row, path: str) -> bool:
        if path == UNKNOWN:
            return True
        if "program" not in row:
            return "command" in row or row["ended_by"] == "exec"
        if path == "/proc/self/exe":
            return bool(row["program"].startswith(str(seen.folder)))
        if (seen.folder / path).read_bytes()[:2] == b"#!":
            seen.explained["script"] += 1
            return not row["program"].endswith(path)
        return bool(row["program"] == str((seen.folder / path).resolve()))
