"""Who sees what: every page by every role, and what strangers try."""

from __future__ import annotations

import html
import re
from urllib.parse import quote

import pytest

from tests.portal.demo_site import ACCOUNT, Demo, Portal, json_of

PAGES = (
    *("/", "/explore", "/explore?by=queue&bins=day", "/explore.csv", "/explore.json?by=vo", "/explore.parquet", "/explore.md"),
    *("/explore.svg?by=vo", "/explore.png", "/jobs", "/jobs.csv", "/jobs.json", "/jobs.parquet", "/jobs?all=1"),
)
"""For everybody, each with what they may see."""
OF_PEOPLE = (
    "/explore?by=user",
    "/explore.csv?by=group",
    "/jobs?user=anna",
    "/ran/programs",
    "/ran/groups.csv",
    "/ran/programs.json?by=user",
)
"""Not for officers who are not shown people."""


def ids(demo: Demo, condition: str) -> list[int]:
    return [row[0] for row in demo.rows(f"SELECT id FROM job WHERE {condition} ORDER BY id")]


@pytest.mark.parametrize("address", PAGES)
def test_pages_for_everybody(portal: Portal, address: str) -> None:
    for name in ("admin",) if ".svg" in address else ("grid",) if ".png" in address else ("admin", "olga", ACCOUNT, "grid"):
        got = portal.get(name, address)
        assert got.status_code == 200, (name, got.text[:500])
        assert len(got.data) > 100


def test_what_is_for_some_roles(portal: Portal, demo: Demo) -> None:
    job_of_anna = ids(demo, "user_name = 'anna'")[0]
    matrix = {
        "/health": {"admin": 200, "olga": 200, ACCOUNT: 403, "anna": 403},
        **{address: {"admin": 200, "olga": 403} for address in OF_PEOPLE},
        "/ran/programs": {"admin": 200, "olga": 403, ACCOUNT: 200, "anna": 200},
        "/explore?by=user": {"admin": 200, "olga": 403, ACCOUNT: 200},
        f"/job/{job_of_anna}": {"admin": 200, "olga": 200, ACCOUNT: 404, "anna": 200, "nobody": 404},
        "/message/1": {"admin": 200, "olga": 200, "nobody": 404},
    }
    for address, of_roles in matrix.items():
        for name, status in of_roles.items():
            assert portal.get(name, address).status_code == status, (name, address)


def test_an_officer_is_shown_nobody(portal: Portal, demo: Demo) -> None:
    """No account, DN, line of a log or command is in anything that an officer gets."""
    people = {row[0] for row in demo.rows("SELECT DISTINCT user_name FROM job")}
    assert len(people) > 20
    secrets = people | {"/CN=", "run.sh", "JOB_FINISH", "/home/", "Lovelace"}
    jobs = ids(demo, "id % 40 = 0") + ids(demo, "user_name = 'anna'")[:2]
    addresses = [
        *(page for page in PAGES if "png" not in page),
        "/health",
        "/message/1",
        *(f"/job/{number}" for number in jobs),
        "/job?id=1",
        "/explore.json?by=project",
    ]
    for address in addresses:
        body = portal.get("olga", address).data.decode(errors="replace")
        found = {secret for secret in secrets if re.search(rf"(?<![\w.]){re.escape(secret)}(?![\w.])", body)}
        assert not found, (address, found)


def test_an_officer_who_is_shown_people(demo: Demo) -> None:
    served = Portal.of(demo, names="shown")
    try:
        assert all(served.get("olga", address).status_code == 200 for address in OF_PEOPLE)
        assert "JOB_FINISH" in served.get("olga", f"/job/{ids(demo, 'id > 0')[0]}").text
    finally:
        served.close()


def test_a_user_is_shown_nobody_else(portal: Portal, demo: Demo) -> None:
    others = {row[0] for row in demo.rows("SELECT DISTINCT user_name FROM job WHERE user_name <> 'anna'")}
    mine = ids(demo, "user_name = 'anna'")
    tries = [
        *(page for page in PAGES if "png" not in page),
        *(f"/job/{number}" for number in mine[:5]),
        *("/explore.json?by=user&period=-365d", "/explore.json?by=user&host=%25&period=-365d", "/explore.json?by=user&vo=%25,a"),
        *("/jobs.json?all=1&period=-365d", "/ran/programs.json?period=-365d", "/ran/programs?by=user&period=-365d"),
        *("/ran/programs.json?user=bruno&period=-365d", "/ran/groups.json?by=command&period=-365d"),
        *("/explore.json?by=user&compare=previous", "/explore.json?by=user&state=completed&measure=started"),
    ]
    for address in tries:
        body = portal.get("anna", address).data.decode(errors="replace")
        found = {name for name in others if re.search(rf"(?<![\w./]){re.escape(name)}(?![\w.])", body)}
        assert not found, (address, found)
        assert "secret" not in body


@pytest.mark.parametrize(
    "words", ["user=bruno", "user=%25", "user=a%25", "user=anna,bruno", "user=anna&user=bruno", "user=(unknown)"]
)
def test_a_user_cannot_ask_for_others(portal: Portal, words: str) -> None:
    for page in ("/explore.csv?by=vo", "/explore?by=vo", "/explore.svg?by=vo", "/jobs?all=1", "/jobs.csv?all=1"):
        got = portal.get("anna", f"{page}&{words}")
        assert got.status_code == 403
        assert "bruno" not in got.text


def test_filters_tell_a_user_nothing_of_others(portal: Portal, demo: Demo) -> None:
    """Whatever is asked, the figures are no more than those of the own jobs."""
    mine = demo.one("SELECT count(*) FROM job WHERE user_name = 'anna' AND start_at IS NOT NULL AND end_at IS NOT NULL")
    for words in ("", "vo=%25", "host=%25", "queue=%25&group=%25", "cluster=lsf1", "outcome=%25", "exit=%25", "ce=%25"):
        rows = json_of(portal.get("anna", f"/explore.json?by=state&period=-365d&{words}"))["rows"]
        assert sum(row["jobs"] for row in rows) <= mine, words
    notes = json_of(portal.get("anna", "/explore.json?by=vo&period=-365d"))["notes"]
    whole = demo.one("SELECT count(*) FROM usage WHERE outcome = 'waiting'")
    assert not any(f"{whole} job" in note for note in notes), notes


def test_jobs_of_others_look_like_none(portal: Portal, demo: Demo) -> None:
    theirs, nobodys = ids(demo, "user_name <> 'anna'")[0], 10**12
    told = [portal.get("anna", f"/job/{number}") for number in (theirs, nobodys, 2**63, 2**70)]
    assert [got.status_code for got in told] == [404] * 4
    assert len({re.sub(r'"token" value="\w+"', "", got.text) for got in told}) == 1
    typed = demo.one("SELECT lrms_job_id FROM job WHERE id = ?", theirs)
    got = portal.get("anna", f"/job?id={quote(typed)}")
    assert got.status_code == 404 or str(theirs) not in got.text


def test_nobody_gets_anywhere_without_a_login(portal: Portal) -> None:
    client = portal.client()
    for address in (*PAGES, *OF_PEOPLE, "/health", "/job/1048577", "/job?id=1", "/message/1", "/no-such-page", "/logout"):
        got = client.get(address)
        assert got.status_code in {303, 405}, address
        assert got.status_code == 405 or got.headers["Location"].startswith("/login"), address
    assert client.post("/logout").status_code == 403
    style = client.get("/static/portal.css")
    assert style.status_code == 200
    style.close()
    assert client.get("/login").status_code == 200


# --- strangers' addresses --------------------------------------------------------------------------------------------------------

ODD = (
    "' OR 1=1 --",
    "<script>alert(1)</script>",
    '"><img src=x>',
    "{{7*7}}",
    "@/etc/passwd",
    "\x00",
    "\u202e",
    "%",
    "a" * 1999,
    "é" * 100,
)


@pytest.mark.parametrize("odd", ODD)
def test_odd_names_are_names(portal: Portal, odd: str) -> None:
    for page in (
        "/explore?by=vo&vo=",
        "/jobs?vo=",
        "/explore.json?by=vo&queue=",
        "/job?id=",
        "/ran/programs?vo=",
        "/explore.svg?by=vo&vo=",
    ):
        got = portal.get("admin", page + quote(odd))
        assert got.status_code in {200, 303, 400, 404}, (page, got.text[:300])
        body = got.data.decode(errors="replace")
        assert "root:" not in body
        assert got.mimetype == "application/json" or not ("<script" in body or "<img src=x" in body)
    if "<" in odd:
        assert html.escape(odd) in portal.get("admin", f"/jobs?vo={quote(odd)}").text.replace("&#34;", "&quot;")
    if odd.startswith("'"):
        assert json_of(portal.get("admin", f"/explore.json?by=vo&vo={quote(odd)}"))["rows"] == []


@pytest.mark.parametrize(
    "words",
    [
        *(
            "period=x",
            "period=2026-13",
            "begin=2026-11-02&end=2026-11-01",
            "period=yesterday&begin=2026-10-01",
            "perod=yesterday",
            "period=-9999d",
            "zone=../../etc/passwd",
            "zone=Nowhere/At",
        ),
        *(
            "by=dn",
            "by=identity",
            "by=__class__",
            "measure=x",
            "bins=second",
            "top=1000000",
            "kind=pie",
            "counted=x",
            "normalise=x",
        ),
        *(
            "bins=quarter-hour&period=-365d",
            "vo=" + ",".join(map(str, range(300))),
            "vo=" + "a" * 3000,
            "host=" + "%25" * 11 + "!",
            "compare=next",
            "below=1-x",
        ),
    ],
)
def test_what_cannot_be_asked_is_told(portal: Portal, words: str) -> None:
    page = "/jobs" if words.startswith("below") else "/explore"
    got = portal.get("admin", f"{page}?{words}")
    assert got.status_code == 400, got.text[:2000]
    assert "That cannot be asked" in got.text
    assert "Traceback" not in got.text


@pytest.mark.parametrize(
    "address",
    [
        *(
            "/static/../app.py",
            "/static/..%2fapp.py",
            "/static/%2e%2e/app.py",
            "/explore.exe",
            "/explore.../etc/passwd",
            "/jobs.md",
        ),
        *("/ran/no-such", "/ran/..%2f..%2fetc", "/ran/programs.exe", "/job/x", "/job/-1", "/message/99999", "/templates/base.html"),
    ],
)
def test_what_is_not_there(portal: Portal, address: str) -> None:
    got = portal.get("admin", address)
    assert got.status_code == 404
    assert "import" not in got.text


@pytest.mark.parametrize("address", ["/?period=yesterday", "/health?x=1", "/job/1?vo=atlas"])
def test_what_a_page_has_not_to_ask_is_told(portal: Portal, address: str) -> None:
    got = portal.get("admin", address)
    assert got.status_code == 400, got.text[:2000]
    assert "nothing to ask here: leave it out" in html.unescape(got.text)


def test_nothing_is_no_file(portal: Portal) -> None:
    got = portal.get("admin", "/ran/programs.csv?period=2020-01")
    assert got.status_code == 400
    assert "nothing is known of what ran in this time" in got.text


def test_nothing_can_be_changed(portal: Portal) -> None:
    client = portal.client("admin")
    for address in ("/", "/explore", "/jobs", "/health", "/ran/programs", "/job/1048577"):
        for method in ("post", "put", "delete", "patch"):
            assert getattr(client, method)(address).status_code == 405, (method, address)
    assert client.post("/login", data={"name": "x" * 20_000}).status_code == 413
    for address in ("/logout",):
        assert client.get(address).status_code == 405, "no GET ends a session"


def test_headers_of_every_answer(portal: Portal) -> None:
    client = portal.client("admin")
    for address in ("/", "/explore.svg?by=vo", "/jobs.csv", "/no-such", "/static/portal.css", "/login", "/explore?period=x"):
        got = client.get(address)
        headers = got.headers
        got.close()
        assert headers["Content-Security-Policy"].startswith(
            "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'"
        )
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Vary"] == "Cookie"
        assert address.startswith("/static") or headers["Cache-Control"].startswith("private, no-")
    for address in ("/", "/explore", "/jobs", "/health"):
        text = client.get(address).text
        assert not re.search(r"<script|style=|onclick|javascript:|https?://", text), address
