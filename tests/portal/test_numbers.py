"""Every number of every page is that of a plain sum over the rows, asked past all of our code."""

from __future__ import annotations

import csv
import io
import json
import re
from urllib.parse import quote

import pandas as pd
import pyarrow.parquet as pq
import pytest
from lxml import html
from sqlalchemy import select
from werkzeug.datastructures import MultiDict

from batchacct.config_portal import Portal as Settings
from batchacct.portal_pages import Cell, Sheet
from batchacct.store.tables import job, process
from cpuhours.portal.asked import period_asked
from cpuhours.portal.jobs import as_file
from cpuhours.question import NAMED, hyphened
from procacct.asking.portal_job import sheets
from tests.portal.demo_site import ACCOUNT, NOW, Demo, Portal, figures_of, json_of, table_of

DAY = 86_400
NOV_1, OCT_1 = 1_793_491_200, 1_790_812_800
COUNTED = "superseded_by IS NULL AND start_at IS NOT NULL AND end_at IS NOT NULL"
ALL_TIME = "period=-365d&top=all"
VO = """CASE WHEN usage.outcome = 'waiting' THEN '(waiting for identity)'
  WHEN vo_mapping.vo NOT LIKE 'local%' THEN vo_mapping.vo ELSE coalesce(identity.vo, vo_mapping.vo) END"""
WITH_VO = f"""(SELECT job.*, identity.dn, {VO} AS vo FROM job JOIN usage ON usage.job_id = job.id
  LEFT JOIN identity ON identity.id = usage.identity_id LEFT JOIN vo_mapping ON vo_mapping.id = usage.mapping_id)"""


def text_numbers(text: str) -> list[float]:
    return [float(found.replace(",", "")) for found in re.findall(r"[\d,]+(?:\.\d+)?", text)]


def test_tiles_of_the_overview(portal: Portal, demo: Demo) -> None:
    page = html.fromstring(portal.get("admin", "/").text)
    tiles = {tile.find_class("title")[0].text: " ".join(tile.text_content().split()) for tile in page.find_class("tile")}
    periods = {
        "Today": (NOV_1, NOV_1 + DAY),
        "Yesterday": (NOV_1 - DAY, NOV_1),
        "This month": (NOV_1, NOV_1 + 30 * DAY),
        "Last month": (OCT_1, NOV_1),
    }
    assert set(tiles) == set(periods)
    for title, (begin, end) in periods.items():
        jobs, cpu, core = demo.rows(
            f"SELECT count(*), sum(cpu_duration_s) / 3600.0, sum(wall_duration_s * processors) / 3600.0 FROM job "
            f"WHERE {COUNTED} AND end_at >= ? AND end_at < ?",
            begin,
            end,
        )[0]
        told = re.search(r"([\d,.]+) core h ([\d,]+) jobs?, ([\d,.]+) CPU h", tiles[title])
        assert told is not None, tiles[title]
        shown = [float(told[n].replace(",", "")) for n in (1, 2, 3)]
        assert shown == pytest.approx([core, jobs, cpu], abs=0.5)


def test_vos_of_the_overview(portal: Portal, demo: Demo) -> None:
    rows = table_of(portal.get("admin", "/"))
    plain = dict(demo.rows(f"SELECT vo, count(*) FROM {WITH_VO} WHERE {COUNTED} AND end_at >= ? GROUP BY vo", NOV_1))
    assert figures_of(rows, "Jobs") == plain
    assert sum(plain.values()) > 10
    assert {row[-2:][0] for row in rows[1:]} == {"no data"}, "on 1 October nobody looked: that is no zero"


@pytest.mark.parametrize("by", NAMED)
def test_usage_by_whatever_adds_up(portal: Portal, demo: Demo, by: str) -> None:
    whole = demo.rows(f"SELECT count(*), sum(cpu_duration_s), sum(wall_duration_s * processors) FROM job WHERE {COUNTED}")[0]
    rows = json_of(portal.get("admin", f"/explore.json?by={hyphened(by)}&{ALL_TIME}"))["rows"]
    assert tuple(sum(row[name] or 0 for row in rows) for name in ("jobs", "cpu_s", "core_s")) == whole
    shown = figures_of(table_of(portal.get("admin", f"/explore?by={hyphened(by)}&{ALL_TIME}")), "jobs")
    assert shown == {row[by] or "(no name)": row["jobs"] for row in rows} | {"total": whole[0]}


@pytest.mark.parametrize(("by", "column"), [("queue", "queue"), ("user", "user_name"), ("state", "state"), ("group", "group_name")])
def test_usage_is_a_plain_sum(portal: Portal, demo: Demo, by: str, column: str) -> None:
    plain = demo.rows(
        f"SELECT coalesce({column}, '(unknown)'), count(*), coalesce(sum(cpu_duration_s), 0), sum(wall_duration_s) FROM job "
        f"WHERE {COUNTED} AND end_at >= ? AND end_at < ? GROUP BY 1 ORDER BY 1",
        OCT_1,
        NOV_1,
    )
    got = portal.get("admin", f"/explore.csv?by={by}&period=last+month&top=all")
    found = sorted(csv.DictReader(io.StringIO(got.text)), key=lambda row: row[by])
    assert [(row[by], int(row["jobs"]), int(row["cpu_s"] or 0), int(row["wall_s"])) for row in found] == plain
    assert got.headers["Content-Disposition"] == f"attachment; filename=usage-by-{by}-2026-10-01-to-2026-10-31.csv"


def test_usage_by_vo_and_day(portal: Portal, demo: Demo) -> None:
    plain = {
        (vo, day): jobs
        for vo, day, jobs in demo.rows(
            f"SELECT vo, date(end_at, 'unixepoch'), count(*) FROM {WITH_VO} WHERE {COUNTED} GROUP BY 1, 2"
        )
    }
    rows = json_of(portal.get("admin", f"/explore.json?by=vo&bins=day&{ALL_TIME}"))["rows"]
    assert {(row["vo"], row["day"]): row["jobs"] for row in rows if row["jobs"]} == plain


def test_spread_conserves_what_was_used(portal: Portal, demo: Demo) -> None:
    whole = demo.rows(f"SELECT sum(cpu_duration_s), sum(wall_duration_s) FROM job WHERE {COUNTED}")[0]
    rows = json_of(portal.get("admin", "/explore.json?by=vo&bins=week&counted=spread&period=-1000d&top=all"))["rows"]
    assert tuple(sum(row[name] or 0 for row in rows) for name in ("cpu_s", "wall_s")) == whole


def test_only_some_jobs(portal: Portal, demo: Demo) -> None:
    plain = demo.one(f"SELECT count(*) FROM job WHERE {COUNTED} AND queue LIKE 'grid_%' AND state = 'completed'")
    rows = json_of(portal.get("admin", f"/explore.json?by=queue&queue=grid_%25&state=completed&{ALL_TIME}"))["rows"]
    assert sum(row["jobs"] for row in rows) == plain > 0


def test_a_normalised_sum_is_that_of_the_benchmark(portal: Portal, demo: Demo) -> None:
    rows = json_of(portal.get("admin", f"/explore.json?by=vo&normalise=HEPscore23&{ALL_TIME}"))["rows"]
    cpu_s = demo.one(
        f"SELECT sum(cpu_duration_s) FROM job JOIN usage ON job_id = job.id WHERE {COUNTED} AND benchmark_id IS NOT NULL"
    )
    assert sum(row["normalised_cpu_s"] for row in rows) == pytest.approx(cpu_s * 12.5)


def test_every_format_has_the_same_figures(portal: Portal) -> None:
    words = f"by=vo&{ALL_TIME}"
    rows = json_of(portal.get("admin", f"/explore.json?{words}"))["rows"]
    parquet = pq.read_table(io.BytesIO(portal.get("admin", f"/explore.parquet?{words}").data)).to_pylist()
    assert [{name: row[name] for name in ("vo", "jobs", "cpu_s")} for row in parquet] == [
        {name: row[name] for name in ("vo", "jobs", "cpu_s")} for row in rows
    ]
    of_csv = list(csv.DictReader(io.StringIO(portal.get("admin", f"/explore.csv?{words}").text)))
    assert [(row["vo"], int(row["jobs"])) for row in of_csv] == [(row["vo"], row["jobs"]) for row in rows]
    markdown = portal.get("admin", f"/explore.md?{words}").text
    assert all(f"| {row['vo']} " in markdown for row in rows)


def test_pictures_are_pictures_and_the_same_each_time(portal: Portal) -> None:
    for form, begin in (("svg", b"<?xml"), ("png", b"\x89PNG")):
        got = portal.get("admin", f"/explore.{form}?by=vo&bins=day")
        assert got.data.startswith(begin)
        assert got.data == portal.get("admin", f"/explore.{form}?by=vo&bins=day").data
    shown = portal.get("admin", "/explore.svg?by=vo&shown=1")
    assert "Content-Disposition" not in shown.headers
    assert b"atlas" in shown.data


def test_the_list_has_each_job_once(portal: Portal, demo: Demo) -> None:
    for words, condition in (("", COUNTED), ("&all=1", "superseded_by IS NULL"), ("&vo=atlas", f"{COUNTED} AND vo = 'atlas'")):
        seen: list[int] = []
        address = f"/jobs?period=-365d{words}"
        while address:
            page = html.fromstring(portal.get("admin", address).text)
            seen += [int(link.get("href").rsplit("/", 1)[1]) for link in page.iterfind(".//tbody//a")]
            following = page.xpath("//a[@rel='next']/@href")
            address = following[0] if following else ""
        plain = [row[0] for row in demo.rows(f"SELECT id FROM {WITH_VO} WHERE {condition} ORDER BY logged_at DESC, id DESC")]
        assert seen == plain, words
        assert len(plain) > 0


def test_the_jobs_of_a_host_and_of_a_pattern(portal: Portal, demo: Demo) -> None:
    host = demo.one("SELECT exec_hosts FROM job WHERE exec_hosts NOT LIKE '%,%' AND exec_hosts IS NOT NULL LIMIT 1")
    name = json.loads(host)[0].partition("*")[2]
    ours = demo.one(f"SELECT count(*) FROM job WHERE {COUNTED} AND exec_hosts LIKE ? AND exec_hosts NOT LIKE '%,%'", f"%*{name}%")
    assert len(json_of(portal.get("admin", f"/jobs.json?period=-365d&host={name}"))) == ours > 0
    found = json_of(portal.get("admin", "/jobs.json?period=-365d&user=atlas0%25"))
    assert len(found) == demo.one(f"SELECT count(*) FROM job WHERE {COUNTED} AND user_name LIKE 'atlas0%'")


def test_a_page_of_a_pattern_is_full(demo: Demo) -> None:
    """Hosts are looked at past the database: pages, and the most that a file may have, count what is left."""
    rows = [json.loads(row[0]) for row in demo.rows(f"SELECT exec_hosts FROM job WHERE {COUNTED} AND exec_hosts IS NOT NULL")]
    hosts = [one[0].partition("*")[2] for one in rows if len(one) == 1]
    rarest = min(set(hosts), key=lambda name: (hosts.count(name), name))
    address = f"period=-365d&host={rarest}%25"
    served = Portal.of(demo, most_rows=sum(host.startswith(rarest) for host in hosts))
    try:
        listed = html.fromstring(served.get("admin", f"/jobs?{address}").text)
        got = served.get("admin", f"/jobs.csv?{address}")
    finally:
        served.close()
    assert len(listed.findall(".//tbody/tr")) == served.site.desk.config.portal.most_rows
    assert not listed.xpath("//a[@rel='next']")
    assert got.status_code == 200
    assert len(got.text.splitlines()) == served.site.desk.config.portal.most_rows + 1


def test_downloads_of_the_list_are_the_rows(portal: Portal, demo: Demo) -> None:
    columns = ("id", "lrms_job_id", "user_name", "end_at", "wall_duration_s", "cpu_duration_s")
    plain = demo.rows(f"SELECT {', '.join(columns)} FROM job WHERE {COUNTED} ORDER BY logged_at DESC, id DESC")
    rows = json_of(portal.get("admin", "/jobs.json?period=-365d"))
    assert [tuple(row[name] for name in columns) for row in rows] == plain
    parquet = pd.read_parquet(io.BytesIO(portal.get("admin", "/jobs.parquet?period=-365d").data))
    assert parquet["id"].tolist() == [row[0] for row in plain]
    of_csv = list(csv.DictReader(io.StringIO(portal.get("admin", "/jobs.csv?period=-365d").text)))
    assert [int(row["id"]) for row in of_csv] == [row[0] for row in plain]


def test_from_a_vo_to_a_user_to_a_job_to_its_line_and_message(portal: Portal, demo: Demo) -> None:
    """Every link is that of the page before."""

    def follow(address: str, text: str) -> str:
        page = html.fromstring(portal.get("admin", address).text)
        (found,) = [link.get("href") for link in page.iter("a") if " ".join(link.text_content().split()) == text][:1]
        return str(found)

    by_user = follow(f"/explore?by=vo&{ALL_TIME}", "atlas")
    assert "by=user" in by_user
    assert "vo=atlas" in by_user
    user, jobs = demo.rows(
        f"SELECT user_name, count(*) FROM {WITH_VO} WHERE {COUNTED} AND vo = 'atlas' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 1"
    )[0]
    of_user = follow(by_user + "&top=all", user)
    listed = html.fromstring(portal.get("admin", of_user).text)
    links = [link.get("href") for link in listed.iterfind(".//tbody//a")]
    assert len(links) == jobs
    number = int(links[0].rsplit("/", 1)[1])
    page = html.fromstring(portal.get("admin", links[0]).text)
    native, path, offset = demo.rows(
        "SELECT native, load.path, source_offset FROM job JOIN load ON load.id = job.id >> 20 WHERE job.id = ?", number
    )[0]
    (line,) = page.find_class("line")
    assert line.text_content() == native.decode()
    assert f"{path}, byte {offset}" in page.find_class("story")[0].text_content()
    message = page.xpath("//a[starts-with(@href, '/message/')]/@href")[0]
    told = portal.get("admin", message).text
    assert f"/job/{number}" in told or "The newest jobs in it" in told


def test_a_job_is_found_by_its_id(portal: Portal, demo: Demo) -> None:
    once = "SELECT lrms_job_id FROM job WHERE array_index IS NULL GROUP BY join_id HAVING count(*) = 1 LIMIT 1"
    got = portal.get("admin", f"/job?id={demo.one(once)}")
    assert got.status_code == 303
    assert re.fullmatch(r"/job/\d+", got.headers["Location"])
    many, count = demo.rows("SELECT join_id, count(*) FROM job GROUP BY join_id HAVING count(*) > 1 ORDER BY 2 DESC LIMIT 1")[0]
    assert len(table_of(portal.get("admin", f"/job?id={many}"))) == min(count, 100) + 1
    assert portal.get("admin", "/job?id=no-such").status_code == 404


def test_ids_that_no_record_can_have(portal: Portal) -> None:
    for typed in ("1[9223372036854775808]", "1-9223372036854775808", "9223372036854775808", "1[" + "9" * 150 + "]"):
        assert portal.get("admin", f"/job?id={typed}").status_code == 404, typed


def test_what_ran_inside(portal: Portal, demo: Demo) -> None:
    number = demo.one("SELECT max(job.id) FROM job JOIN process ON process.join_id = job.join_id WHERE job.user_name = 'anna'")
    text = portal.get("admin", f"/job/{number}").text
    assert "Programs, as they started each other" in text
    assert "/home/anna/reco" in text
    assert "/lib64/libc.so.6" in text
    assert "2 executions, 40.5 s of CPU" in text


def test_what_ran_inside_under_other_accounts_is_a_number(portal: Portal, demo: Demo) -> None:
    with portal.site.desk.store.reading() as connection:
        of_anna = select(job).join(process, process.c.join_id == job.c.join_id).where(job.c.user_name == "anna")
        run = connection.execute(of_anna.order_by(job.c.id.desc()).limit(1)).one()
        for limit in (200, 1):
            whole = list(sheets(connection, run, limit, ("anna",)))
            assert "/home/anna/reco" in repr(whole)
            assert "other accounts" not in repr(whole)
            assert repr(whole) == repr(list(sheets(connection, run, limit)))
        (left,) = sheets(connection, run, 200, ("somebody",))
        assert (left.rows, left.notes[0]) == ([], "2 executions of other accounts: not shown, and in no figure.")
    assert "/home/anna/reco" in portal.get("anna", f"/job/{run.id}").text


def test_notes_of_programs_tell_a_user_nothing_of_others(portal: Portal, demo: Demo) -> None:
    """Losses, sources and counts are of hosts and jobs that are not theirs."""
    address = "/ran/programs?period=-365d"
    notes = {name: html.fromstring(portal.get(name, address).text).find_class("notes") for name in ("admin", "anna")}
    assert notes["admin"]
    assert not notes["anna"]


def test_programs_and_groups(portal: Portal, demo: Demo) -> None:
    rows = {row["program"]: row for row in json_of(portal.get("admin", "/ran/programs.json?period=-365d"))}
    plain = dict(demo.rows("SELECT program, cpu_user_s + cpu_system_s FROM process"))
    assert {name: row["cpu_s"] for name, row in rows.items()} == plain
    shown = figures_of(table_of(portal.get("admin", "/ran/programs?period=-365d&sort=executions")), "executions")
    assert shown == dict.fromkeys(plain, 1.0)
    groups = {row["group"]: row for row in json_of(portal.get("admin", "/ran/groups.json?period=-365d"))}
    assert groups["n1:g1 (group g1)"]["cpu_user_s"] == 10.0
    assert groups["(no group)"]["processes"] == 2
    assert "Nothing is known" in portal.get("admin", "/ran/programs?period=2026-08").text


def test_health_is_what_status_shows(portal: Portal, demo: Demo) -> None:
    text = portal.get("admin", "/health").text
    assert "The books balance at every stage" in text
    units = demo.rows("SELECT source, sum(units), sum(recorded), sum(rejected) FROM load WHERE source <> 'procs' GROUP BY source")
    page = html.fromstring(text)
    tables = {table.findtext("caption"): table for table in page.iter("table")}
    (of_units,) = [table for title, table in tables.items() if title.startswith("Units read")]
    rows = [[cell.text_content() for cell in row.iter("th", "td")] for row in of_units.iter("tr")]
    figures = {row[0]: [int(cell.replace(",", "")) for cell in row[1:]] for row in rows[1:]}
    for name, read, recorded, rejected in units:
        assert (figures[name][0], figures[name][1], figures[name][5]) == (read, recorded, rejected)


def test_headings_of_figures_stand_as_the_figures_do(portal: Portal) -> None:
    """Also where the first row has none."""
    rows: list[tuple[Cell, ...]] = [("one", "-", None, "ok"), ("other", 7, 0.5, "ok")]
    with portal.app.test_request_context():
        sheet = portal.app.jinja_env.get_template("parts.html").module.sheet  # type: ignore[attr-defined]
        table = html.fromstring(str(sheet(Sheet("Sources", ("source", "unread", "lag", "state"), rows, []))))
    assert [[cell.get("class") for cell in row][1:] for row in table.iter("tr")] == [["figure", "figure", None]] * 3


def test_own_figures_are_those_of_the_own_jobs(portal: Portal, demo: Demo) -> None:
    dn = demo.dn
    cases = {
        ACCOUNT: ("user_name = ?", (ACCOUNT,)),
        "grid": ("dn = ?", (dn,)),
        "both": ("(user_name = ? OR dn = ?)", (ACCOUNT, dn)),
        "nobody": ("0", ()),
    }
    for name, (condition, values) in cases.items():
        plain = demo.rows(
            f"SELECT queue, count(*), sum(cpu_duration_s) FROM {WITH_VO} WHERE {COUNTED} AND {condition} GROUP BY 1", *values
        )
        rows = json_of(portal.get(name, f"/explore.json?by=queue&{ALL_TIME}"))["rows"]
        assert sorted((row["queue"], row["jobs"], row["cpu_s"]) for row in rows) == sorted(plain), name
        listed = json_of(portal.get(name, "/jobs.json?period=-365d"))
        assert len(listed) == sum(row[1] for row in plain), name
        spread = json_of(portal.get(name, "/explore.json?by=month&counted=spread&period=-1000d"))["rows"]
        assert sum(row["cpu_s"] or 0 for row in spread) == sum(row[2] for row in plain), name
    both, account, grid = (demo.one(f"SELECT count(*) FROM {WITH_VO} WHERE {COUNTED} AND {c}", *v) for c, v in
                           (cases["both"], cases[ACCOUNT], cases["grid"]))  # fmt: skip
    assert max(account, grid) < both, "the test would not see jobs that are left out"


def test_a_page_that_has_not_changed_is_not_sent_again(portal: Portal) -> None:
    client = portal.client("admin")
    for address in ("/", "/explore?by=vo", "/explore.svg?by=vo", "/explore.csv", "/jobs", "/ran/programs"):
        first = client.get(address)
        assert first.headers["Cache-Control"] == "private, no-cache"
        again = client.get(address, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.data) == (304, b""), address
        weak = client.get(address, headers={"If-None-Match": f"W/{first.headers['ETag']}"})
        assert weak.status_code == 304, "proxies that compress weaken tags"
        if address != "/":  # of which nothing can be asked
            more = f"{'&' if '?' in address else '?'}period=yesterday"
            other = client.get(address + more, headers={"If-None-Match": first.headers["ETag"]})
            assert other.status_code == 200, address


def test_so_many_days_are_so_many_with_today() -> None:
    def days(**words: str) -> tuple[int, int]:
        period = period_asked(MultiDict(words), NOW, Settings())
        return (NOV_1 + DAY - period.end) // DAY, (period.end - period.begin) // DAY

    assert (days(), days(period="-365d"), days(period="-2w"), days(period="-1d")) == ((0, 30), (0, 365), (0, 14), (0, 1))
    assert days(end="2026-10-31") == (2, 30)
    hours = period_asked(MultiDict({"period": "-36h"}), NOW, Settings())
    assert (hours.begin, hours.end) == (NOW - 36 * 3600, NOW)


def test_a_name_in_a_bin_leads_to_that_bin(portal: Portal) -> None:
    for bins, called, words in (
        ("day", "2026-10-30", "begin=2026-10-30&end=2026-10-31"),
        ("month", "2026-10", "begin=2026-10-03&end=2026-11-01"),
    ):
        page = html.fromstring(portal.get("admin", f"/explore?by=vo&bins={bins}&measure=jobs&period=-30d").text)
        rows = [row for row in page.iterfind(".//tbody/tr") if row[0].text_content() == called]
        addresses = [link.get("href") for row in rows for link in row.iter("a")]
        assert addresses
        assert all(words in address for address in addresses), addresses
        jobs = sum(int(row[2].text_content().replace(",", "")) for row in rows)
        assert jobs == sum(row["jobs"] for row in json_of(portal.get("admin", f"/explore.json?by=vo&{words}"))["rows"]) > 0
    page = html.fromstring(portal.get("admin", "/explore?by=vo&bins=hour&period=2026-10-30&zone=Europe/Zurich").text)
    addresses = [link.get("href") for link in page.iterfind(".//tbody//a")]
    assert "zone=Europe%2FZurich" in addresses[0]
    assert portal.get("admin", addresses[0]).status_code == 200


def test_forms_keep_the_zone(portal: Portal) -> None:
    for address in ("/jobs", "/ran/programs", "/explore"):
        page = html.fromstring(portal.get("admin", f"{address}?zone=Europe/Zurich").text)
        assert page.xpath("//form//input[@name='zone']/@value") == ["Europe/Zurich"], address


def test_cells_of_files_are_no_formulas() -> None:
    """Names are chosen by users, and spreadsheets take some for formulas; figures stay as they are."""
    rows = [{"user": name, "change": -5} for name in ("=1+1", "+a", "-b", "@c", "ada", "a=b")]
    told = list(csv.DictReader(io.StringIO(as_file(rows, "csv").decode())))
    assert [row["user"] for row in told] == ["'=1+1", "'+a", "'-b", "'@c", "ada", "a=b"]
    assert {row["change"] for row in told} == {"-5"}
    assert json.loads(as_file(rows, "json"))[0]["user"] == "=1+1"


def test_an_empty_file_has_its_header(portal: Portal) -> None:
    none = "vo=no-such-vo"
    header = portal.get("admin", "/jobs.csv").text.splitlines()[0]
    assert portal.get("admin", f"/jobs.csv?{none}").text == f"{header}\n"
    assert "user_name" not in portal.get("olga", f"/jobs.csv?{none}").text
    parquet = pd.read_parquet(io.BytesIO(portal.get("admin", f"/jobs.parquet?{none}").data))
    assert ",".join(parquet.columns) == header


def test_files_are_named_by_what_is_in_them(portal: Portal) -> None:
    got = portal.get("admin", "/explore.csv?by=submit-host&period=2026-10")
    assert got.headers["Content-Disposition"] == "attachment; filename=usage-by-submit-host-2026-10-01-to-2026-10-31.csv"


def test_bins_are_told_in_words(portal: Portal) -> None:
    assert "bins of an hour, and" in portal.get("admin", "/explore?bins=hour&period=-365d").text


def test_pictures_wider_than_the_page_can_be_moved_by_keys(portal: Portal) -> None:
    for address in ("/", "/explore?by=vo"):
        (box,) = html.fromstring(portal.get("admin", address).text).find_class("picture")
        assert (box.get("tabindex"), box.get("role")) == ("0", "region"), address
        assert box.get("aria-label"), address


def test_names_with_commas_lead_to_themselves(portal: Portal) -> None:
    got = portal.get("admin", f"/explore.json?by=queue&queue={quote('a')}%5C%2Cb&{ALL_TIME}")
    assert json_of(got)["queue"] == ["a,b"]
