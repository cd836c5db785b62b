"""The feed `sacct` against a program that stands for sacct and fails in every way; the real one is in tests/services."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from batchacct.errors import ConfigError, IncompleteError, PluginError, SourceError
from batchacct.feeding import Answer, feed
from batchacct.parsing import Source
from loccol.slurm_feed import ENDED, SacctFeed, make_feed
from loccol.slurm_sacct_layout import RECOMMENDED
from tests.cli.runner import Done, batchacct

NOW = 1_795_693_011  # 2026-11-26T11:36:51Z
DAY = 86_400
SOURCE = Source("slurm1")
HEADER = RECOMMENDED.replace(",", "|")
ROW = "1|" + "x|" * (RECOMMENDED.count(",") - 1) + "wrap"

MakeProgram = Callable[..., str]


@pytest.fixture
def program(tmp_path: Path) -> MakeProgram:
    """Makes an executable script that stands for sacct: `answer` is what it runs when asked for jobs."""

    def make(
        answer: str = f"echo '{HEADER}'; echo '{ROW}'", fields: str = RECOMMENDED.replace(",", " ") + " Comment WorkDir"
    ) -> str:
        path = tmp_path / "sacct"
        path.write_text(f"""#!/bin/sh
echo "$$" >>{tmp_path}/pids
if [ "$1" = --helpformat ]; then echo '{fields}'; exit 0; fi
echo "TZ=$TZ SLURM_TIME_FORMAT=$SLURM_TIME_FORMAT $*" >>{tmp_path}/calls
{answer}
""")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    return make


def made(sacct: str, **options: str) -> SacctFeed:
    return make_feed(SOURCE, [], {"sacct": sacct} | options)


def read(answer: Answer) -> bytes:
    with answer.opened as stream:
        return b"".join(iter(lambda: stream.read(1 << 20), b""))


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "calls").read_text().splitlines()


def ended(tmp_path: Path) -> bool:
    """Whether every process that stood for sacct is gone (or waits as a zombie for somebody else)."""
    for pid in (tmp_path / "pids").read_text().split():
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
        except FileNotFoundError:
            continue
        if state != "Z":
            return False
    return True


def test_it_is_registered() -> None:
    assert isinstance(feed("sacct", SOURCE, [], {}), SacctFeed)
    with pytest.raises(PluginError, match="did you mean sacct"):
        feed("sact", SOURCE, [], {})


def test_what_is_run(program: MakeProgram, tmp_path: Path) -> None:
    [first, second] = made(program(), since="36h", cluster="trial").ask(None, NOW)
    assert read(first) == read(second) == f"{HEADER}\n{ROW}\n".encode()
    ask = "TZ=UTC SLURM_TIME_FORMAT=%s -M trial -a -D -P --noconvert -S {} -E {} -s " + ENDED + " -o " + RECOMMENDED
    assert calls(tmp_path) == [
        ask.format("2026-11-24T23:36:51", "2026-11-25T23:36:51"),
        ask.format("2026-11-25T23:36:51", "2026-11-26T11:36:51"),
    ]
    assert (first.cursor, second.cursor) == (str(NOW - 12 * 3600), str(NOW))
    assert second.question == "sacct 2026-11-25T23:36:51/2026-11-26T11:36:51"


def test_nothing_is_run_before_it_is_read(program: MakeProgram, tmp_path: Path) -> None:
    assert len(list(made(program(), since="10d").ask(None, NOW))) == 10
    assert not (tmp_path / "calls").exists()


@pytest.mark.parametrize(
    ("cursor", "options", "windows"),
    [
        (None, {"since": "2026-11-26"}, [(NOW - 41_811, NOW)]),
        (None, {"since": "0s"}, [(NOW, NOW)]),
        (NOW - 60, {}, [(NOW - 60 - DAY, NOW - 60), (NOW - 60, NOW)]),
        (NOW - 60, {"overlap": "1h"}, [(NOW - 3660, NOW)]),
        (NOW - 60, {"overlap": "1h", "window": "30m"}, [(NOW - 3660, NOW - 1860), (NOW - 1860, NOW - 60), (NOW - 60, NOW)]),
        (NOW, {"overlap": "0s"}, [(NOW, NOW)]),
        (NOW + 5 * DAY, {"overlap": "1h"}, [(NOW - 3600, NOW)]),  # the clock was set back
    ],
)
def test_windows(program: MakeProgram, cursor: int | None, options: dict[str, str], windows: list[tuple[int, int]]) -> None:
    answers = list(made(program(), **options).ask(None if cursor is None else str(cursor), NOW))
    asked = [tuple(re.findall(r"T([\d:]+)", a.question)) for a in answers]
    assert asked == [tuple(time.strftime("%H:%M:%S", time.gmtime(edge)) for edge in window) for window in windows]
    reached = [int(a.cursor) for a in answers]
    assert reached == sorted(reached)
    assert reached[-1] == NOW
    assert all(at >= min(cursor or 0, NOW) for at in reached), "a cursor goes back"


def test_fields_are_those_this_sacct_has(program: MakeProgram, tmp_path: Path) -> None:
    old = RECOMMENDED.replace(",ElapsedRaw", ",Elapsed").replace(",AllocTRES", ",TRESAlloc").replace(",TRESUsageInTot", "")
    [answer] = made(program(f"echo '{old.replace(',', '|')}'", old.replace(",", "  ")), since="1h").ask(None, NOW)
    assert read(answer) == old.replace(",", "|").encode() + b"\n"
    assert calls(tmp_path)[0].endswith(f" -o {old}")


@pytest.mark.parametrize("field", ["JobID", "JobIDRaw", "State", "Start", "End", "ElapsedRaw", "TotalCPU"])
def test_a_field_that_is_needed_and_missing(program: MakeProgram, field: str) -> None:
    there = " ".join(name for name in RECOMMENDED.split(",") if name != field)
    with pytest.raises(SourceError, match=rf"--helpformat does not list {field}:"):
        list(made(program(fields=there)).ask(None, NOW))


FAILURES = {
    "fails at once": ("echo 'sacct: error: Connection refused' >&2; exit 1", "status 1. It said: sacct: error: Connection refused"),
    "fails after the header": (f"echo '{HEADER}'; echo 'lost it' >&2; exit 7", "status 7. It said: lost it"),
    "fails after a row": (f"echo '{HEADER}'; echo '{ROW}'; exit 1", "ended with status 1"),
    "is killed in a row": (f"echo '{HEADER}'; printf '1|half'; kill -9 $$", "was ended by signal 9"),
    "fails with status 0": (f"echo '{HEADER}'; echo 'sacct: error: no database' >&2", "ended with status 0, but without a row"),
    "prints nothing": ("exit 0", "printed nothing, where the header JobID"),
    "prints something else": ("echo 'Welcome to node 5'", "began with .*Welcome to node 5.*, where the header JobID"),
    "prints another header": ("echo 'JobID|State'", r"began with .*JobID\|State.*, where the header JobID"),
    "prints one endless line": ("while printf '%01000d' 0; do :; done", "began with .*000.*, where the header JobID"),
    "hangs": ("sleep 600", "said nothing for 1 s and was ended"),
    "hangs after a row": (f"echo '{HEADER}'; echo '{ROW}'; sleep 600", "said nothing for 1 s and was ended"),
    "hangs with its output closed": (f"echo '{HEADER}'; exec >&- 2>&-; sleep 600", "closed its output but did not end"),
    "hangs and refuses to end": (f"trap '' TERM; echo '{HEADER}'; sleep 600 & sleep 600", "said nothing for 1 s and was ended"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_is_quoted_and_leaves_no_process(program: MakeProgram, tmp_path: Path, kind: str) -> None:
    answer, told = FAILURES[kind]
    [asked] = made(program(answer), since="1h", timeout="1s").ask(None, NOW)
    with pytest.raises(SourceError, match=told) as raised:
        read(asked)
    assert f"{tmp_path}/sacct -a -D" in raised.value.message
    assert ended(tmp_path)


def test_a_slow_answer_is_whole(program: MakeProgram) -> None:
    slow = f"echo '{HEADER}'; for i in 1 2 3 4 5; do sleep 0.4; echo '{ROW}'; done"
    [answer] = made(program(slow), since="1h", timeout="1s").ask(None, NOW)
    assert read(answer).count(b"\n") == 6


def test_a_warning_is_passed_on(program: MakeProgram, caplog: pytest.LogCaptureFixture) -> None:
    [answer] = made(program(f"echo 'sacct: error: odd plugin' >&2; echo '{HEADER}'; echo '{ROW}'"), since="1h").ask(None, NOW)
    assert read(answer).count(b"\n") == 2
    assert "odd plugin" in caplog.text


def test_an_answer_left_unread_is_no_answer(program: MakeProgram, tmp_path: Path) -> None:
    endless = f"echo '{HEADER}'; while echo '{ROW}'; do :; done"
    [answer] = made(program(endless), since="1h").ask(None, NOW)
    with pytest.raises(SourceError, match="was not read to its end"), answer.opened as stream:
        assert len(stream.read(100_000)) == 100_000
    assert ended(tmp_path)


def test_an_error_of_the_reader_ends_the_process(program: MakeProgram, tmp_path: Path) -> None:
    [answer] = made(program(f"echo '{HEADER}'; sleep 600"), since="1h").ask(None, NOW)
    with pytest.raises(ZeroDivisionError), answer.opened as stream:
        stream.read(1)
        raise ZeroDivisionError
    assert ended(tmp_path)


def test_a_long_answer_comes_in_pieces_of_the_size_asked(program: MakeProgram) -> None:
    long = f"echo '{HEADER}'; i=0; while [ $i -lt 3000 ]; do echo '{ROW}'; i=$((i+1)); done"
    [answer] = made(program(long), since="1h").ask(None, NOW)
    with answer.opened as stream:
        sizes = [len(piece) for piece in iter(lambda: stream.read(100_000), b"")]
    assert sum(sizes) == len(HEADER) + 1 + 3000 * (len(ROW) + 1)
    assert set(sizes[:-1]) == {100_000}


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"/sacct cannot be run: No such file or directory. Name the program in feed_options"):
        list(made(str(tmp_path / "sacct")).ask(None, NOW))


def test_helpformat_that_fails(tmp_path: Path) -> None:
    path = tmp_path / "sacct"
    path.write_text("#!/bin/sh\necho 'fatal: no configuration' >&2; exit 1\n")
    path.chmod(0o755)
    with pytest.raises(SourceError, match=r"--helpformat: it ended with status 1. It said: fatal: no configuration"):
        list(made(str(path)).ask(None, NOW))


def test_a_cursor_of_something_else(program: MakeProgram) -> None:
    with pytest.raises(SourceError, match="cursor '2026-11-26' is not of the feed sacct"):
        list(made(program()).ask("2026-11-26", NOW))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"windows": "1d"}, "there is no windows; did you mean window?"),
        ({"x": "1d"}, "there is no x; there are sacct, cluster, since, window, overlap, timeout, states"),
        ({"window": "1"}, "window: a duration is a number and one of s, m, h, d, w"),
        ({"window": "1s"}, "window: .*greater than or equal to 60"),
        ({"overlap": "-1h"}, "overlap: a duration is a number"),
        ({"timeout": "0s"}, "timeout: .*greater than or equal to 1"),
        ({"since": "yesterday"}, 'since: give a duration such as "30d", or a day such as "2026-01-01"'),
        ({"since": "2026-02-30"}, "since: give a duration"),
        ({"states": "COMPLETED, FAILED"}, "states: names of states, separated by commas"),
        ({"cluster": "a b"}, "cluster: "),
        ({"sacct": ""}, "sacct: "),
        ({"window": "x", "states": "?"}, "window: .*; states: "),
    ],
)
def test_wrong_options_are_named(options: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=f"source slurm1, feed_options: .*{told}"):
        make_feed(SOURCE, [], options)


def test_paths_are_refused() -> None:
    with pytest.raises(ConfigError, match="source slurm1: the feed sacct reads no files"):
        make_feed(SOURCE, ["/var/log/slurm"], {})


def test_the_zone_of_this_process_does_not_matter(program: MakeProgram, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(os.environ, "TZ", "Pacific/Chatham")
    [answer] = made(program(), since="1h").ask(None, NOW)
    read(answer)
    assert "TZ=UTC SLURM_TIME_FORMAT=%s" in calls(tmp_path)[0]
    assert "-S 2026-11-26T10:36:51 -E 2026-11-26T11:36:51" in calls(tmp_path)[0]


JOB = (
    "1|1|trial|games|5|games|of-games|short|normal|1795692844|1795692844|1795692844|1795692933|89|00:00:00|TIMEOUT|0:0|1|1|100M|"
    "billing=1,cpu=1,mem=100M,node=1|00:00.802|00:00.402|00:00.400|||||n1|wrap"
)


def test_from_the_configuration_to_the_store(program: MakeProgram, tmp_path: Path) -> None:
    """What failed is told and asked for again; what is known already is not doubled."""
    config = tmp_path / "batchacct.toml"
    config.write_text(
        f'site = "S"\n[database]\nurl = "sqlite:///{tmp_path}/db"\n[[cluster]]\nname = "c"\n[[source]]\nname = "slurm1"\n'
        f'parser = "slurm"\ncluster = "c"\nfeed = "sacct"\nfeed_options = {{ sacct = "{tmp_path}/sacct", since = "2d" }}\n'
    )

    def run(*arguments: str, now: int) -> Done:
        return batchacct(*arguments, env={"BATCHACCT_CONFIG": str(config), "BATCHACCT_NOW": str(now)})

    assert run("db", "create", now=NOW).status == 0
    program("echo 'sacct: error: no database' >&2; exit 1")
    failed = run("collect", "--once", now=NOW)
    assert failed.status == IncompleteError.exit_code
    assert "ended with status 1. It said: sacct: error: no database" in failed.err
    program(f"echo '{HEADER}'; echo '{JOB}'")
    for now, recorded, known in ((NOW + 60, 1, 1), (NOW + 120, 0, 2)):
        done = run("collect", "--once", "slurm1", now=now)
        assert done.status == 0, done.err
        [row] = re.findall(r"slurm1(.*)", done.out)
        assert [int(number) for number in re.findall(r"\d+", row)][:5] == [2, 4, recorded, 0, known], done.out
    assert [call.partition(" -E ")[2].partition(" ")[0] for call in calls(tmp_path)] == [
        "2026-11-25T11:36:51",  # failed
        *("2026-11-25T11:37:51", "2026-11-26T11:37:51"),
        *("2026-11-26T11:37:51", "2026-11-26T11:38:51"),
    ]
