"""What the policy says is too old goes, names everywhere; the numbers stay."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sqlalchemy import insert, select, update

from batchacct.archive import purging
from batchacct.archive.anonymising import PREFIX
from batchacct.archive.months import named_month
from batchacct.archive.whole_months import recall_month
from batchacct.errors import ArchiveError, HorizonError, IncompleteError
from batchacct.store import Store
from batchacct.store.tables import archived_month, followed_file, load, message, reject, vo_mapping
from batchacct.store.usage_tables import usage_pack
from batchacct.usage.packs import unpacked
from cpuhours.query import usage_by
from cpuhours.question import Question
from cpuhours.report import make_report
from pub.republishing import Period, look, show
from tests.archive.farms import archive, left, same
from tests.cpuhours.kept import keep
from tests.pub.site import DAY, Site, a_job, an_identity, dumped

MARCH, APRIL, JULY = (named_month(f"2025-{n:02d}") for n in (3, 4, 7))
NAMES = ("alice-the-user", "Alice Lovelace", "bob.builder", "alice-token-subject")
RETENTION: dict[str, object] = {"keep": 0, "personal_data": 0}


def site_of(store: Store, folder: Path, **retention: object) -> Site:
    """Two users' jobs of March and April, grid and local, published in May, and all that keeps their names."""
    site = Site(store, archive={"path": folder / "archive"}, retention=RETENTION | retention)
    for number, month in enumerate((MARCH, APRIL), 1):
        at = month + DAY
        site.jobs(
            a_job(
                10 * number,
                submit_at=at,
                user_name=NAMES[0],
                group_name=NAMES[0],
                command=f"/home/{NAMES[0]}/run",
                job_name=NAMES[2],
            ),
            a_job(10 * number + 1, submit_at=at, user_name=NAMES[2], queue="normal", wall_duration_s=77),
            a_job(10 * number + 2, submit_at=at, user_name=NAMES[2], cpu_duration_s=None),
        )
        site.identities(
            an_identity(
                10 * number, f"/CN={NAMES[1]}", recorded_at=at, local_user=NAMES[0], token_subject=NAMES[3], fqans='["/atlas"]'
            )
        )
    site.read_to_end(MARCH + 60 * DAY)
    site.publish(MARCH + 62 * DAY)
    with store.writing() as connection:
        first = connection.scalar(select(load.c.id).order_by(load.c.id).limit(1))
        unit = NAMES[1].encode()
        rejected = {"source": "lsf", "path": "/x", "source_offset": 1, "length": len(unit), "unit": unit, "parser": "lsf/1"}
        connection.execute(insert(reject).values(load_id=first, reason=f"{NAMES[1]} is no number", **rejected))
        connection.execute(update(load).values(loaded_at=MARCH + 62 * DAY))
        head = {"head": unit, "head_length": len(unit), "head_hash": "x", "tail_length": 0, "tail_hash": "", "path": "/x"}
        place = {"source": "lsf", "device": 1, "inode": 1, "offset": 1, "size": 1, "modified_at": MARCH, "updated_at": MARCH}
        connection.execute(insert(followed_file).values(**head, **place))
    return site


def purge(site: Site, at: int = JULY, *, dry_run: bool = False) -> purging.Report:
    return purging.purge(site.store, site.config, at, dry_run=dry_run, trust_clock=True)


def found_names(site: Site) -> dict[str, set[str]]:
    """Where names are still found, in whatever table or file."""
    places = {name: repr(rows) for name, rows in dumped(site.store).items()}
    for file in site.config.archive.path.rglob("*.parquet"):
        places[file.name] = repr(pq.read_table(file, partitioning=None).to_pylist())
    with site.store.reading() as connection:
        for kind, content in connection.execute(select(usage_pack.c.kind, usage_pack.c.packed)):
            places["what is kept for sums"] = places.get("what is kept for sums", "") + repr(unpacked(kind, content).to_pylist())
    return {place: names for place, text in places.items() if (names := {name for name in NAMES if name in text})}


def sums(site: Site) -> dict[str, object]:
    users = usage_by(site.store, by="user")
    return {
        **{by: usage_by(site.store, by=by).to_dict("records") for by in ("vo", "day", "queue", "outcome", "cluster")},
        "users": sorted(users.drop(columns=["user", "efficiency"]).itertuples(index=False, name=None)),
        "books": site.books(),
    }


@pytest.mark.parametrize("is_archived", [True, False], ids=["archived", "in the tables"])
def test_names_go_everywhere_and_no_number_changes(store: Store, tmp_path: Path, is_archived: bool) -> None:
    site = site_of(store, tmp_path)
    if is_archived:
        archive(site, JULY)
        assert left(store) == {"job": 0, "identity": 0, "part": 0}
    before = sums(site)
    keep(store)
    assert found_names(site)["what is kept for sums"] == {NAMES[0], NAMES[2]}
    would = purge(site, dry_run=True)
    assert found_names(site), "a dry run changes nothing"
    done = purge(site)
    assert {(one.what, one.month) for one in would.gone} == {(one.what, one.month) for one in done.gone}
    assert done.held == {}
    assert found_names(site) == {}
    assert same(sums(site), before)
    keep(store)
    assert (found_names(site), same(sums(site), before)) == ({}, True)
    site.assert_sound() if not is_archived else site.assert_balanced()
    users = usage_by(store, by="user")["user"].tolist()
    assert all(re.fullmatch(PREFIX + "[0-9a-f]{20}", user) for user in users)
    assert len(users) == 2
    assert purge(site).gone == [], "and there is nothing left to do"


def test_payloads_of_messages_that_were_not_handed_over_stay(store: Store, tmp_path: Path) -> None:
    site = site_of(store, tmp_path)
    with store.writing() as connection:
        connection.execute(update(message).values(confirmed_at=None))
    report = purge(site)
    assert set(report.held) == {MARCH, APRIL}
    assert "were not handed over" in report.held[MARCH][0]
    with store.reading() as connection:
        assert all(connection.scalars(select(message.c.payload)))
    assert found_names(site).keys() >= {"job", "identity"}


def test_a_month_without_names_takes_no_records(store: Store, tmp_path: Path) -> None:
    site = site_of(store, tmp_path)
    purge(site)
    with pytest.raises(HorizonError, match="2025-03"):
        site.jobs(a_job(99, submit_at=MARCH + DAY))
    with pytest.raises(ArchiveError, match="names were taken out of 2025-03"):
        recall_month(store, site.config, MARCH, JULY)


def test_what_goes_out_again_without_names_is_told(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = site_of(store, tmp_path)

    def told(first: int, *, decided: bool) -> str:
        show(look(store, site.config, Period(first, JULY), JULY, decided=decided), decided=decided)
        return capsys.readouterr().out

    assert "Names" not in told(MARCH, decided=True)
    purge(site, APRIL + 20 * DAY)
    assert "Names of people were taken out of 2 of them" in told(MARCH, decided=True)
    assert "Names of people were taken out of 2 of them" in told(MARCH, decided=False)
    assert "Names" not in told(APRIL, decided=True)


def test_files_go_and_their_sums_stay(store: Store, tmp_path: Path) -> None:
    site = site_of(store, tmp_path, archive_for="60d", personal_data=None)
    archive(site, JULY)
    before = site.books()
    would = purge(site, dry_run=True)
    assert {(one.what, one.month, one.records) for one in would.gone} == {
        ("file of job records", MARCH, 3), ("file of job records", APRIL, 3),
        ("file of identity records", MARCH, 1), ("file of identity records", APRIL, 1),
    }  # fmt: skip
    assert len(list(tmp_path.rglob("*.parquet"))) == 4
    assert purge(site).gone == would.gone
    assert list(tmp_path.rglob("*.parquet")) == []
    assert site.books() == before
    site.assert_balanced()
    with store.reading() as connection:
        sums = connection.execute(select(archived_month.c.purged_records, archived_month.c.purged_wall_s)).all()
    assert sorted(map(tuple, sums)) == [(1, 0), (1, 0), (3, 2077), (3, 2077)]
    with pytest.raises(IncompleteError, match="nothing to report"):
        make_report(store, Question("vo"))
    site.jobs(a_job(98, submit_at=JULY - 2 * DAY))
    for asked in (Question("vo", MARCH, JULY), Question("vo")):
        told = make_report(store, asked).notes
        assert any("2025-03 was purged from the archive: 3 job records of 0 hours" in note for note in told), asked
    with pytest.raises(HorizonError, match="2025-04"):
        site.jobs(a_job(99, submit_at=APRIL + DAY))
    with pytest.raises(ArchiveError, match="was purged"):
        recall_month(store, site.config, MARCH, JULY)
    assert purge(site).gone == []


def test_a_dry_run_lists_no_names_in_files_that_go(store: Store, tmp_path: Path) -> None:
    site = site_of(store, tmp_path, archive_for="80d", personal_data="30d")
    archive(site, JULY)
    would = purge(site, dry_run=True)
    assert {(one.what, one.month, one.records) for one in would.gone if one.month is not None} == {
        ("file of job records", MARCH, 3), ("names in file of job records", APRIL, 3),
        ("file of identity records", MARCH, 1), ("names in file of identity records", APRIL, 1),
    }  # fmt: skip
    assert purge(site).gone == would.gone
    assert found_names(site) == {}


def test_one_user_stays_one_user_over_the_years(store: Store, tmp_path: Path) -> None:
    site = site_of(store, tmp_path)
    purge(site)
    site.jobs(a_job(200, submit_at=JULY + DAY, user_name=NAMES[2]))
    site.read_to_end(JULY + 9 * DAY)
    site.publish(JULY + 30 * DAY)
    purge(site, JULY + 70 * DAY)
    assert found_names(site) == {}
    jobs = usage_by(store, by="user")["jobs"].tolist()
    assert sorted(jobs) == [2, 5]
    with store.reading() as connection:
        hashes = list(connection.scalars(select(vo_mapping.c.asked_hash)))
    assert len(hashes) == len(set(hashes))
