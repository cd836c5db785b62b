"""Pull: whoever reads page after page has what the receiver of pushed messages has, however jobs and corrections come meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from batchacct.archive.whole_months import recall_month
from batchacct.httpd import Listener
from batchacct.parsing import registry
from batchacct.store import Store, sent
from batchacct.store.tables import job, setting, usage
from pub.pull import pages
from pub.pull.endpoint import Endpoint
from pub.republishing import Period, decide_anew, send_as_they_are
from tests.archive.farms import archive
from tests.archive.test_purge import APRIL, JULY, site_of
from tests.pub.fix_site import ON_SQLITE
from tests.pub.puller import Got, Puller, get, served
from tests.pub.site import DAY, T0, Site, a_job, an_identity, dumped
from tests.pub.test_destinations import Receivers

LOCAL = {"queue": "short"}
AT_ONCE = {"grace": 0, "max_hold": 0}
EXAMPLES = {"sqlite": 20, "postgresql": 6, "mariadb": 4}
ALL = Period(0, T0 + 1000 * DAY)
TOO_LONG = "x" * 300
FAR: dict[str, object] = {"start_at": T0 + 15 * DAY, "logged_at": T0 + 15 * DAY + 1000}


@pytest.fixture
def port(site: Site) -> Iterator[int]:
    with served(site) as port:
        yield port


def records(port: int, **parameters: object) -> Got:
    """`_from` is the parameter `from`."""
    got = get(port, "/v1/records", {name.lstrip("_"): value for name, value in parameters.items()})
    assert got.status == 200, got.body
    return got


def ids(got: Got) -> list[str]:
    return [line.split(b'"local_job_id":"')[1].split(b'"')[0].decode() for line in got.body.splitlines()]


# --- whatever happens -----------------------------------------------------------------------------------------------------------

DESTINATIONS = ({"name": "all"}, {"name": "atlas", "vos": ["atlas"]})
NUMBERS = st.integers(1, 6)


def some_job(number: int, kind: str, cpu: int) -> dict[str, object]:
    """`far` ones are refused for a while, as they end in days to come, `odd` ones for ever; a name is that of one kind only."""
    if kind == "far":
        return a_job(f"{number}-far", **LOCAL, cpu_duration_s=cpu, **FAR)
    return a_job(TOO_LONG if kind == "odd" else f"{number}", queue="short" if number == 1 else "grid_a", cpu_duration_s=cpu)


def some_identity(number: int, who: str, vo: str) -> dict[str, object]:
    named = {"vo": vo, "vo_group": f"/{vo}", "fqan": f"/{vo}", "fqans": f'["/{vo}"]'}
    return an_identity(number, f"/CN={who}", **named, recorded_at=T0 - ord(who))


KINDS = st.sampled_from(["usual", "usual", "usual", "far", "odd"])
JOBS = st.builds(some_job, NUMBERS, KINDS, st.integers(900, 902))
WHO = st.builds(some_identity, NUMBERS, st.sampled_from("ABC"), st.sampled_from(["atlas", "cms"]))


def name_of_row(row: dict[str, object]) -> object:
    return row["lrms_job_id"], row.get("dn")


def load_of(kind: str, rows: st.SearchStrategy[dict[str, object]]) -> st.SearchStrategy[tuple[str, Any]]:
    of_a_load = st.lists(rows, min_size=1, max_size=5, unique_by=name_of_row)
    return st.tuples(st.just(kind), of_a_load)


LOADS, IDENTITIES = load_of("jobs", JOBS), load_of("identities", WHO)
PUBLISH = st.tuples(st.just("publish"), st.sampled_from([0, 0, DAY, 3 * DAY]))
AGAIN = st.tuples(st.just("again"), st.sampled_from([None, "all", "atlas"]))
READ = st.tuples(st.just("read"), st.tuples(st.sampled_from([0, 1]), st.integers(1, 4)))
RESTART = st.tuples(st.just("restart"), st.none())
STORIES = st.lists(st.one_of(LOADS, IDENTITIES, PUBLISH, PUBLISH, READ, READ, READ, AGAIN, RESTART), max_size=25)


@pytest.mark.parametrize("tight", [False, True])
def test_a_client_has_what_the_receiver_has(site: Site, tight: bool) -> None:
    """`tight`: a page ends, and pieces of it, after so few rows that each of them matters."""

    @settings(max_examples=EXAMPLES[site.store.dialect.name], suppress_health_check=list(HealthCheck))
    @given(STORIES)
    def run(story: list[tuple[str, Any]]) -> None:
        site.emptied()
        some = Receivers(site.store, *DESTINATIONS, join=AT_ONCE)
        endpoint.append(_endpoint_of(some.site))
        clients = [Puller({"destination": one["name"]}) for one in DESTINATIONS]
        _tell(some, clients, story, endpoint, listener.port)

    endpoint = [_endpoint_of(site)]
    listener = Listener("127.0.0.1:0", lambda asked: endpoint[-1].answer(asked), what="records", setting="[serve] address")  # noqa: PLW0108 - it changes
    with closing(listener), _tight() if tight else nullcontext():
        run()


def _endpoint_of(site: Site) -> Endpoint:
    return Endpoint(site.store, site.config, None, lambda: site.clock)


@contextmanager
def _tight() -> Iterator[None]:
    with patch.object(pages, "PIECE_ROWS", 2), patch.object(pages, "LOOKED_AT", 3), patch.object(pages, "AGAIN_AT_MOST", 20):
        yield


def _tell(some: Receivers, clients: list[Puller], story: list[tuple[str, Any]], endpoint: list[Endpoint], port: int) -> None:
    for what, value in story:
        if what == "jobs":
            some.site.jobs(*value)
        elif what == "identities":
            some.site.identities(*value)
        elif what == "publish":
            some.site.clock += value
            some.publish()
        elif what == "again":
            send_as_they_are(some.site.store, some.site.config, ALL, some.site.clock, value)
        elif what == "read":
            clients[value[0]].page(some.site, port, value[1])
        else:
            endpoint.append(_endpoint_of(some.site))
    some.site.clock += 10 * DAY
    some.publish()
    before = dumped(some.site.store)
    for client in clients:
        client.read_on(some.site, port, 2)
    assert dumped(some.site.store) == before
    _compare(some, clients)


def _compare(some: Receivers, clients: list[Puller]) -> None:
    """Of what goes out; what did once, and does not any more, the receiver keeps, and a client may never have seen."""
    out = select(job.c.lrms_job_id).join(usage, usage.c.job_id == job.c.id).where(sent.GOES_OUT)
    with some.site.store.reading() as connection:
        going = set(connection.scalars(out)) - {TOO_LONG}
    everything = some.received("all")
    assert going <= everything.keys()
    expected = {str(key): everything[key] for key in going}
    assert {key: record for key, record in clients[0].table.items() if key in going} == expected
    assert clients[0].table.keys() <= everything.keys()
    of_atlas = {key: record for key, record in expected.items() if record["VO"] == "atlas"}
    assert {key: record for key, record in clients[1].table.items() if key in of_atlas} == of_atlas
    assert clients[1].table.keys() <= some.received("atlas").keys()


def test_while_the_publisher_is_at_work(site: Site) -> None:
    """Reading and joining at the same time, by threads: no hole, and each record once."""
    some = Receivers(site.store, {"name": "all"}, join={"grace": 0, "max_hold": 0})
    client, wrong = Puller(), list[BaseException]()
    is_done = threading.Event()

    def work() -> None:
        try:
            for n in range(12):
                some.site.jobs(*(a_job(n * 40 + i, **LOCAL) for i in range(40)))
                some.publish()
        except BaseException as error:  # noqa: BLE001 - it is told by the test
            wrong.append(error)
        finally:
            is_done.set()

    thread = threading.Thread(target=work)
    with served(some.site) as port:
        thread.start()
        try:
            while not is_done.is_set():
                client.page(some.site, port, 17)
        finally:
            thread.join()
        client.read_on(some.site, port, 17)
    assert not wrong
    assert len(client.read) == 480
    assert client.table == some.received("all")


# --- what a page is -------------------------------------------------------------------------------------------------------------


def test_each_record_once_and_each_correction_later(site: Site) -> None:
    site.configure(join=AT_ONCE)
    with served(site) as port:
        client = Puller()
        assert client.page(site, port).headers["Batchacct-More"] == "no"
        site.jobs(a_job(1), a_job(2, **LOCAL), a_job(3, **LOCAL))
        site.publish()
        assert client.page(site, port, 2).headers["Batchacct-More"] == "yes"
        assert client.page(site, port, 2).headers["Batchacct-More"] == "no"
        client.read_on(site, port)
        assert [record["LocalJobId"] for record in client.read] == ["1", "2", "3"]
        site.identities(an_identity(1))
        site.jobs(a_job(3, **LOCAL, cpu_duration_s=1))
        site.publish()
        client.read_on(site, port)
    assert [(r["LocalJobId"], r.get("GlobalUserName"), r["CpuDuration"]) for r in client.read[3:]] == [
        ("1", "/CN=Alice", 900),
        ("3", None, 1),
    ]
    assert client.table == {key[0]: record for key, record in site.received().items()}


def test_json_lines_unless_asked_otherwise(site: Site, port: int) -> None:
    site.jobs(a_job(1, **LOCAL), a_job(2, **LOCAL))
    site.publish()
    got = records(port)
    assert (got.headers["Content-Type"], ids(got), got.headers["Cache-Control"]) == ("application/jsonl", ["1", "2"], "no-store")
    head = get(port, "/v1/records", method="HEAD")
    assert (head.body, head.headers["Content-Length"]) == (b"", str(len(got.body)))
    assert head.headers["Batchacct-Next"] == got.headers["Batchacct-Next"]
    kinds = {"apel-0.4": "text/plain; charset=utf-8", "ur-1.0": "application/xml", "parquet": "application/vnd.apache.parquet"}
    for form in registry.names(registry.FORMATS):
        got = records(port, format=form)
        assert got.counted("Records") + got.counted("Refused") == 2
        assert got.headers["Content-Type"] == kinds.get(form, got.headers["Content-Type"])


def test_the_link_leads_on(site: Site, port: int) -> None:
    site.jobs(*(a_job(n, **LOCAL) for n in range(1, 6)))
    site.publish()
    path, read = "/v1/records?limit=2&from=2023-01-01", []
    while True:
        got = get(port, path)
        read += ids(got)
        if got.headers["Batchacct-More"] == "no":
            break
        path = got.headers["Link"].removeprefix("<").split(">")[0]
    assert read == ["1", "2", "3", "4", "5"]


def test_of_a_period(site: Site, port: int) -> None:
    day = "2023-11-{:02}".format
    site.jobs(*(a_job(n, **LOCAL, start_at=T0 + n * DAY, end_at=T0 + n * DAY + 60) for n in range(5)))  # the 14th, 22:14:20, and on
    site.publish()
    assert ids(records(port, _from=day(15), to=day(16))) == ["1", "2"]
    assert ids(records(port, to=day(14))) == ["0"]
    assert ids(records(port, _from=f"{day(15)}T22:14:20Z", to=f"{day(16)}T22:14:20Z")) == ["1"]
    assert ids(records(port, _from=day(30))) == []
    first = records(port, _from=day(15), limit=1)
    assert (ids(first), first.headers["Batchacct-More"]) == (["1"], "yes")
    after = first.headers["Batchacct-Next"]
    assert ids(records(port, _from=day(15), after=after)) == ["2", "3", "4"]
    got = get(port, "/v1/records", {"from": day(16), "after": after})
    assert (got.status, "belongs to another destination, format or period" in got.error) == (400, True)


def test_a_period_with_little_in_it_takes_several_pages(site: Site, port: int) -> None:
    """A page that looks at many rows ends without being full, and says that there is more."""
    site.jobs(*(a_job(n, **LOCAL, end_at=T0 + (20 if n == 8 else 1) * DAY) for n in range(1, 10)))
    site.publish()
    with patch.object(pages, "LOOKED_AT", 3), patch.object(pages, "PIECE_ROWS", 2):
        found, after, asked = list[str](), dict[str, str](), 0
        more = "yes"
        while more == "yes":
            got = records(port, _from="2023-12-01", **after)
            found, after, more = found + ids(got), {"after": got.headers["Batchacct-Next"]}, got.headers["Batchacct-More"]
            asked += 1
    assert (found, asked) == (["8"], 3)


def test_a_page_that_takes_long_ends_with_what_it_has(site: Site, port: int) -> None:
    site.jobs(*(a_job(n, **LOCAL) for n in range(1, 5)))
    site.publish()
    with patch.object(pages, "LONGEST_S", 0.0), patch.object(pages, "PIECE_ROWS", 1):
        assert records(port).counted("Records") == 0
    with patch.object(pages, "LOOKED_AT", 1), patch.object(pages, "PIECE_ROWS", 1):
        got = records(port)
        assert (ids(got), got.headers["Batchacct-More"]) == (["1"], "yes")


def test_names_of_people_as_the_setting_says(site: Site) -> None:
    site.jobs(a_job(1))
    site.identities(an_identity(1))
    site.publish()
    for personal, named in (("grid", True), ("none", False)):
        site.configure(publish={"personal": personal})
        with served(site) as port:
            assert (b"alice" in records(port).body, b"CN=Alice" in records(port).body) == (named, named)


def test_a_filter(site: Site) -> None:
    some = Receivers(site.store, {"name": "all"}, {"name": "local", "infrastructure": "local"})
    some.site.jobs(a_job(1), a_job(2, **LOCAL))
    some.site.identities(an_identity(1))
    some.publish()
    with served(some.site) as port:
        got = records(port, destination="local")
        assert (ids(got), got.counted("Not-For-It")) == (["2"], 1)
        assert records(port, destination="all").counted("Not-For-It") == 0
        got = get(port, "/v1/records")
        assert (got.status, got.error) == (400, "say of which destination: destination is one of all, local")
        got = get(port, "/v1/records", {"destination": "lokal"})
        assert (got.status, got.error) == (400, "destination 'lokal' is none here; did you mean local?")


# --- what is refused ------------------------------------------------------------------------------------------------------------


def test_what_the_format_refuses_is_counted(site: Site, port: int) -> None:
    site.jobs(a_job(TOO_LONG, **LOCAL), a_job(2, **LOCAL))
    site.publish()
    got = records(port, format="apel-0.3")
    assert (got.counted("Records"), got.counted("Refused"), got.counted("To-Be-Tried-Again")) == (1, 1, 1)
    assert got.headers["Batchacct-Reasons"] == '{"LocalJobId is longer than 255 characters": 1}'
    got = records(port, format="apel-0.3", after=got.headers["Batchacct-Next"])
    assert (got.counted("Records"), got.counted("Refused"), got.counted("To-Be-Tried-Again")) == (0, 0, 1)
    assert records(port).counted("Records") == 2, "JSON lines can hold it"


def test_a_refused_record_comes_once_it_fits(site: Site, port: int) -> None:
    """As it does by push: the rows do not move for that, and a cursor that only knew its place would have passed them."""
    site.jobs(*(a_job(n, **LOCAL, **FAR) for n in (1, 2, 3)), a_job(4, **LOCAL))
    site.publish()
    client = Puller()
    got = client.page(site, port)
    assert (list(client.table), got.headers["Batchacct-Reasons"]) == (["4"], '{"EndTime is more than 2 days ahead": 3}')
    site.clock = T0 + 20 * DAY
    got = client.page(site, port, 2)
    assert (got.counted("Records"), got.counted("To-Be-Tried-Again"), got.headers["Batchacct-More"]) == (2, 1, "yes")
    client.read_on(site, port, 2)
    assert sorted(map(str, client.table)) == ["1", "2", "3", "4"]
    assert len(client.read) == 4


def test_a_refused_record_that_was_replaced_comes_as_what_it_is_now(site: Site, port: int) -> None:
    site.jobs(a_job(1, **LOCAL, **FAR))
    site.publish()
    client = Puller()
    assert client.page(site, port).counted("To-Be-Tried-Again") == 1
    site.jobs(a_job(1, **LOCAL, **FAR, cpu_duration_s=1))
    site.publish(T0 + 20 * DAY)
    client.read_on(site, port)
    assert [(r["LocalJobId"], r["CpuDuration"]) for r in client.read] == [("1", 1)]


def test_more_refused_records_than_a_cursor_names(site: Site, port: int) -> None:
    site.jobs(*(a_job(f"{TOO_LONG}{n}", **LOCAL) for n in range(250)))
    site.publish()
    got = records(port, format="apel-0.3")
    assert (got.counted("Refused"), got.counted("To-Be-Tried-Again"), got.counted("Given-Up")) == (250, 64, 186)
    assert sum(map(len, got.headers.values())) < 4096
    got = records(port, format="apel-0.3", after=got.headers["Batchacct-Next"])
    assert (got.counted("Refused"), got.counted("To-Be-Tried-Again"), got.counted("Given-Up")) == (0, 64, 0)


def test_archived_jobs_are_counted(sqlite_store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHACCT_NOW", str(JULY))
    at = site_of(sqlite_store, tmp_path)
    with served(at) as port:
        before = ids(records(port))
    archive(at, JULY)
    with served(at) as port:
        got = records(port)
        assert got.counted("Refused") == len(before) - len(ids(got)) > 0
        assert "`batchacct db recall`" in got.headers["Batchacct-Reasons"]
        recall_month(at.store, at.config, APRIL, JULY)
        assert set(ids(got)) < set(ids(records(port)))


# --- cursors --------------------------------------------------------------------------------------------------------------------


def test_a_record_that_is_sent_again_comes_again(site: Site, port: int) -> None:
    site.jobs(a_job(1, **LOCAL), a_job(2, **LOCAL))
    site.publish()
    early, late = Puller(), Puller()
    early.page(site, port, 1)
    late.read_on(site, port)
    decide_anew(site.store, site.config, ALL, site.clock)
    for client in (early, late):
        client.read_on(site, port)
        assert sorted(map(str, client.table)) == ["1", "2"]
    assert (len(early.read), len(late.read)) == (3, 4)


@ON_SQLITE
@pytest.mark.parametrize("after", ["", "x", "AAAA", "ä", "A" * 3000, "AQ==", "../../etc/passwd", "0" * 44])
def test_what_is_no_cursor(site: Site, port: int, after: str) -> None:
    got = get(port, "/v1/records", {"after": after})
    assert (got.status, got.error) == (
        400,
        "this is no cursor: give `after` as it came in Batchacct-Next, or begin anew, without it",
    )


@ON_SQLITE
def test_a_cursor_that_was_damaged_on_the_way(site: Site, port: int) -> None:
    site.jobs(a_job(1, **LOCAL))
    site.publish()
    cursor = records(port).headers["Batchacct-Next"]
    for n in range(len(cursor) - 1):
        damaged = cursor[:n] + ("A" if cursor[n] != "A" else "B") + cursor[n + 1 :]
        assert get(port, "/v1/records", {"after": damaged}).status == 400
    assert get(port, "/v1/records", {"after": cursor[:-4]}).status == 400


def test_a_cursor_ahead_of_the_database(site: Site, port: int) -> None:
    site.jobs(a_job(1, **LOCAL))
    site.publish()
    cursor = records(port).headers["Batchacct-Next"]
    with site.store.writing() as connection:
        connection.execute(update(setting).where(setting.c.name == "step").values(value="0"))
    got = get(port, "/v1/records", {"after": cursor})
    assert (got.status, "restored from a backup" in got.error) == (410, True)


def test_other_names_of_jobs_than_were_published(site: Site) -> None:
    site.jobs(a_job(1, **LOCAL))
    site.publish()
    site.configure(publish={"local_job_id": "other-{id}"})
    with served(site) as port:
        got = get(port, "/v1/records")
        assert (got.status, "the configuration of this service has to be corrected" in got.error) == (503, True)


# --- summaries ------------------------------------------------------------------------------------------------------------------


def test_summaries_are_those_of_the_command(site: Site, port: int) -> None:
    site.jobs(a_job(1, **LOCAL), a_job(TOO_LONG, **LOCAL, wall_duration_s=None))
    site.publish()
    got = get(port, "/v1/summaries", {"month": "2023-11"})
    assert got.body.startswith(b"APEL-summary-job-message: v0.2\n")
    assert (got.headers["Content-Type"], got.counted("Records"), got.counted("Refused")) == ("text/plain; charset=utf-8", 1, 1)
    assert b"NumberOfJobs: 1\n" in got.body
    assert get(port, "/v1/summaries", {"month": "2023-11", "format": "apel-normalised-summary-0.4"}).status == 200
    assert get(port, "/v1/summaries", {"month": "2023-10"}).body == b""


@ON_SQLITE
@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, "say of which month"),
        ({"month": "2023"}, "is no month: write year and month"),
        ({"month": "2123-01"}, "has not begun"),
        ({"month": "2023-11", "format": "jsonl"}, "format 'jsonl' is none here; there are apel-"),
        ({"month": "2023-11", "limit": "1"}, "there is no parameter 'limit' here; there are format, month"),
    ],
)
def test_what_are_no_summaries(site: Site, port: int, asked: dict[str, str], told: str) -> None:
    got = get(port, "/v1/summaries", asked)
    assert (got.status, told in got.error) == (400, True), got.error


def test_a_month_that_is_archived(sqlite_store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHACCT_NOW", str(JULY))
    at = site_of(sqlite_store, tmp_path)
    archive(at, JULY)
    with served(at) as port:
        got = get(port, "/v1/summaries", {"month": "2025-04"})
        assert (got.status, "puts them back" in got.error) == (409, True)


def test_a_page_is_found_by_the_index(sqlite_store: Store) -> None:
    """However much there is behind a place, or before it: four walks, each along the index and no further than a page."""
    query = pages.ahead(3, 7, 100).compile(dialect=sqlite_store.engine.dialect, compile_kwargs={"render_postcompile": True})
    with sqlite_store.reading() as connection:
        explained = f"EXPLAIN QUERY PLAN {query}", tuple(query.params[name] for name in query.positiontup or ())
        plan = connection.exec_driver_sql(*explained).all()
    walks = [step for *_, step in plan if "usage" in step]
    assert len(walks) == 4
    assert all("SEARCH usage USING INDEX usage_outcome (outcome=? AND step" in step for step in walks)
    within = {number for number, _, _, step in plan if step.startswith("CO-ROUTINE")}
    assert len(within) == 4
    assert not [step for _, parent, _, step in plan if "TEMP B-TREE" in step and parent in within], "no walk has to be sorted"
