"""The report of a month: its figures, what it says is missing, that it balances, and that its file needs and trusts nobody."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import func, insert, select, update

from batchacct.config import load_config
from batchacct.errors import BatchacctError, ConfigError, IncompleteError
from batchacct.store import Store
from batchacct.store.tables import job, load, reject, usage, usage_history
from cpuhours.command import report
from cpuhours.document import Bullets
from cpuhours.drawing import question_of_picture
from cpuhours.monthly import document_of, read_month
from cpuhours.question import Question
from cpuhours.report import Report
from tests.cpuhours.farm import DAY, HOUR, add_benchmark, at, fill, give_benchmark, job_ids, job_row, join, new_store

EVIL = '--><script src="https://evil.example/x.js">alert(1)</script>\x1b[31m'


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Four jobs of October 2026, one of November; one VO has a name that is markup."""
    rows = [
        job_row(1, at("2026-10-05 12:00"), cpu_duration_s=7200, wall_duration_s=9000, gpu_count=2),
        job_row(2, at("2026-10-05 13:00"), cpu_duration_s=3600),
        job_row(3, at("2026-10-20 12:00"), cpu_duration_s=1800, processors=4),
        job_row(4, at("2026-10-20 13:00"), cpu_duration_s=None),
        job_row(5, at("2026-11-01 00:00"), cpu_duration_s=36_000),
    ]
    made = new_store(tmp_path, rows)
    join(made, {"1": ("joined", "atlas"), "2": ("joined", EVIL), "3": ("waiting", "x"), "4": ("excluded", "local-nonlcg")})
    with made.writing() as connection:
        connection.execute(update(usage).where(usage.c.outcome == "excluded").values(reason="unknown CPU time"))
    add_benchmark(made, 1, "HEPscore23", 10.0)
    give_benchmark(made, "1", 1)
    monkeypatch.setenv("BATCHACCT_NOW", str(at("2026-11-02 08:00")))
    path = tmp_path / "c.toml"
    path.write_text(f'site = "A <b>SITE</b> & Co"\n[database]\nurl = "sqlite:///{tmp_path / "x.db"}"\n')
    return made


def run(folder: Path, name: str = "month.html", *more: str, unbalanced: bool = True) -> str:
    """The report; the books of this made-up store do not balance, as no collector has filled it, and that is told."""
    words = ["monthly", "2026-10", "--config", str(folder / "c.toml"), "--output", str(folder / name), *more]
    result = CliRunner().invoke(report, words)
    if unbalanced:
        assert isinstance(result.exception, IncompleteError), result.output
        assert "the books do not balance" in str(result.exception)
    elif isinstance(result.exception, BatchacctError):
        raise result.exception
    path = folder / name
    return path.read_text(encoding="utf-8") if name.endswith("html") else ""


class Reader(HTMLParser):
    """Elements with their attributes, and tables by caption as rows of texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self._caption, self._into = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._into = tag if tag in {"caption", "th", "td"} else ""
        if tag == "caption":
            self._caption = ""
        elif tag == "tr":
            self.tables.setdefault(self._caption, []).append([])
        elif tag in {"th", "td"}:
            self.tables[self._caption][-1].append("")

    def handle_data(self, data: str) -> None:
        if self._into == "caption":
            self._caption += data
        elif self._into:
            self.tables[self._caption][-1][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._into = ""


def test_the_figures_are_sums_over_the_rows(tmp_path: Path, store: Store) -> None:
    head, *rows = Reader(run(tmp_path)).tables["Jobs that started and ended in the month"]
    cells = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    counted = (job.c.end_at >= at("2026-10-01 00:00"), job.c.end_at < at("2026-11-01 00:00"))
    with store.reading() as connection:
        jobs, cpu, wall = connection.execute(
            select(func.count(), func.sum(job.c.cpu_duration_s), func.sum(job.c.wall_duration_s)).where(*counted)
        ).one()
    assert (cells["total"]["jobs"], cells["total"]["CPU h"], cells["total"]["wall h"]) == (
        str(jobs), f"{cpu / HOUR:,.1f}", f"{wall / HOUR:,.1f}",
    )  # fmt: skip
    atlas = cells["atlas"]
    assert (atlas["CPU h"], atlas["HEPscore23 h"], atlas["HEPscore23 wall h"]) == ("2.0", "20.0", "25.0")
    assert (atlas["CPU / core (%)"], atlas["GPU h"], atlas["mean wait h"]) == ("80.0", "5.0", "1.0")
    assert cells["(waiting for identity)"]["jobs"] == "1"
    assert cells["total"]["jobs without HEPscore23"] == "2"


def test_what_is_missing_stands_with_its_reason(tmp_path: Path, store: Store) -> None:
    ids = job_ids(store)
    with store.writing() as connection:
        (load_id,) = connection.scalars(select(func.min(load.c.id))).all()
        connection.execute(update(load).values(loaded_at=at("2026-10-31 10:00")))
        unit = {"id": 1, "load_id": load_id, "source": "lsf", "path": "/x", "source_offset": 0, "length": 1, "unit": b"x"}
        connection.execute(insert(reject).values(**unit, reason="no <number>", parser="lsf 1"))
        old = {"job_id": ids["1"], "logged_at": at("2026-09-05 12:00"), "outcome": "joined", "why": "late identity"}
        for number, when in enumerate(("2026-10-01 00:00", "2026-10-31 23:59", "2026-11-01 00:00"), 1):
            connection.execute(insert(usage_history).values(id=number, **old, replaced_at=at(when)))
    text = run(tmp_path)
    tables = Reader(text).tables
    assert tables["Units read in the month that no parser understood"][1] == ["lsf", "no <number>", "1"]
    unpublished = tables["Jobs logged in the month that are not published (yet)"]
    assert unpublished[1:] == [["excluded", "unknown CPU time", "1", "\N{EN DASH}", "1.0"], ["waiting", "", "1", "0.5", "1.0"]]
    corrections = tables["Rows of the ledger that were replaced, of jobs of whatever month"]
    assert corrections[1:] == [["late identity", "2", "1", "2026-09-05 12:00:00Z", "2026-09-05 12:00:00Z"]]
    for days in ("2026-10-01 to 2026-10-04", "2026-10-06 to 2026-10-19", "2026-10-21 to 2026-10-31"):
        assert f"no job record of {days}: nothing is known of that time" in text
    assert "THE BOOKS DO NOT BALANCE" in text
    for label in ("Name", "Date", "Signature", "made 2026-11-02 08:00:00Z by batchacct"):
        assert label in text


def test_the_file_needs_no_other_and_runs_nothing(tmp_path: Path, store: Store) -> None:
    text = run(tmp_path)
    elements = Reader(text).elements
    assert {tag for tag, _ in elements}.isdisjoint({"script", "iframe", "object", "embed", "link", "img", "form", "base", "a", "b"})
    for tag, attributes in elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in {"src", "href", "xlink:href", "action"}:
                assert str(value).startswith("#"), (tag, value)
    hosts = set(re.findall(r"https?://([^/\"'\s<&]+)", text.replace("&quot;", '"')))
    assert hosts <= {"www.w3.org", "evil.example"}, "names of namespaces, and what a user has typed"
    assert "@import" not in text
    assert not re.findall(r"url\((?!#)", text)
    assert "--&gt;&lt;script src=&quot;https://evil.example/x.js&quot;&gt;alert(1)&lt;/script&gt;\\x1b[31m" in text
    assert "A &lt;b&gt;SITE&lt;/b&gt; &amp; Co" in text
    (policy,) = (a["content"] for tag, a in elements if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_notes_stand_once(tmp_path: Path, store: Store) -> None:
    """Below the picture, and not in it as well."""
    config, october = load_config(tmp_path / "c.toml"), (at("2026-10-01 00:00"), at("2026-11-01 00:00"))
    month = read_month(store, config, october, at("2026-11-02 08:00"), normalise=None, reread=False)
    blocks = document_of(month, tmp_path).blocks
    notes = [note for block in blocks if isinstance(block, Bullets) for note in block.items]
    assert any(note.startswith("UTC days, jobs counted on the day they ended.") for note in notes)
    assert "<!-- UTC days" not in (tmp_path / "usage.svg").read_text()
    assert "CPU hours by VO" in (tmp_path / "usage.svg").read_text()


def test_it_can_be_read_by_ear_and_on_a_phone(tmp_path: Path, store: Store) -> None:
    elements = Reader(run(tmp_path)).elements
    assert [a.get("lang") for tag, a in elements if tag == "html"] == ["en"]
    assert any(
        a.get("name") == "viewport" and "width=device-width" in str(a.get("content")) for tag, a in elements if tag == "meta"
    )
    assert sum(tag == "table" for tag, _ in elements) == sum(tag == "caption" for tag, _ in elements) > 3
    assert all(a.get("scope") in {"col", "row"} for tag, a in elements if tag == "th")
    regions = [a for tag, a in elements if a.get("role") == "region"]
    assert len(regions) == sum(tag == "table" for tag, _ in elements)
    assert all(a.get("tabindex") == "0" and a.get("aria-labelledby") for a in regions)
    ids = [a["id"] for _, a in elements if "id" in a]
    (svg,) = (a for tag, a in elements if tag == "svg")
    assert svg["role"] == "img"
    assert set(str(svg["aria-labelledby"]).split()) <= set(ids)
    assert len([one for one in ids if str(one).startswith(("caption", "title", "described"))]) == len(regions) + 2


@pytest.mark.parametrize("suffix", ["html", "pdf"])
def test_the_same_month_gives_the_same_file(tmp_path: Path, store: Store, suffix: str) -> None:
    for name in "ab":
        run(tmp_path, f"{name}.{suffix}")
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    if suffix == "pdf":
        assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF-")


def test_a_month_that_is_not_over_says_so(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "NOT OVER" not in run(tmp_path)
    monkeypatch.setenv("BATCHACCT_NOW", str(at("2026-10-31 00:00") + DAY - 1))
    assert "THIS MONTH IS NOT OVER" in run(tmp_path)


def test_all_of_it_is_of_one_state_of_the_database(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector that stores a job while it is made: usage, picture and audit do without that job, all of them."""

    def after_a_collector(of: Report, kind: str | None) -> Question:
        fill(store, [job_row(9, at("2026-10-21 12:00"), cpu_duration_s=720_000)])
        return question_of_picture(of, kind)

    before = run(tmp_path, "before.html")
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr("cpuhours.monthly.question_of_picture", after_a_collector)
        assert run(tmp_path, "meanwhile.html") == before
    assert run(tmp_path, "after.html") != before


def test_what_is_no_month_or_no_file(tmp_path: Path, store: Store) -> None:
    for words, message in (
        (("2026-10-01", "--output", "a.html"), "is no month: write 2026-10"),
        (("last week", "--output", "a.html"), "is no month"),
        (("2026-10", "--output", "a.doc"), r"\.html or \.pdf"),
        (("2026-10", "--output", str(tmp_path / "none" / "a.html")), "cannot be written"),
    ):
        result = CliRunner().invoke(report, ["monthly", *words, "--config", str(tmp_path / "c.toml")])
        assert isinstance(result.exception, ConfigError)
        assert re.search(message, str(result.exception))
