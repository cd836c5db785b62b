"""Truth by other means: what really ran, as GNU dump-acct, sa and lastcomm read the kernel's file, and as this program does.

The workload is a script in a process namespace of its own: shells and subshells, pipelines, chains of execs, other users,
signals, cores, threads, orphans, programs that take CPU time and memory, and hundreds of short ones.
"""

from __future__ import annotations

import csv
import io
import json
import pwd
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from batchacct.parsing import Block, Source
from procacct.asking.accounting_report import report
from procacct.pacct import PARSER
from procacct.pacct_layout import decode
from tests.procacct.accounted import namespace
from tests.procacct.gnu_acct import Dumped, dumped, lastcomm_lines, run, sa_by_command, sa_by_user
from tests.procacct.test_pacct import compare, units

SHORT = 400
WORKLOAD = f"""
ulimit -c unlimited; cd "$1"
for i in {{1..{SHORT}}}; do /bin/true; done
for i in {{1..40}}; do (exit $i); done
for i in {{1..40}}; do /bin/echo $i | /bin/cat | /usr/bin/wc -l; done > /dev/null
/bin/false; sh -c 'exit 3'; sh -c 'exec sh -c "exec sleep 0.05"'
for signal in TERM KILL ALRM USR1; do sh -c "kill -$signal \\$\\$"; done
sh -c 'kill -SEGV $$'
setpriv --reuid 1 --regid 1 --clear-groups sleep 0.3
setpriv --reuid 65534 --regid 65534 --clear-groups sort /etc/passwd > /dev/null
python3 -c 'import threading, time, os; threading.Thread(target=time.sleep, args=(9,)).start(); os._exit(0)'
python3 -c 'x = bytearray(60_000_000)'
python3 -c 'import time
end = time.process_time() + 1.3
while time.process_time() < end: pass'
setpriv --reuid 1 --regid 1 --clear-groups python3 -c 'import time
end = time.process_time() + 0.7
while time.process_time() < end: pass'
script -qc '/bin/ls -l /' /dev/null > /dev/null < /dev/null
sh -c 'sleep 0.2 & sleep 0.01'
ln -s /bin/true ./a_name_of_more_than_fifteen; ./a_name_of_more_than_fifteen
for i in {{1..10}}; do /bin/true & done; wait
sleep 0.3
"""


@dataclass(frozen=True)
class Ran:
    """The kernel's file of the workload, and what GNU dump-acct reads in it."""

    path: Path
    lines: list[Dumped]

    @property
    def whole(self) -> list[Dumped]:
        """But for what the kernel wrote of accton when accounting was switched."""
        return [line for line, unit in zip(self.lines, units(self.path.read_bytes()), strict=True) if not decode(unit).is_partial]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    folder = tmp_path_factory.mktemp("accounted")
    folder.chmod(0o777)
    (folder / "workload").write_text(WORKLOAD)
    path = folder / "pacct"
    path.touch()
    with namespace() as shell:
        shell.run(f"accton {path}; bash {folder}/workload {folder} > {folder}/log 2>&1; accton off")
    yield Ran(path, dumped(run("dump-acct", path)))


def ask(*arguments: str | Path) -> Result:
    done = CliRunner().invoke(report, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def summed(ran: Ran, *arguments: str) -> dict[str, dict[str, Any]]:
    answer = json.loads(ask(ran.path, "--format", "json", *arguments).stdout)
    return {row.pop(answer["by"]): row for row in answer["rows"]}


def test_the_workload_did_what_it_is_for(ran: Ran) -> None:
    commands = Counter(line.command for line in ran.whole)
    assert commands["true"] == SHORT + 10
    assert commands["a_name_of_more_"] == 1
    assert sum("F" in line.flags for line in ran.whole) >= 40
    assert any("D" in line.flags for line in ran.whole)
    assert {line.user_id for line in ran.whole} == {0, 1, 65534}
    assert any(line.terminal.startswith("pts/") for line in ran.whole)
    assert len(ran.whole) > 600


def test_record_by_record(ran: Ran) -> None:
    parsed = PARSER.parse_block(Block(ran.path.read_bytes(), 0), Source("s", "SITE", "c1", host="node01"))
    assert parsed.rejects == ()
    assert parsed.units == len(ran.lines)
    for row, line in zip(parsed.records.to_pylist(), ran.whole, strict=True):
        compare(row, line)
    by_signal = Counter(row["exit_signal"] for row in parsed.records.to_pylist() if row["exit_signal"])
    assert by_signal == {15: 1, 9: 1, 14: 1, 10: 1, 11: 1}, "none that whoever started this may have ignored, as nohup does"
    codes = Counter(row["exit_code"] for row in parsed.records.to_pylist() if row["kind"] == "fork")
    assert all(codes[code] >= 1 for code in range(1, 41))


def test_sums_by_command_are_those_of_sa(ran: Ran) -> None:
    """sa's figures are hundredths of a minute, and it counts the partial record of accton as a process."""
    gnu = sa_by_command(run("sa", "-a", "-l", ran.path))
    gnu.pop("")
    ours = summed(ran, "--by", "command")
    assert {name.split("*")[0] for name in gnu} == {name.split("*")[0] for name in ours}
    assert set(gnu) == set(ours)
    for name, line in gnu.items():
        assert ours[name]["processes"] == line.calls - (name == "accton")
        for column, minutes in (("elapsed_s", line.elapsed), ("cpu_user_s", line.user), ("cpu_system_s", line.system)):
            assert ours[name][column] / 60 == pytest.approx(minutes, abs=0.00501), (name, column)
    assert sum(row["forks"] for name, row in ours.items() if name.endswith("*")) >= 40
    assert all(row["forks"] == (row["processes"] if name.endswith("*") else 0) for name, row in ours.items())


def test_sums_by_user_are_those_of_sa(ran: Ran) -> None:
    gnu = sa_by_user(run("sa", "-m", ran.path))
    calls, _, cpu = gnu.pop("")
    ours = summed(ran, "--by", "user")
    assert set(ours) == set(gnu)
    for name, (of_user, elapsed, user_cpu) in gnu.items():
        assert ours[name]["processes"] == of_user - (name == "root"), "the partial record of accton"
        assert ours[name]["elapsed_s"] / 60 == pytest.approx(elapsed, abs=0.00501)
        assert (ours[name]["cpu_user_s"] + ours[name]["cpu_system_s"]) / 60 == pytest.approx(user_cpu, abs=0.00501)
    assert sum(row["processes"] for row in ours.values()) == calls - 1
    assert sum(row["cpu_user_s"] + row["cpu_system_s"] for row in ours.values()) / 60 == pytest.approx(cpu, abs=0.00501)
    assert summed(ran, "--by", "user", "--numeric").keys() == {str(pwd.getpwnam(name).pw_uid) for name in gnu}


def test_the_list_is_that_of_lastcomm(ran: Ran) -> None:
    gnu = list(lastcomm_lines(run("lastcomm", "-f", ran.path)))[1:]
    rows = [json.loads(line) for line in ask(ran.path, "--list", "--format", "json").stdout.splitlines()]
    assert len(gnu) == len(rows) == len(ran.whole)
    for (command, flags, user, terminal, cpu_s), row in zip(gnu, reversed(rows), strict=True):
        assert (command, user, terminal) == (row["command"], row["user"], row["terminal"] or "__")
        assert flags.replace("X", "") == row["flags"].replace("X", "")
        assert row["cpu_s"] == pytest.approx(cpu_s, abs=0.00501)
    ours, theirs = (sum("X" in flags for flags in some) for some in ([r["flags"] for r in rows], [g[1] for g in gnu]))
    assert theirs == ours + 1, "the program that ended while a thread of it lived was not killed"


@pytest.mark.parametrize("option", ["--user", "--command", "--terminal"])
def test_filters_are_those_of_lastcomm(ran: Ran, option: str) -> None:
    terminal = next(line.terminal for line in ran.whole if line.terminal != "__")
    wanted = {"--user": "daemon", "--command": "python3", "--terminal": terminal}[option]
    gnu = list(lastcomm_lines(run("lastcomm", "-f", ran.path, option.replace("terminal", "tty"), wanted)))
    rows = list(csv.DictReader(io.StringIO(ask(ran.path, "--list", "--format", "csv", option, wanted).stdout)))
    assert gnu
    assert [line[0] for line in gnu] == [row["command"] for row in reversed(rows)]
    assert sum(row["processes"] for row in summed(ran, option, wanted).values()) == len(rows)


def test_a_group_costs_what_its_processes_do(ran: Ran, tmp_path: Path) -> None:
    """As ELSA's script has it: processes, times, faults and swaps by group; one may be in several, and numbers come again."""
    python = [line for line in ran.whole if line.command == "python3"]
    longest = max(python, key=lambda line: line.user_ticks)
    entries = [f"1\t{line.pid}\t{line.began}\t{line.began + 60}" for line in python]
    entries += [f"2\t{longest.pid}\t{longest.began}\t-", f"2\t{python[0].pid}\t{python[0].began - 9000}\t{python[0].began - 8000}"]
    groups = tmp_path / "groups"
    groups.write_text("# group, process, start, end\n" + "\n".join(entries) + "\n")
    found = summed(ran, "--groups-file", str(groups))
    records = [decode(unit) for unit in units(ran.path.read_bytes())]
    of_python = [record for record in records if record.name == b"python3"]
    assert found["1"]["processes"] == len(python)
    assert found["1"]["cpu_user_s"] == pytest.approx(sum(line.user_ticks for line in python) / 100)
    assert found["1"]["cpu_system_s"] == pytest.approx(sum(line.system_ticks for line in python) / 100)
    assert found["1"]["elapsed_s"] == pytest.approx(sum(line.elapsed_ticks for line in python) / 100)
    assert found["1"]["minor_faults"] == sum(record.minor_faults for record in of_python)
    assert found["1"]["major_faults"] == sum(record.major_faults for record in of_python)
    assert (found["1"]["swaps"], found["2"]["processes"]) == (0, 1)
    assert found["2"]["cpu_user_s"] == pytest.approx(longest.user_ticks / 100)
    assert found["(no group)"]["processes"] == len(ran.whole) - len(python)


def test_a_period(ran: Ran) -> None:
    """Processes count at their ends: two periods that adjoin have all of them.

    The border lies after the first second, to which a fast machine ends more than half of the processes.
    """
    ends = sorted(int(line.began + line.elapsed_ticks // 100) for line in ran.whole)
    middle = str(ends[0] + (ends[-1] - ends[0]) // 2 + 1)
    before, after = (summed(ran, option, middle) for option in ("--to", "--from"))
    counted = [sum(row["processes"] for row in rows.values()) for rows in (before, after)]
    assert counted == [sum(end < int(middle) for end in ends), sum(end >= int(middle) for end in ends)]
    assert all(counted)
