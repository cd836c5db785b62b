"""`batchacct demo`: the same every time, equal to an independent reading of its logs, and what it tells to try works."""

from __future__ import annotations

import csv
import glob
import io
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import func, select

from batchacct.cli.demonstration import END_AT
from batchacct.config import load_config
from batchacct.demo.farm import VO_MAP
from batchacct.store import Store
from batchacct.store.tables import identity, job, usage, vo_mapping
from tests.cli.runner import Done, batchacct
from tests.demo.independent import Reading, read_logs

pytestmark = pytest.mark.xdist_group("demo")

JOBS = 500


def _demo(folder: Path, *more: str) -> Done:
    done = batchacct("demo", "--folder", folder, "--jobs", JOBS, *more)
    assert done.status == 0, done.err
    assert done.err == f"wrote {folder}/cpu-hours.png\n"
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "de mo[1]"


@pytest.fixture(scope="module")
def done(folder: Path) -> Done:
    return _demo(folder)


@pytest.fixture(scope="module")
def reading(folder: Path, done: Done) -> Reading:
    return read_logs(folder / "logs", VO_MAP, END_AT)


def _environment(folder: Path) -> dict[str, str]:
    return {"BATCHACCT_CONFIG": str(folder / "batchacct.toml"), "BATCHACCT_NOW": str(END_AT)}


def _files(folder: Path) -> dict[str, bytes]:
    """What the demo leaves for people and SSM: every file but the database and what names the folder."""
    own = [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith("batchacct.")]
    return {str(p.relative_to(folder)): p.read_bytes() for p in own}


def test_the_same_bytes_in_another_folder_and_others_by_another_seed(folder: Path, done: Done, tmp_path: Path) -> None:
    """The second run in `other` deletes what the first left there, as it is the demo's own."""
    other = tmp_path / "other"
    again = _demo(other)
    assert _files(other) == _files(folder)
    assert any(name.startswith("outgoing/") for name in _files(folder))
    assert _words(again.out, other) == _words(done.out, folder)
    elsewhere = _demo(other, "--seed", "2")
    assert "The books balance at every stage." in elsewhere.out
    assert _files(other) != _files(folder)
    assert _words(elsewhere.out, other) != _words(done.out, folder)


def _words(output: str, folder: Path) -> list[str]:
    """The output without the folder, quoted or not, and without the widths of tables, which follow from it."""
    plain = output.replace(shlex.quote(f"{folder}/batchacct.toml"), f"{folder}/batchacct.toml").replace(str(folder), "FOLDER")
    return re.sub(r"[\u2500-\u257f]+", " ", plain).split()


def _ledger(folder: Path) -> Iterator[tuple[str, int, int, int]]:
    """(VO, jobs, CPU seconds, wallclock seconds) of what is published, from the database."""
    vo = func.coalesce(identity.c.vo, vo_mapping.c.vo)
    query = (
        select(vo, func.count(), func.sum(job.c.cpu_duration_s), func.sum(job.c.wall_duration_s))
        .select_from(job.join(usage, usage.c.job_id == job.c.id))
        .outerjoin(identity, identity.c.id == usage.c.identity_id)
        .outerjoin(vo_mapping, vo_mapping.c.id == usage.c.mapping_id)
        .where(usage.c.outcome.in_(["joined", "local"]))
        .group_by(vo)
    )
    with closing(Store(load_config(folder / "batchacct.toml").database.resolved())) as store, store.reading() as connection:
        for row in connection.execute(query):
            yield row[0], int(row[1]), int(row[2]), int(row[3])


def test_the_ledger_equals_the_independent_reading(folder: Path, reading: Reading) -> None:
    assert {vo: tuple(rest) for vo, *rest in _ledger(folder)} == reading.as_tuples()


def test_the_messages_equal_the_independent_reading(folder: Path, reading: Reading) -> None:
    totals: dict[str, list[int]] = {}
    for path in sorted((folder / "outgoing").rglob("*")):
        for record in path.read_text().split("%%\n") if path.is_file() else []:
            fields = dict(line.split(": ", 1) for line in record.splitlines() if ": " in line)
            if "LocalJobId" in fields:
                vo = fields["VO"].lstrip("/")
                total = totals.setdefault(vo, [0, 0, 0])
                for place, value in enumerate((1, int(fields["CpuDuration"]), int(fields["WallDuration"]))):
                    total[place] += value
    assert {vo: tuple(total) for vo, total in totals.items()} == reading.as_tuples()


def test_the_report_equals_the_independent_reading(folder: Path, reading: Reading) -> None:
    """It counts waiting jobs and those of unknown CPU time too; where a VO has no waiting ones, its CPU seconds are equal."""
    shown = batchacct("report", "--by", "vo", "--format", "csv", env=_environment(folder))
    rows = {row["vo"]: row for row in csv.DictReader(io.StringIO(shown.out))}
    rows.pop("total", None)
    waiting = reading.counts["waiting"]
    jobs = sum(int(row["jobs"]) for row in rows.values())
    assert jobs == reading.counts["joined"] + reading.counts["local"] + waiting + reading.counts["unknown_cpu"]
    for vo, total in reading.as_tuples().items():
        unknown = int(rows[vo]["cpu_unknown_jobs"])
        extra = int(rows[vo]["jobs"]) - unknown - total[0]
        assert 0 <= extra <= waiting
        if not extra:
            assert int(float(rows[vo]["cpu_s"])) == total[1]
        waiting -= extra


def test_what_it_tells_to_try_works(folder: Path, done: Done) -> None:
    told = done.out.partition("What to look at next:")[2]
    exported = [shlex.split(line, comments=True) for line in re.findall(r"^  export (.*)", told, re.MULTILINE)]
    exports = dict(word.split("=") for words in exported for word in words)
    assert exports == _environment(folder)
    lines = [line.split("  #")[0].strip() for line in told.splitlines() if line.strip().startswith("batchacct ")]
    assert len(lines) == 5
    for line in lines:
        tried = batchacct(*shlex.split(line)[1:], env=exports)
        assert (tried.status, tried.err) == (0, ""), line
        assert tried.out.strip()
    for named in re.findall(r"^  (\S.*?)  \S", told, re.MULTILINE):
        assert Path(named).is_file() or named.startswith(("batchacct ", "export "))


def test_the_stories_it_points_to(folder: Path, done: Done) -> None:
    published, waiting = re.findall(r"batchacct why (\d+)", done.out)
    assert "handed over " in batchacct("why", published, env=_environment(folder)).out
    last = batchacct("why", waiting, env=_environment(folder)).out.rpartition(f"job {waiting} on ")[2]
    assert "waiting: no identity yet" in last


def test_the_tutorial_comes_to_a_message(folder: Path, done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands in their order, from a folder in which `make demo` has run; the checkout is left as that made it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    shutil.copytree(folder, "demo")
    written = Path("demo/batchacct.toml").read_text(encoding="utf-8")
    for path in (glob.escape(str(folder)), str(folder)):
        written = written.replace(path, f"{tmp_path}/demo")
    Path("demo/batchacct.toml").write_text(written, encoding="utf-8")
    page = (Path(__file__).parents[1] / "docs/tutorial/first-message.md").read_text(encoding="utf-8")
    blocks: list[tuple[str, str]] = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    told: dict[str, str] = {}
    environment: dict[str, str] = {}
    for kind, text in blocks:
        if kind == "toml":
            Path("mine.toml").write_text(text)
        told |= _typed(text, environment, monkeypatch) if not kind else {}
    demo, mine = "of demo/batchacct.toml", "of mine.toml"
    assert "The books balance at every stage" in told[f"status {demo}"]
    assert "silent" not in told[f"status {demo}"]
    assert re.search(r"lsb\.acct\S*, byte \d+ .*\n.*blahp\S*, byte \d+ ", told[f"trace message 1 {demo}"])
    assert re.search(r"lsf-master │ +3 │ +1 │ +0 │ +0 │ +1 ", told[f"collect --once {demo}"])
    (message,) = Path("outgoing").glob("*/*")
    assert message.read_bytes().startswith(b"APEL-individual-job-message: v0.3\nSite: MY-SITE\n")
    assert f"receipt {message.relative_to('outgoing')}\n" in told[f"trace message 1 {mine}"]
    assert re.search(r"messages handed over │ +│ +1 ", told[f"publish --once {mine}"])
    assert re.findall(r"^│ (\S+)", told[f"report --by vo {mine}"], re.MULTILINE) == ["local-nonlcg", "total"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo", "home"]


def _typed(text: str, environment: dict[str, str], patch: pytest.MonkeyPatch) -> dict[str, str]:
    """Types a block of commands, in `environment`, which it may change: what batchacct told, by `COMMAND of CONFIGURATION`."""
    told = {}
    for line in text.splitlines():
        program, *words = shlex.split(line)
        if program == "export":
            environment |= dict(word.split("=") for word in words)
        elif program == "unset":
            del environment[words[0]]
        elif program == "cd":
            patch.chdir(Path(words[0]).expanduser())
        elif program == "batchacct":
            tried = batchacct(*words, env=environment)
            assert (tried.status, tried.err) == (0, ""), line
            told[f"{' '.join(words)} of {environment['BATCHACCT_CONFIG']}"] = tried.out
        elif program != ".":
            subprocess.run(line, shell=True, check=True)
    return told


def test_a_folder_that_is_not_its_own_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "batchacct.toml").write_text('site = "MINE"\n')
    (tmp_path / "file").write_text("mine")
    for folder, told in ((tmp_path, "is not empty and no earlier demo's"), (tmp_path / "file", "is no folder")):
        done = batchacct("demo", "--folder", folder)
        assert done.status == 3
        assert told in done.err
        assert "name another with --folder" in done.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["batchacct.toml", "file"]
    assert "cannot be written" in batchacct("demo", "--folder", "/proc/nosuch/demo").err


@pytest.mark.parametrize("jobs", ["0", "499", "-1", "9999999", "x"])
def test_unfit_sizes(tmp_path: Path, jobs: str) -> None:
    done = batchacct("demo", "--folder", tmp_path / "demo", "--jobs", jobs)
    assert done.status == 2
    assert not (tmp_path / "demo").exists()
