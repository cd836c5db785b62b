"""Stories of what is archived: the same as before, and of no other month than those whose records are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from batchacct.archive.months import named_month
from batchacct.completing import complete_parts
from batchacct.ledger import stories
from batchacct.ledger.archived import with_archived
from batchacct.model import IDENTITY, content_hash
from batchacct.parsing import Block, Source
from batchacct.store import Origin, Store, append
from tests.archive.farms import archive, left, new_site
from tests.completing.test_completing import RULES, notes, tasks
from tests.pub.site import DAY, HOUR, Site, a_job, an_identity
from tests.records import NOW, parsed

MONTHS = tuple(named_month(f"2025-{number:02d}") for number in (2, 3, 4, 5))
LATER = named_month("2026-06")
Told = tuple[list[str], list[tuple[str, int]]]


def unit_of(store: Store, path: str, offset: int) -> Told:
    """The story of a byte, and the archived months it is of."""
    with with_archived(store, lambda wanted: wanted.of_unit(path, offset, ())) as (connection, months):
        return list(stories.trace_unit(connection, path, offset)), sorted((m.record_type.name, m.month) for m in months)


def recycled(site: Site) -> None:
    """A log a month, with the same ids at the same places; an identity is told twice."""
    for number, month in enumerate(MONTHS):
        at = month + 2 * DAY
        jobs, identities = [], []
        for offset, name in ((0, 7), (1000, 8)):
            native = b"%d of month %d" % (name, number)
            own = {"native": native, "content_hash": content_hash(native), "source_offset": offset, "parser": "test/1"}
            ids = {"join_id": str(name), "lrms_job_id": str(name)}
            jobs.append(a_job(name, submit_at=at, record_key=f"{name}:{number}", **ids, **own, source="lsf"))
            key = f"{name}:{number}"
            identities.append(an_identity(name, "/CN=Told", recorded_at=at, record_key=key, **ids, **own, source="ce"))
            again = own | {"content_hash": 1, "source_offset": offset + 500}
            identities.append(an_identity(name, "/CN=Corrected", recorded_at=at, record_key=key, **ids, **again, source="ce"))
        append(site.store, Origin("lsf", "job", "test/1", f"/acct.{number}"), parsed(jobs, end=2000), NOW)
        of_ce = Origin("ce", "identity", "test/1", f"/blah.{number}")
        append(site.store, of_ce, parsed(identities, record_type=IDENTITY, end=2000), NOW)
        site.read_to_end(at + 20 * DAY)
        site.publish(at + 20 * DAY)


def test_a_unit_is_of_its_own_month(sqlite_store: Store, tmp_path: Path) -> None:
    """... though other months have the same ids, and units at the same offsets; a byte of no record is of none."""
    site = new_site(sqlite_store, tmp_path)
    recycled(site)
    places = (("/acct.1", 0), ("/acct.1", 5), ("/acct.1", 1000), ("/blah.1", 500), ("/blah.1", 1505))
    before = {place: unit_of(sqlite_store, *place)[0] for place in places}
    nothing = unit_of(sqlite_store, "/acct.1", 700)[0]
    assert all("/CN=Corrected" in "".join(story) for story in before.values())
    archive(site, LATER)
    assert left(sqlite_store) == {"job": 0, "identity": 0, "part": 0}
    own = [("identity", MONTHS[1]), ("job", MONTHS[1])]
    assert {place: unit_of(sqlite_store, *place) for place in places} == {place: (before[place], own) for place in places}
    assert unit_of(sqlite_store, "/acct.1", 700) == (nothing, [])


def taken(site: Site, source: str, units: Callable[[int], bytes]) -> None:
    """A log a month of units of which records are made, all of the same length."""
    parser = tasks if source == "farm" else notes
    for number, month in enumerate(MONTHS):
        (made,) = parser.parse([Block(units(month + 2 * DAY), 0)], Source(source, "SITE", "c1"))
        append(site.store, Origin(source, "job", parser.label, f"/{source}.{number}"), made, NOW)
    complete_parts(site.store, RULES, MONTHS[-1])
    site.publish(LATER - DAY)


def test_a_part_is_of_its_own_month(sqlite_store: Store, tmp_path: Path) -> None:
    site = new_site(sqlite_store, tmp_path)
    taken(site, "farm", lambda at: b"task %d %d 5\nmaster %d %d 20\n" % (at, at, at, at + HOUR))
    before = [unit_of(sqlite_store, "/farm.1", offset)[0] for offset in (0, 35)]
    for story in before:
        assert sum("made with" in line for line in story) == 2
        assert sum(line.startswith("job ") for line in story) == 1
    archive(site, LATER)
    assert left(sqlite_store) == {"job": 0, "identity": 0, "part": 0}
    own = [("job", MONTHS[1]), ("part", MONTHS[1])]
    assert [unit_of(sqlite_store, "/farm.1", offset) for offset in (0, 35)] == [(story, own) for story in before]


def test_a_note_is_of_the_month_of_its_job(sqlite_store: Store, tmp_path: Path) -> None:
    site = new_site(sqlite_store, tmp_path)
    taken(site, "farm2", lambda at: b"deleted %d %d\nended %d %d\n" % (at, at, at, at + HOUR))
    before = unit_of(sqlite_store, "/farm2.2", 0)[0]
    assert any(line.startswith("job ") for line in before)
    archive(site, LATER)
    assert unit_of(sqlite_store, "/farm2.2", 0) == (before, [("job", MONTHS[2]), ("part", MONTHS[2])])


def test_a_job_in_the_table_whose_parts_are_archived(sqlite_store: Store, tmp_path: Path) -> None:
    """The master's line, of which its record is, came a month after those of its tasks."""
    site = new_site(sqlite_store, tmp_path)
    at = MONTHS[0]
    lines = b"task 7 %d 5\nmaster 7 %d 20\n" % (at, MONTHS[1])
    (made,) = tasks.parse([Block(lines, 0)], Source("farm", "SITE", "c1"))
    append(site.store, Origin("farm", "job", tasks.label, "/farm"), made, NOW)
    complete_parts(site.store, RULES, MONTHS[0])
    site.publish(LATER - DAY)
    before = unit_of(sqlite_store, "/farm", 20)[0]
    assert sum("made with" in line for line in before) == 2
    archive(site, MONTHS[1] + DAY)
    assert left(sqlite_store) == {"job": 1, "identity": 0, "part": 1}
    assert unit_of(sqlite_store, "/farm", 20) == (before, [("part", MONTHS[0])])
