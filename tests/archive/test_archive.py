"""Taking months out: what is held, what stays, what is refused afterwards, and what is said when something is wrong."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import and_, select, text, update

from batchacct.archive import taking
from batchacct.archive.layout import countable_files
from batchacct.archive.months import named_month
from batchacct.archive.recalling import one_of, recall
from batchacct.archive.whole_months import recall_month
from batchacct.errors import ArchiveError, BusyError, ConfigError, HorizonError, IncompleteError, StoreError
from batchacct.model import JOB
from batchacct.parsing import Parsed
from batchacct.store import Origin, Store, append
from batchacct.store.tables import archived_month, part, setting
from cpuhours.query import usage_by
from tests.archive.farms import archive, left, new_site, same
from tests.archive.test_purge import APRIL, JULY, MARCH, purge, site_of
from tests.pub.site import DAY, HOUR, Site, a_job, an_identity, dumped
from tests.records import job, parsed, rows
from tests.records import part as a_part

FILES = 4


def files(site: Site) -> list[Path]:
    return sorted(path for path in site.config.archive.path.rglob("*") if path.is_file())


def test_only_closed_months_leave(store: Store, tmp_path: Path) -> None:
    site = site_of(store, tmp_path, keep="30d")
    assert archive(site, APRIL + 29 * DAY).taken == [], "March ended less than 30 days ago"
    report = archive(site, APRIL + 31 * DAY)
    assert {(one.record_type, one.month, one.sums.rows) for one in report.taken} == {("job", MARCH, 3), ("identity", MARCH, 1)}
    assert left(store) == {"job": 3, "identity": 1, "part": 0}
    limited = taking.archive(store, site.config, JULY, before=APRIL, trust_clock=True)
    assert limited.taken == []
    site.assert_balanced()


def test_a_dry_run_says_what_would_go(store: Store, tmp_path: Path) -> None:
    site = site_of(store, tmp_path)
    before = dumped(store)
    would = taking.archive(store, site.config, JULY, dry_run=True, trust_clock=True)
    assert (dumped(store), files(site)) == (before, [])
    done = archive(site, JULY)
    assert [(t.record_type, t.month, t.sums) for t in would.taken] == [(t.record_type, t.month, t.sums) for t in done.taken]


def test_what_is_left_to_happen_holds_a_month(store: Store, tmp_path: Path) -> None:
    site = site_of(store, tmp_path)
    site.jobs(a_job(50, submit_at=APRIL + 2 * DAY))
    report = archive(site, JULY)
    assert report.held == {APRIL: ["1 jobs are not joined yet", "1 job records are in loads that are not joined yet"]}
    assert {one.month for one in report.taken} == {MARCH}
    site.publish(APRIL + 3 * DAY)
    assert archive(site, JULY).held == {APRIL: ["1 jobs wait for their identity"]}
    site.identities(an_identity(50, recorded_at=APRIL + 2 * DAY))
    assert archive(site, JULY).held[APRIL] == ["1 identities are not joined yet", "1 jobs wait for their identity"]
    site.postbox.fails_at = 0
    with pytest.raises(Exception, match="the broker is away"):
        site.publish(JULY)
    assert archive(site, JULY).held == {APRIL: ["1 jobs are in messages that were not handed over"]}
    site.postbox.fails_at = None
    site.publish(JULY)
    assert archive(site, JULY).held == {}
    assert left(store) == {"job": 0, "identity": 0, "part": 0}


def test_what_was_refused_for_publishing_does_not_hold(store: Store, tmp_path: Path) -> None:
    site = site_of(store, tmp_path)
    site.jobs(a_job(50, submit_at=APRIL + 2 * DAY, wall_duration_s=None, queue="normal"))
    site.publish(JULY)
    refused = site.out().refused
    assert sum(refused.values()) == 1
    archive(site, JULY)
    site.publish(JULY + DAY)
    assert site.out().refused == refused
    site.assert_balanced()


def test_the_identity_of_a_chain_of_runs_stays_with_its_last_run(store: Store, tmp_path: Path) -> None:
    """Told at the first submission, long before the run that is still in its table was submitted."""
    site = site_of(store, tmp_path)
    ends = [MARCH + n * DAY for n in (5, 85, 165, 245)]
    for number, (begin, end) in enumerate(itertools.pairwise(ends)):
        state = "completed" if end == ends[-1] else "requeued"
        times = {"submit_at": begin, "start_at": begin + 60, "end_at": end, "logged_at": end}
        site.jobs(a_job(70, lrms="Slurm", state=state, record_key=f"c1:70:{number}", **times))
    site.identities(an_identity(70, recorded_at=ends[0]))
    site.read_to_end(ends[-1] + DAY)
    site.publish(ends[-1] + DAY)
    before = usage_by(store, by="vo").to_dict("records")
    taking.archive(store, site.config, ends[-1] + 2 * DAY, before=named_month("2025-11"), trust_clock=True)
    assert left(store) == {"job": 1, "identity": 1, "part": 0}
    assert same(usage_by(store, by="vo").to_dict("records"), before)
    assert archive(site, ends[-1] + 60 * DAY).held == {}
    assert left(store) == {"job": 0, "identity": 0, "part": 0}
    assert same(usage_by(store, by="vo").to_dict("records"), before)
    site.assert_balanced()


def live_a_chain(site: Site, *, archived: bool) -> list[bytes]:
    """Runs of 80 days, with an identity told at the first submission; the last comes when all else is archived; it is corrected."""
    ends = [MARCH + n * DAY for n in (5, 85, 165, 245)]

    def run(number: int, state: str, **columns: object) -> None:
        times = {"submit_at": ends[number], "start_at": ends[number] + 60, "end_at": ends[number + 1]}
        site.jobs(a_job(70, lrms="Slurm", state=state, record_key=f"c1:70:{number}", **times, **columns))

    def publish(at: int) -> None:
        site.read_to_end(at)
        site.publish(at)

    for number in (0, 1):
        run(number, "requeued")
    site.identities(an_identity(70, "/CN=Chain", recorded_at=ends[0]))
    publish(ends[2] + DAY)
    if archived:
        archive(site, ends[2] + 40 * DAY)
        assert left(site.store) == {"job": 0, "identity": 0, "part": 0}
    run(2, "completed")
    publish(ends[3] + DAY)
    if archived:
        archive(site, ends[3] + 2 * DAY)
        assert left(site.store) == {"job": 1, "identity": 1, "part": 0}, "what the ledger refers to stays with the run"
        assert site.names()[-1] == "/CN=Chain"
    run(2, "completed", cpu_duration_s=950)
    publish(ends[3] + 3 * DAY)
    site.assert_balanced()
    return [taken.payload for taken in site.postbox.taken]


def test_a_later_run_of_a_chain_is_published_as_if_nothing_were_archived(store: Store, tmp_path: Path) -> None:
    site = new_site(store, tmp_path)
    before = live_a_chain(site, archived=False)
    vos = usage_by(store, by="vo").to_dict("records")
    site.emptied()
    assert live_a_chain(site, archived=True) == before
    assert same(usage_by(store, by="vo").to_dict("records"), vos)
    assert len(before) == 3
    assert all(b"/CN=Chain" in payload and b"VO: atlas" in payload for payload in before)


def test_parts_that_wait_stay(store: Store, tmp_path: Path) -> None:
    site = site_of(store, tmp_path)
    some = [a_part(number, logged_at=MARCH + HOUR) for number in (1, 2, 3)]
    append(store, Origin("lsf", "job", "test/1", "/x"), parsed(parts=some), JULY)
    with store.writing() as connection:
        connection.execute(update(part).where(part.c.source_offset == 1).values(used_at=MARCH + DAY))
        connection.execute(update(part).where(part.c.source_offset == 2).values(used_at=JULY + DAY))
    site.publish(JULY)
    archive(site, JULY)
    assert [row["source_offset"] for row in rows(store, part)] == [2, 3]
    site.assert_balanced()
    archive(site, JULY + 40 * DAY)
    assert [row["source_offset"] for row in rows(store, part)] == [3]
    site.assert_balanced()


def test_a_log_of_an_archived_month_is_refused(store: Store, tmp_path: Path) -> None:
    site = site_of(store, tmp_path)
    archive(site, JULY)
    before = dumped(store)
    with pytest.raises(HorizonError, match=r"source lsf: lsf holds records of 2025-03, archived.*batchacct db recall 2025-03"):
        site.jobs(a_job(10, submit_at=MARCH + DAY))
    both = "run `batchacct db recall 2025-03` and `batchacct db recall 2025-04` first"
    with pytest.raises(HorizonError, match=f"holds records of 2025-03, 2025-04, archived.*{both}"):
        site.jobs(a_job(10, submit_at=MARCH + DAY), a_job(11, submit_at=APRIL + DAY))
    assert dumped(store) == before


def old_and_new(count_old: int, count_new: int) -> Parsed:
    old = [job(n, logged_at=MARCH + n, native=b"old %d" % n) for n in range(count_old)]
    return parsed([*old, *(job(100 + n, logged_at=JULY) for n in range(count_new))])


def test_a_few_old_records_among_newer_ones_are_rejects(store: Store, tmp_path: Path) -> None:
    site = site_of(store, tmp_path)
    archive(site, JULY)
    counts, _ = append(store, Origin("lsf", "job", "test/1", "/x"), old_and_new(2, 3), JULY)
    assert (counts.units, counts.recorded, counts.rejected) == (5, 3, 2)
    with store.reading() as connection:
        found = connection.execute(text("SELECT unit, reason FROM reject ORDER BY source_offset")).all()
    assert [bytes(row.unit) for row in found if "archived" in row.reason] == [b"old 0", b"old 1"]
    assert "it is of 2025-03, which is archived: `batchacct db recall 2025-03`" in found[0].reason + found[-1].reason
    with pytest.raises(HorizonError):
        append(store, Origin("lsf", "job", "test/1", "/x"), old_and_new(2, 0), JULY)


def test_a_recalled_month_is_known_again(store: Store, tmp_path: Path) -> None:
    site = site_of(store, tmp_path)
    before = {name: table for name, table in dumped(store).items() if name not in {"setting", "load"}}
    archive(site, JULY)
    assert recall_month(store, site.config, MARCH, JULY) == {"job": 3, "identity": 1}
    site.assert_balanced()
    recall_month(store, site.config, APRIL, JULY)
    after = {name: table for name, table in dumped(store).items() if name in before}
    after["archive_leftover"] = []
    assert after == before
    counts, _ = append(store, Origin("lsf", "job", "insert/1", "lsf"), parsed([job(77, logged_at=MARCH + 5)]), JULY)
    assert counts.recorded == 1
    with pytest.raises(ConfigError, match="nothing of 2025-03 is archived"):
        recall_month(store, site.config, MARCH, JULY)
    site.publish(JULY)
    assert archive(site, JULY).held == {}
    assert len(files(site)) == 2 * FILES
    site.assert_balanced()


@pytest.mark.parametrize("wrong", ["missing", "cut", "damaged"])
def test_a_file_that_is_not_as_it_was_is_told(sqlite_store: Store, tmp_path: Path, wrong: str) -> None:
    site = site_of(sqlite_store, tmp_path)
    archive(site, JULY)
    file = next(path for path in files(site) if path.suffix == ".parquet" and "job" in path.parts)
    content = file.read_bytes()
    file.unlink()
    if wrong != "missing":
        file.write_bytes(content[:-1] if wrong == "cut" else content[:4] + bytes(len(content) - 4))
    with pytest.raises(ArchiveError, match="estore it from a backup") as told:
        usage_by(sqlite_store, by="vo")
    assert str(file) in told.value.message
    file.write_bytes(content)
    usage_by(sqlite_store, by="vo")


def test_an_archive_that_was_moved(sqlite_store: Store, tmp_path: Path) -> None:
    site = site_of(sqlite_store, tmp_path)
    archive(site, JULY)
    elsewhere = tmp_path / "elsewhere"
    site.configure(archive={"path": elsewhere}, retention={"keep": 0})
    with pytest.raises(ArchiveError, match="move all of"):
        archive(site, JULY)
    shutil.move(tmp_path / "archive", elsewhere)
    with pytest.raises(ArchiveError, match=r"if the archive was moved, correct \[archive\] path"):
        usage_by(sqlite_store, by="vo")
    archive(site, JULY)
    assert usage_by(sqlite_store, by="vo")["jobs"].sum() == 6


def test_an_archive_that_is_not_mounted(sqlite_store: Store, tmp_path: Path) -> None:
    """Nothing is written into the empty folder in its place."""
    site = site_of(sqlite_store, tmp_path)
    taking.archive(sqlite_store, site.config, JULY, before=APRIL, trust_clock=True)
    (tmp_path / "archive").rename(tmp_path / "elsewhere")
    (tmp_path / "archive").mkdir()
    for run in (lambda: archive(site, JULY), lambda: purge(site), lambda: recall_month(sqlite_store, site.config, MARCH, JULY)):
        with pytest.raises(ArchiveError, match=r"month=2025-03.* is in force, and is not there: mount the file system"):
            run()
    assert (left(sqlite_store)["job"], files(site)) == (3, [])
    (tmp_path / "archive").rmdir()
    (tmp_path / "elsewhere").rename(tmp_path / "archive")
    assert len(archive(site, JULY).taken) == FILES // 2


def test_two_at_once(store: Store, tmp_path: Path) -> None:
    site = site_of(store, tmp_path)
    other = Store(store.engine.url.render_as_string(hide_password=False))
    for name in ("archive", "publish"):
        with other.lock(name), pytest.raises(BusyError, match=f"doing `{name}`"):
            archive(site, JULY)
    other.close()
    assert files(site) == []
    assert len(archive(site, JULY).taken) == FILES


def test_a_clock_that_cannot_be_right(store: Store, tmp_path: Path) -> None:
    site = site_of(store, tmp_path)
    for at in (JULY + 3650 * DAY, MARCH - 100 * DAY):
        with pytest.raises(IncompleteError, match=r"by this host's clock it is .* Set the clock"):
            taking.archive(store, site.config, at)
    assert files(site) == []
    assert len(taking.archive(store, site.config, APRIL + 40 * DAY).taken) == FILES


def test_records_that_come_while_a_month_is_written(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A late record of the month is neither lost nor in the file unjoined: it stays, and the month with it."""
    site = site_of(store, tmp_path)
    came: list[int] = []

    def come(place: str) -> None:
        if place == "archive.written" and not came:
            came.append(1)
            site.jobs(a_job(60, submit_at=MARCH + 3 * DAY, queue="normal"))

    monkeypatch.setattr(taking, "crash_point", come)
    report = archive(site, JULY)
    assert report.held == {
        MARCH: ["its job records changed each of the 3 times they were written: there are records that are not joined yet"]
    }
    assert {(one.record_type, one.month) for one in report.taken} == {("job", APRIL), ("identity", APRIL)}
    site.assert_balanced()
    assert left(store) == {"job": 4, "identity": 1, "part": 0}
    site.publish(JULY)
    archive(site, JULY)
    assert (left(store)["job"], usage_by(store, by="vo")["jobs"].sum()) == (0, 7)
    site.assert_balanced()
    of_march = and_(archived_month.c.month == MARCH, archived_month.c.record_type == "job")
    with store.reading() as connection:
        assert connection.scalar(select(archived_month.c.records).where(of_march)) == 4


def test_no_room_for_the_file(store: Store, tmp_path: Path) -> None:
    site = site_of(store, tmp_path)
    (tmp_path / "archive").write_text("in the way")
    before = {name: table for name, table in dumped(store).items() if name not in {"archive_leftover", "setting"}}
    with pytest.raises(ArchiveError, match="nothing was deleted from the database"):
        archive(site, JULY)
    after = {name: table for name, table in dumped(store).items() if name in before}
    assert after == before
    (tmp_path / "archive").unlink()
    assert len(archive(site, JULY).taken) == FILES


def test_files_bear_the_name_of_their_database(store: Store, tmp_path: Path) -> None:
    site = site_of(store, tmp_path)
    archive(site, JULY)
    with store.reading() as connection:
        own = connection.scalar(select(setting.c.value).where(setting.c.name == "archive_name"))
    assert all(path.name.startswith(f"{own}-") for path in files(site))


def test_a_user_who_may_not_delete(postgresql_url: str, tmp_path: Path) -> None:
    """Nothing leaves, nothing is counted twice, and whoever may goes on."""
    owner = Store(postgresql_url)
    with owner.writing() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    owner.create()
    site = site_of(owner, tmp_path)
    with owner.writing() as connection:
        for statement in (
            "DROP ROLE IF EXISTS careful",
            "CREATE ROLE careful LOGIN",
            "GRANT USAGE ON SCHEMA public TO careful",
            "GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO careful",
            "GRANT DELETE ON archive_leftover, archived_month, recalled TO careful",
        ):
            connection.execute(text(statement))
    careful = Store(owner.engine.url.set(username="careful").render_as_string(hide_password=False))
    with pytest.raises(StoreError, match=r"permission denied for table job.*Grant this user the rights"):
        taking.archive(careful, site.config, JULY, trust_clock=True)
    careful.close()
    assert left(owner) == {"job": 6, "identity": 2, "part": 0}
    site.assert_balanced()
    assert len(archive(site, JULY).taken) == FILES
    assert len(files(site)) == 2 * FILES, "what was left over is gone"
    with owner.writing() as connection:
        connection.execute(text("DROP OWNED BY careful"))
        connection.execute(text("DROP ROLE careful"))
    owner.close()


def test_a_month_is_not_read_twice_after_a_kill(sqlite_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between a file coming into force and the removal of the one it replaces, the folder alone does not tell which counts."""
    pytest.importorskip("pyspark")
    from cpuhours.on_spark import SparkFigures

    site = site_of(sqlite_store, tmp_path)
    archive(site, JULY)
    folder = site.config.archive.path
    assert sum(manifest.rows for _, manifest in countable_files(folder, JOB)) == 6
    with sqlite_store.writing() as connection:
        recall(connection, JOB, one_of("join_id", ["10"]))

    def stop(place: str) -> None:
        if place == "archive.in-force":
            raise KeyboardInterrupt

    monkeypatch.setattr(taking, "crash_point", stop)
    with pytest.raises(KeyboardInterrupt):
        archive(site, JULY)
    monkeypatch.undo()
    with pytest.raises(ArchiveError, match=r"month=2025-03 has 2 files.*db archive"):
        SparkFigures(cast("Any", None), folder)
    archive(site, JULY)
    assert sum(manifest.rows for _, manifest in countable_files(folder, JOB)) == 6
