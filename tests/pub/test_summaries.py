"""Summaries and sync: cell by cell what the receiver would make of the job records, which another program reads and adds up."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchacct.archive.months import month_name, named_month
from batchacct.archive.whole_months import recall_month
from batchacct.store import Store
from pub.formats.apel_summaries import NORMALISED_03, NORMALISED_04, SUMMARY_02, SUMMARY_04, SYNC_HEADER, message_of, sync_records
from pub.formats.contract import SummaryFormat
from pub.summaries import Cell, Summaries, Sums, as_loaded, counts, months_with_jobs, summaries
from tests.apel_reader import Job, as_stored, read_as_documented
from tests.archive.farms import archive
from tests.archive.test_purge import APRIL, JULY, MARCH, purge, site_of
from tests.pub.cells import KEY, Figures, Key, added_up, as_cells
from tests.pub.site import DAY, HOUR, Site, a_job, an_identity

OCTOBER, NOVEMBER, DECEMBER = (named_month(f"2023-{number}") for number in (10, 11, 12))
LATER = DECEMBER + 20 * DAY
EXAMPLES = {"sqlite": 40, "postgresql": 8, "mariadb": 6}


def asked(site: Site) -> Summaries:
    return summaries(site.store, site.config, months_with_jobs(site.store, site.clock), site.clock)


def read_summaries(site: Site, cells: Mapping[Cell, Sums], by: SummaryFormat) -> list[Job]:
    rendered = by.render(cells)
    assert not rendered.refused
    return read_as_documented(by.message(rendered.records), now=site.clock) if rendered.records else []


def read_sync(site: Site) -> dict[tuple[object, ...], object]:
    records = sync_records(counts(site.store, site.config, months_with_jobs(site.store, site.clock), site.clock).jobs)
    read = read_as_documented(message_of(SYNC_HEADER, records), now=site.clock) if records else []
    counted: dict[tuple[object, ...], object] = {
        (r["Site"], r.get("SubmitHost") or "None", r["Year"], r["Month"]): r["NumberOfJobs"] for r in read
    }
    assert len(counted) == len(read)
    return counted


def assert_equal(site: Site) -> Summaries:
    """What was summed is what was published, in every format."""
    reference = added_up(site.received().values())
    found = asked(site)
    for by in (SUMMARY_02, SUMMARY_04):
        assert as_cells(read_summaries(site, found.cells, by)) == reference
    assert_normalised(reference, read_summaries(site, found.cells, NORMALISED_03), by_benchmark=False)
    assert_normalised(reference, read_summaries(site, found.cells, NORMALISED_04), by_benchmark=True)
    jobs: Counter[tuple[object, ...]] = Counter()
    for key, figures in reference.items():
        jobs[key[0], key[3 + KEY.index("SubmitHost")], key[1], key[2]] += figures[0]
    assert read_sync(site) == jobs
    return found


def assert_normalised(reference: Mapping[Key, Figures], records: Iterable[Job], *, by_benchmark: bool) -> None:
    kind, level = (3 + KEY.index(name) for name in ("ServiceLevelType", "ServiceLevel"))
    expected: dict[Key, list[Fraction]] = {}
    for key, (count, wall, cpu, *_) in reference.items():
        of_benchmark = {"si2k": "hepspec"}.get(str(key[kind]), key[kind]) if by_benchmark else None
        factor = Fraction(str(key[level])) / (250 if key[kind] == "si2k" else 1)
        merged = (*key[:kind], of_benchmark, *key[level + 1 :])
        sums = expected.setdefault(merged, [Fraction(0)] * 5)
        more = (Fraction(count), Fraction(wall), Fraction(cpu), wall * factor, cpu * factor)
        expected[merged] = [a + b for a, b in zip(sums, more, strict=True)]
    names = ("NumberOfJobs", "WallDuration", "CpuDuration", "NormalisedWallDuration", "NormalisedCpuDuration")
    found = {}
    for record in records:
        of = record | {"InfrastructureType": record["Infrastructure"]}
        values = [
            ("None" if of.get(name) is None else of[name]) for name in KEY if name not in {"ServiceLevelType", "ServiceLevel"}
        ]
        values.insert(kind - 3, record.get("ServiceLevelType"))
        found[record["Site"], record["Year"], record["Month"], *values] = [record[name] for name in names]
    half_up = {key: [int(sum_ + Fraction(1, 2)) for sum_ in sums] for key, sums in expected.items()}
    assert found == half_up


def test_cells_are_what_was_published(site: Site) -> None:
    at = {"submit_at": NOVEMBER + DAY}
    site.jobs(
        a_job(1, **at),
        a_job(2, **at, wall_duration_s=7, cpu_duration_s=3),
        a_job(3, **at, processors=8),
        a_job(4, **at, queue="short", user_name="bob"),
        a_job(5, **at, queue="short", cpu_duration_s=None),
        a_job(6, submit_at=DECEMBER - 2 * HOUR, start_at=DECEMBER - HOUR, end_at=DECEMBER, queue="short"),
        a_job(7, submit_at=DECEMBER - 2 * HOUR, start_at=DECEMBER - HOUR, end_at=DECEMBER - 1, queue="short"),
    )
    site.identities(*(an_identity(number, recorded_at=NOVEMBER + DAY) for number in (1, 2, 3)))
    site.publish(LATER)
    found = assert_equal(site)
    assert sorted((month_name(cell.month), cell.vo, cell.processors, sums.jobs) for cell, sums in found.cells.items()) == [
        ("2023-11", "atlas", 1, 2),
        ("2023-11", "atlas", 8, 1),
        ("2023-11", "local-nonlcg", 1, 2),
        ("2023-12", "local-nonlcg", 1, 1),
    ]
    assert (found.refused, found.left_out, found.held) == ({}, {}, {})
    (pilots,) = (sums for cell, sums in found.cells.items() if cell.processors == 1 and cell.vo == "atlas")
    assert pilots == Sums(2, 1007, 903, NOVEMBER + DAY + 1100, NOVEMBER + DAY + 1100)


def test_what_is_not_a_whole_month_is_not_asked_for(site: Site) -> None:
    site.jobs(*(a_job(n, queue="short", submit_at=month) for n, month in enumerate((OCTOBER, NOVEMBER, DECEMBER))))
    site.publish(LATER)
    found = summaries(site.store, site.config, [OCTOBER, DECEMBER], site.clock)
    assert {cell.month for cell in found.cells} == {OCTOBER, DECEMBER}
    assert months_with_jobs(site.store, site.clock) == [OCTOBER, NOVEMBER, DECEMBER]


def test_what_is_refused_is_in_no_cell(site: Site) -> None:
    at = {"submit_at": NOVEMBER + DAY, "queue": "short"}
    site.jobs(
        a_job(1, **at),
        a_job(2, **at, wall_duration_s=None),
        a_job(3, **at, wall_duration_s=2**31),
        a_job("none", **at),
        a_job(5, **at, start_at=NOVEMBER + 3 * DAY, end_at=NOVEMBER + 2 * DAY),
    )
    _, done = site.publish(LATER)
    found = assert_equal(site)
    assert found.refused == done.refused
    assert sum(found.refused.values()) == 4
    assert [sums.jobs for sums in found.cells.values()] == [1]


def test_what_is_left_out_counts_jobs(site: Site) -> None:
    at = {"submit_at": NOVEMBER + DAY}
    site.jobs(*(a_job(n, **at) for n in (1, 2, 3)))
    long = "/CN=" + "x" * 300
    site.identities(*(an_identity(n, long, recorded_at=NOVEMBER + DAY) for n in (1, 2)), an_identity(3, recorded_at=NOVEMBER + DAY))
    _, done = site.publish(LATER)
    found = assert_equal(site)
    what = "GlobalUserName: longer than 255 characters"
    assert (found.left_out[what], done.left_out[what]) == (2, 2)


def test_a_correction_changes_its_cells(site: Site) -> None:
    at = {"submit_at": NOVEMBER + DAY}
    site.jobs(a_job(1, **at), a_job(2, **at))
    site.publish(LATER)
    before = assert_equal(site)
    site.identities(an_identity(1, recorded_at=NOVEMBER + DAY))
    site.jobs(a_job(2, **at, cpu_duration_s=1))
    site.publish(LATER + DAY)
    after = assert_equal(site)
    assert before.cells != after.cells


def test_an_archived_month_is_left_alone(store: Store, tmp_path: Path) -> None:
    """Its cells would be those of the jobs that are still in the database: a late one of March was logged in April."""
    site = site_of(store, tmp_path)
    late = {"submit_at": APRIL - 2 * HOUR, "start_at": APRIL - HOUR, "end_at": APRIL - 60}
    site.jobs(a_job(77, queue="normal", **late, logged_at=APRIL + 60))
    site.publish(JULY - DAY)
    before = assert_equal(site)
    archive(site, APRIL + 2 * DAY)
    found = asked(site)
    assert found.held == {MARCH: "2 of its jobs are archived; `batchacct db recall 2025-03` puts them back"}
    assert found.cells == {cell: sums for cell, sums in before.cells.items() if cell.month == APRIL}
    assert {month for *_, month in counts(store, site.config, [MARCH, APRIL], site.clock).jobs} == {APRIL}
    recall_month(store, site.config, MARCH, JULY)
    assert assert_equal(site).held == {}


def test_purged_months_have_no_cells(store: Store, tmp_path: Path) -> None:
    site = site_of(store, tmp_path, archive_for=0, personal_data=None)
    archive(site, JULY)
    purge(site)
    found = summaries(store, site.config, [MARCH, APRIL], JULY)
    assert (set(found.held), found.cells) == ({MARCH, APRIL}, {})
    assert all("purged" in why for why in found.held.values())


def test_pseudonyms_are_no_names_of_cells(store: Store, tmp_path: Path) -> None:
    site = site_of(store, tmp_path)
    assert asked(site).pseudonymous == set()
    purge(site)
    assert asked(site).pseudonymous == {MARCH, APRIL}
    site.configure(publish={"personal": "none"})
    assert asked(site).pseudonymous == set()


@pytest.mark.parametrize(
    "fqan",
    [
        "/atlas/Role=pilot/Capability=NULL;/atlas/Role=NULL/Capability=NULL",
        "/atlas/higgs/Role=NULL",
        "/atlas/Capability=NULL",
        "/local-atlas",
        "/",
        "//atlas//x/ROLE=y/z",
        "/Role=x",
        ";/a",
    ],
)
def test_an_fqan_is_read_as_the_receiver_reads_it(fqan: str) -> None:
    if fqan.startswith("/"):
        stored = as_stored({"FQAN": fqan, "ServiceLevel": 1.0})
        assert as_loaded(fqan) == (stored["VO"], stored["VOGroup"], stored["VORole"])


def cell(**changes: object) -> Cell:
    plain: dict[str, object] = {
        "site": "A", "month": NOVEMBER, "global_user_name": None, "vo": "a", "vo_group": "/a", "vo_role": "None",
        "submit_host": None, "infrastructure_type": "grid", "service_level_type": "HEPscore23", "service_level": "12.5",
        "node_count": 1, "processors": 1,
    }  # fmt: skip
    return Cell(**{**plain, **changes})  # type: ignore[arg-type]


def test_what_the_receiver_cannot_count_is_refused_alone() -> None:
    end = NOVEMBER + DAY
    cells = {
        cell(): Sums(1, 2, 3, end, end),
        cell(processors=2): Sums(2**31, 2, 3, end, end),
        cell(processors=3): Sums(1, 2**63 // 12, 3, end, end),
    }
    assert SUMMARY_02.render(cells).refused == {"NumberOfJobs is over 2147483647": 2**31}
    rendered = NORMALISED_04.render(cells)
    assert len(rendered.records) == 1
    assert rendered.refused == {"NumberOfJobs is over 2147483647": 2**31, f"a duration is over {2**63 - 1}": 1}


def test_normalised_figures_are_exact() -> None:
    """0.5 s is rounded up, as the server does it; a float would lose the last digits of the third."""
    end = NOVEMBER + DAY
    cells = {
        cell(vo="half", service_level="0.5"): Sums(1, 1, 3, end, end),
        cell(vo="si2k", service_level_type="Si2k", service_level="2500"): Sums(1, 100, 1, end, end),
        cell(vo="large", service_level="0.001"): Sums(1, 2**60 + 499, 2**60, end, end),
    }
    texts = {text.partition("VO: ")[2].partition("\n")[0]: text for text in NORMALISED_03.render(cells).records}
    assert "NormalisedWallDuration: 1\nNormalisedCpuDuration: 2\n" in texts["half"]
    assert "NormalisedWallDuration: 1000\nNormalisedCpuDuration: 10\n" in texts["si2k"]
    assert f"NormalisedWallDuration: {(2**60 + 499 + 500) // 1000}\n" in texts["large"]
    assert "{hepspec: 1000}" in "".join(NORMALISED_04.render(cells).records)


# --- by chance -----------------------------------------------------------------------------------------------------------

FQANS = [
    "/atlas", "/atlas/Role=pilot", "/atlas/Role=pilot/Capability=NULL", "/atlas/higgs/Role=NULL", "/cms/Capability=NULL",
    "/Atlas", "//x", "cms", "none", "/é%%", "/" + "v" * 254, "/" + "v" * 255, "/v" + "/v" * 300,
]  # fmt: skip
NAMES = ["/CN=Alice", "/CN=alice", "/CN=Bob ", "/CN=É", "none", "/CN=" + "n" * 251, "/CN=" + "n" * 252, None]
MOMENTS = [OCTOBER, NOVEMBER - 1, NOVEMBER, NOVEMBER + DAY, DECEMBER - 1, DECEMBER]


@st.composite
def a_run(draw: st.DrawFn, number: int) -> tuple[dict[str, object], dict[str, object] | None]:
    """A job, and who asked for it, if anybody is known."""
    end = draw(st.sampled_from(MOMENTS))
    job = a_job(
        number,
        cluster=draw(st.sampled_from(["c1", "c2"])),
        site=draw(st.sampled_from([None, "TEST-SITE", "Other", "x" * 256])),
        queue=draw(st.sampled_from(["grid_a", "short"])),
        user_name=draw(st.sampled_from(["alice", "bob", None])),
        submit_at=end - HOUR,
        start_at=end - draw(st.sampled_from([1800, 0, -1])),
        end_at=end,
        wall_duration_s=draw(st.sampled_from([1800, 1, 0, 2**31 - 1, 2**31, None])),
        cpu_duration_s=draw(st.sampled_from([1700, 0, 2**31 - 1, 2**31, None])),
        processors=draw(st.sampled_from([1, 8, 0, None])),
        node_count=draw(st.sampled_from([1, 2, None])),
        host_factor=draw(st.sampled_from([None, 1.0, 1.0, 2.37])),
    )
    if draw(st.booleans()):
        return job, None
    fqan = draw(st.sampled_from([*FQANS, None]))
    others = [draw(st.sampled_from([*FQANS, '/"', "/\n" * 400, ""])), *draw(st.sampled_from([[], ["/z" * 150], ["/z"]]))]
    lists = [[], others, *([[fqan], [fqan, *others]] if fqan else [])]
    told = an_identity(
        number,
        draw(st.sampled_from(NAMES)) or "nobody",
        cluster=job["cluster"],
        recorded_at=end - HOUR,
        ce_id=draw(st.sampled_from(["ce1/cream-lsf-a", "CE1/cream-lsf-a", "ce" + "e" * 254, None])),
        fqan=fqan,
        fqans=draw(st.sampled_from([None, *(json.dumps(some, ensure_ascii=False) for some in lists)])),
        vo=draw(st.sampled_from(["atlas", "local-x", None, "None"])),
        vo_group=draw(st.sampled_from(["/atlas", None])),
        vo_role=draw(st.sampled_from(["Role=pilot", None])),
        token_issuer=draw(st.sampled_from([None, "https://atlas.example.org/"])),
        token_subject=draw(st.sampled_from([None, "one", "two"])),
    )
    return job, told | ({"dn": None} if draw(st.booleans()) else {})


RUNS = st.integers(1, 10).flatmap(lambda count: st.tuples(*(a_run(number) for number in range(count))))
SETTINGS = st.fixed_dictionaries(
    {"personal": st.sampled_from(["grid", "all", "none"]), "bunch": st.just(3)},
)


def test_cells_are_what_was_published_by_chance(site: Site) -> None:
    @settings(
        max_examples=EXAMPLES[site.store.dialect.name],
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    @given(RUNS, SETTINGS)
    def check(runs: tuple[tuple[dict[str, object], dict[str, object] | None], ...], publish: dict[str, object]) -> None:
        site.emptied()
        site.configure(
            cluster=[{"name": "c1", "machine_name": "m1", "grid_queues": ["grid_*"]}, {"name": "c2", "submit_host": "m1"}],
            benchmark=[
                {"type": "HEPscore23", "value": 10.0, "valid_until": dt.date(2023, 11, 1)},
                {"type": "Si2k", "value": 250.0, "per_host_factor": True, "cluster": "c1"},
                {"type": "HEPSPEC", "value": 7.12345, "also": {"Si2k": 1780.0}, "valid_from": dt.date(2023, 11, 1)},
            ],
            person=[{"name": "/CN=Alice", "also": ["/CN=Bob ", "https://atlas.example.org/one"]}],
            vo={"issuer": [{"issuer": "https://atlas.example.org", "subject": "one", "vo": "atlas", "fqan": "/atlas/Role=token"}]},
            publish={**publish, "local_job_id": "{cluster}.{id}", "local_job_id_array": "{cluster}.{id}-{index}"},
            join={"unknown_cpu": "zero"},
        )
        site.jobs(*(job for job, _ in runs))
        site.identities(*(told for _, told in runs if told is not None))
        _, done = site.publish(LATER)
        found = assert_equal(site)
        assert found.refused == done.refused
        names = ("SubmitHost", "GlobalUserName", "FQAN", "VO", "VOGroup", "VORole")
        told = {what: n for what, n in done.left_out.items() if what.partition(":")[0] in names}
        assert found.left_out == {what: n for what, n in told.items() if not what.endswith("all but the primary one")}

    check()
