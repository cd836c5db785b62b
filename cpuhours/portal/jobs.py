"""Jobs: the list of a period, and one job: who, where, how much, what ran inside, its story, its line of the log, its messages."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pandas as pd
from flask import Blueprint, Response, abort, make_response, redirect, request
from sqlalchemy import Connection, Row, select
from werkzeug.wrappers import Response as Answer

from batchacct.cli.common import harmless
from batchacct.clock import shown
from batchacct.errors import ConfigError
from batchacct.ledger import stories
from batchacct.ledger.job_ids import JobId
from batchacct.model import text_of
from batchacct.portal_pages import Sheet
from batchacct.store import sent
from batchacct.store.spans import IS_OF_IDENTITY
from batchacct.store.tables import identity, job, message, usage
from cpuhours.portal.asked import DIMENSIONS, check_known, check_none, period_asked, where_asked
from cpuhours.portal.asked import text_of as text_asked
from cpuhours.portal.desk import Desk
from cpuhours.portal.job_rows import JobRow, Wanted, job_numbered, jobs_numbered, jobs_of, runs_named
from cpuhours.portal.site import answered, page, site, unchanged, viewer
from cpuhours.portal.viewers import Viewer
from cpuhours.question import NAMED

jobs = Blueprint("jobs", __name__)

A_PAGE = 100
PROGRAMS_SHOWN = 200
DATA = ("csv", "json", "parquet")
LAST_ID = 2**63 - 1


# --- the list ------------------------------------------------------------------------------------------------------------------


@jobs.get("/jobs")
def listed() -> Response:
    look = site().look()
    desk, who = look.desk, look.viewer
    wanted, words = _wanted(desk, who)

    def make() -> str:
        found, place = look.answer(("jobs", repr(wanted)), lambda: jobs_of(desk.store, who, wanted, A_PAGE))
        following = "" if place is None else f"/jobs?{urlencode([*words, ('below', f'{place[0]}-{place[1]}')])}"
        return page(
            "jobs.html",
            found=found,
            wanted=wanted,
            period=period_asked(request.args, desk.now(), desk.config.portal),
            where=[(NAMED[name][0], ", ".join(names)) for name, names in wanted.where.items()],
            filters=[
                (name, NAMED[name][0], ", ".join(request.args.getlist(name))) for name in DIMENSIONS if name in who.dimensions
            ],
            words={name: request.args.get(name, "") for name in ("period", "begin", "end", "zone")},
            following=following,
            first=f"/jobs?{urlencode(words)}" if wanted.below is not None else "",
            query=urlencode(words),
            downloads=DATA,
        )

    return answered(unchanged(look.state, wanted), make)


@jobs.get("/jobs.<form>")
def list_download(form: str) -> Response:
    if form not in DATA:
        abort(404)
    look = site().look()
    desk, who = look.desk, look.viewer
    wanted, _ = _wanted(desk, who)

    def make() -> tuple[bytes, str, str | None]:
        with desk.turn():
            found, place = jobs_of(desk.store, who, wanted, desk.config.portal.most_rows)
        if place is not None:
            most = desk.config.portal.most_rows
            is_full = len(found) == most
            why = f"these are more than {most:,} jobs, the most in a file here" if is_full else "finding these jobs takes too long"
            raise ConfigError(f"{why}: choose a shorter period, or some of them by VO, queue or the like")
        columns = [name for name in JobRow._fields if who.sees_people or name != "user_name"]
        return as_file([_values(one, who) for one in found], form, columns), form, f"jobs.{form}"

    return answered(unchanged(look.state, wanted, form), make)


def _wanted(desk: Desk, who: Viewer) -> tuple[Wanted, list[tuple[str, str]]]:
    """What the address asks, and the words of it that say so.  Raises: ConfigError, ForbiddenError."""
    check_known(request.args, *DIMENSIONS, "all", "below")
    period = period_asked(request.args, desk.now(), desk.config.portal)
    where = where_asked(request.args, who)
    below = text_asked(request.args, "below")
    place = None
    if below:
        at, _, number = below.partition("-")
        if not (_is_number(at) and _is_number(number)):
            raise ConfigError("`below` is no place in this list: begin at its first page")
        place = (int(at), int(number))
    words = [(key, text) for key, text in request.args.items(multi=True) if text.strip() and key != "below"]
    return Wanted(period.begin, period.end, where, bool(text_asked(request.args, "all")), place), words


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= LAST_ID


def _values(one: JobRow, who: Viewer) -> dict[str, Any]:
    """A row for programs: instants in Unix seconds."""
    values = one._asdict()
    if not who.sees_people:
        del values["user_name"]
    return values


_FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the begin of a formula."""


def as_file(rows: Sequence[Mapping[str, Any]], form: str, columns: Sequence[str] | None = None) -> bytes:
    """Rows as CSV, JSON or Parquet; `columns` where there may be none.

    In CSV a text that a spreadsheet would take for a formula has a ' before it: names are chosen by users.
    """
    if columns is None:
        columns = list(rows[0]) if rows else []
    if form == "json":
        return (json.dumps(list(rows), indent=1, ensure_ascii=False) + "\n").encode()
    if form == "parquet":
        data = io.BytesIO()
        pd.DataFrame(list(rows), columns=list(columns)).convert_dtypes().to_parquet(data, engine="pyarrow", index=False)
        return data.getvalue()
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _no_formula(value) for name, value in row.items()} for row in rows)
    return text.getvalue().encode()


def _no_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULAS) else value


# --- one job -------------------------------------------------------------------------------------------------------------------


@jobs.get("/job")
def search() -> Answer:
    """By the id that people know: the only run of it, or a list of its runs."""
    desk, who = site().desk, viewer()
    typed = text_asked(request.args, "id")
    if not typed or len(typed) > 200 or not typed.isprintable():
        raise ConfigError("write the id of a job as the batch system prints it: 1234, or 1234[5] for an element of an array")
    with desk.turn():
        found = runs_named(desk.store, who, JobId.of(typed))
    if len(found) == 1:
        return redirect(f"/job/{found[0].id}", 303)
    return _not_kept(make_response(page("runs.html", typed=typed, found=found), 200 if found else 404))


@dataclass(frozen=True, slots=True)
class Sent:
    """A message a job is in."""

    id: int
    destination: str
    format: str
    created_at: int
    confirmed_at: int | None
    is_current: bool


@dataclass(frozen=True, slots=True)
class Told:
    """What else there is to tell of a job, as far as it is in the database; None where that is not for this viewer."""

    run: Row[Any]
    who: Row[Any] | None
    outcome: Row[Any] | None
    story: Sequence[str] | None
    line: str | None
    messages: Sequence[Sent]
    sheets: Sequence[Sheet]


@jobs.get("/job/<int:number>")
def one(number: int) -> Answer:
    check_none(request.args)
    desk, who = site().desk, viewer()
    with desk.turn():
        found = job_numbered(desk.store, who, number) if number <= LAST_ID else None
        if found is None:
            abort(404)
        with desk.store.reading() as connection:
            told = _told(connection, who, number)
    return _not_kept(make_response(page("job.html", job=found, told=told, links=_links(found))))


def _links(found: JobRow) -> dict[str, str]:
    """Addresses of the jobs that ended on the same day and are of the same account, VO or queue."""
    day = shown(found.end_at or found.logged_at)[:10]
    names = {"user": found.user_name, "vo": found.vo, "queue": found.queue}
    return {
        name: f"/jobs?{urlencode({'period': day, name: text.replace(',', chr(92) + ',')})}" for name, text in names.items() if text
    }


def _told(connection: Connection, who: Viewer, number: int) -> Told | None:
    """None for a job that is in the archive."""
    run = connection.execute(select(job).where(job.c.id == number)).one_or_none()
    if run is None:
        return None
    outcome = connection.execute(select(usage).where(usage.c.job_id == number)).one_or_none()
    of_identity = select(identity).join(usage, IS_OF_IDENTITY).where(usage.c.job_id == number)
    asked_by = connection.execute(of_identity).one_or_none() if who.sees_people else None
    lines = stories.why_run(connection, run, texts=who.sees_texts) if who.sees_people else None
    story = None if lines is None else [harmless(line) for line in lines]
    line = harmless(text_of(bytes(run.native))) if who.sees_people and run.native is not None else None
    return Told(run, asked_by, outcome, story, line, _messages(connection, number, outcome), _sheets(connection, who, run))


def _messages(connection: Connection, number: int, now: Row[Any] | None) -> list[Sent]:
    found = sent.messages_of(connection, number)
    built = select(message.c.id, message.c.created_at).where(message.c.id.in_([one.id for one, _ in found]))
    created = {row.id: row.created_at for row in connection.execute(built)}
    return [
        Sent(one.id, one.destination, one.format, created[one.id], one.confirmed_at, now is not None and step == now.step)
        for one, step in found
    ]


def _sheets(connection: Connection, who: Viewer, run: Row[Any]) -> list[Sheet]:
    """What rooms and plug-ins tell of a job; programs and their paths may name people."""
    if not who.sees_people:
        return []
    accounts = (*who.accounts, *filter(None, [run.user_name])) if who.own_only else None
    return [sheet for tell in site().job_sheets for sheet in tell(connection, run, PROGRAMS_SHOWN, accounts)]


# --- a message -----------------------------------------------------------------------------------------------------------------


@jobs.get("/message/<int:number>")
def one_message(number: int) -> Answer:
    """What is known of a message; of what is in it only the jobs that the viewer may see."""
    desk, who = site().desk, viewer()
    names = (
        "id",
        "destination",
        "format",
        "records",
        "created_at",
        "confirmed_at",
        "refused_at",
        "withdrawn_at",
        "receipt",
        "last_error",
    )
    with desk.turn(), desk.store.reading() as connection:
        asked = select(*(message.c[name] for name in names)).where(message.c.id == number)
        found = connection.execute(asked).one_or_none() if number <= LAST_ID else None
        if found is None:
            abort(404)
        numbers = [int(one) for packed in sent.sent(connection, message.c.id == number) for one in packed.jobs]
    with desk.turn():
        rows = jobs_numbered(desk.store, who, numbers)
    if who.own_only and not rows:
        abort(404)
    return _not_kept(make_response(page("message.html", message=found, rows=rows[:A_PAGE], jobs=len(numbers))))


def _not_kept(response: Response) -> Response:
    response.headers["Cache-Control"] = "private, no-store"
    return response
