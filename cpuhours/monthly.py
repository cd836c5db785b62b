"""The report of a month that an accounting officer signs: usage by VO, corrections, what is missing and why, and the audit.

Two ways of counting stand side by side in it, as in the books: usage is of jobs that ended in the month, as receivers count;
the audit is of what was logged in it. A job that ended a minute before midnight may be logged a minute after.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Connection, func, select

import batchacct
from batchacct.archive.holdings import despite_archiving
from batchacct.clock import shown
from batchacct.config import Config
from batchacct.ledger.audit import Audit, Sums, read_audit
from batchacct.ledger.progress import read_progress, watched
from batchacct.ledger.reading_rows import Reader, readers_of
from batchacct.store import Store
from batchacct.store.tables import load, reject, usage_history
from batchacct.usage.bins import HOUR_S
from cpuhours.document import Block, Bullets, Cell, Document, Heading, Paragraph, Picture, Signatures, Table
from cpuhours.drawing import draw, question_of_picture, series_of
from cpuhours.labels import amount_text
from cpuhours.notes import count_of
from cpuhours.query import DAY_S
from cpuhours.question import Question
from cpuhours.report import Report, make_report
from cpuhours.showing import table_of
from cpuhours.spans import bin_text, period_text

MEASURES = ("jobs", "cpu", "core", "wall", "efficiency", "gpu", "mean-wait")


@dataclass(frozen=True, slots=True)
class Correction:
    """Rows of the ledger that were replaced: why, how many and of how many jobs, which were logged between two instants."""

    why: str
    rows: int
    jobs: int
    first_at: int
    last_at: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """Units that no parser could read, of loads stored in the month: of which source, and why."""

    source: str
    reason: str
    units: int


@dataclass(frozen=True)
class Month:
    """All that the report of a month says."""

    site: str
    begin: int
    end: int
    made_at: int
    usage: Report
    picture: Report
    audit: Audit
    corrections: list[Correction]
    rejects: list[Rejected]

    @property
    def name(self) -> str:
        return bin_text("month", "UTC", self.begin)


def read_month(store: Store, config: Config, period: tuple[int, int], now: int, *, normalise: str | None, reread: bool) -> Month:
    """Reads everything about a month (its period in Unix seconds), of one state of the database.

    Raises: ConfigError, StoreError, and as `read_audit`.
    """
    begin, end = period
    readers = readers_of(config) if reread else None
    question = Question("vo", begin, end, normalise=normalise, measures=MEASURES)
    drawn = Question("vo", begin, end, normalise=normalise, measures=("cpu",))

    def ask() -> Month:
        with store.one_state() as as_it_is, as_it_is.reading() as connection:
            usage = make_report(as_it_is, question)
            picture = make_report(as_it_is, question_of_picture(make_report(as_it_is, drawn), "stack"))
            return Month(config.site, begin, end, now, usage, picture, *_books(connection, config, period, now, readers))

    return despite_archiving(store, ask)


def _books(
    connection: Connection, config: Config, period: tuple[int, int], now: int, readers: dict[str, Reader] | None
) -> tuple[Audit, list[Correction], list[Rejected]]:
    begin, end = period
    gaps_in = watched(config, read_progress(connection, config, now), now)
    audit = read_audit(connection, gaps_in, begin, end, now, readers=readers)
    history = usage_history.c
    corrected = select(
        history.why,
        func.count(),
        func.count(history.job_id.distinct()),
        func.min(history.logged_at),
        func.max(history.logged_at),
    )
    corrected = corrected.where(history.replaced_at.between(begin, end - 1)).group_by(history.why).order_by(history.why)
    unread = select(reject.c.source, reject.c.reason).join(load, load.c.id == reject.c.load_id)
    unread = unread.where(load.c.loaded_at.between(begin, end - 1), reject.c.replayed_by.is_(None))
    counted = Counter((row[0], row[1]) for row in connection.execute(unread))
    return (
        audit,
        [Correction(*row) for row in connection.execute(corrected)],
        [Rejected(source, reason, units) for (source, reason), units in sorted(counted.items())],
    )


def written(month: Month, path: Path, form: str) -> None:
    """Writes the report as `html` or `pdf`.  Raises: OSError."""
    with TemporaryDirectory() as folder:
        document = document_of(month, Path(folder))
        if form == "html":
            from cpuhours.as_html import as_html  # noqa: PLC0415 - either of the two

            path.write_text(as_html(document), encoding="utf-8")
        else:
            from cpuhours.as_pdf import as_pdf  # noqa: PLC0415

            path.write_bytes(as_pdf(document))


def document_of(month: Month, folder: Path) -> Document:
    """The report, its picture drawn into a folder."""
    blocks: list[Block] = [
        *_summary(month),
        *_usage(month, folder),
        *_missing(month),
        *_corrections(month),
        *_audit(month),
        Heading("Signed"),
        Signatures(("Name", "Date", "Signature")),
    ]
    return Document(
        f"Accounting report of {month.site}, {month.name}",
        f"{month.usage.days_text} (UTC, both days included). Made {shown(month.made_at)} by batchacct {batchacct.__version__}.",
        blocks,
        f"{month.site}, {month.name}, made {shown(month.made_at)} by batchacct {batchacct.__version__}.",
    )


def _summary(month: Month) -> Iterator[Block]:
    """What a reader must know first."""
    if month.made_at < month.end:
        yield Paragraph("THIS MONTH IS NOT OVER: the figures are those of its days so far.", warns=True)
    if not month.audit.balanced:
        yield Paragraph("THE BOOKS DO NOT BALANCE: see Audit below before this is signed.", warns=True)
    total = int(month.usage.total["jobs"].iloc[0])
    balance = "the books balance" if month.audit.balanced else "they do not balance"
    yield Paragraph(f"{count_of(total, 'job')} that ran ended in this month; by the audit {balance}.")


def _usage(month: Month, folder: Path) -> Iterator[Block]:
    yield Heading("Usage by VO")
    columns, rows = table_of(month.usage)
    yield Table("Jobs that started and ended in the month", columns, rows, has_total=True)
    svg, png = folder / "usage.svg", folder / "usage.png"
    for path in (svg, png):
        draw(month.picture, "stack", path, month.site, with_notes=False)
    series = series_of(month.picture)
    described = "; ".join(f"{one.name}: {amount_text(one.total)}" for one in series) or "no jobs"
    title = f"{month.picture.question.measured[0].title} a day, by VO"
    yield Picture(svg, png, title, f"Stacked bars, a bar a day. In all: {described}.")
    yield Bullets(month.usage.notes)


def _missing(month: Month) -> Iterator[Block]:
    """What is missing, and why: gaps, what is decided later, what is excluded, what could not be read."""
    audit = month.audit
    yield Heading("What is missing, and why")
    told = [*_days_without_records(month.usage), *audit.gaps.told, *audit.purged, *audit.stranded]
    told += [
        f"source {source.name}: {source.lost_bytes:,} bytes were destroyed before they could be read (since ever)"
        for source in audit.sources
        if source.lost_bytes
    ]
    yield Bullets(told) if told else Paragraph("There are records of every day; no gaps were found, and no bytes were lost.")
    rows = [
        (outcome, reason, sums.jobs, _cpu_h(sums), sums.wall_s / HOUR_S)
        for (outcome, reason), sums in audit.outcomes.items()
        if outcome not in {"joined", "local"}
    ]
    columns = ("outcome", "why", "jobs", "CPU h", "wall h")
    if rows:
        yield Table("Jobs logged in the month that are not published (yet)", columns, rows)
    else:
        yield Paragraph("Every job logged in the month is published, or on its way.")
    if month.rejects:
        unread = [(one.source, one.reason, one.units) for one in month.rejects]
        yield Table("Units read in the month that no parser understood", ("source", "reason", "units"), unread)
    else:
        yield Paragraph("Every unit read in the month was understood.")


def _days_without_records(usage: Report) -> Iterator[str]:
    """Days in a row as one; of a cluster those of which others have records."""
    for name, days in (("", usage.gaps.days), *usage.gaps.by_cluster.items()):
        runs: list[list[int]] = []
        for day in days:
            if runs and day == runs[-1][1]:
                runs[-1][1] = day + DAY_S
            else:
                runs.append([day, day + DAY_S])
        for begin, end in runs:
            of = f" of cluster {name}, though others have some" if name else ""
            days_text = period_text(begin, end, "UTC")
            yield f"no job record of {days_text}{of}: nothing is known of that time, which is not the same as zero"


def _sums(sums: Sums) -> tuple[Cell, ...]:
    return (sums.jobs, sums.wall_s / HOUR_S, sums.core_s / HOUR_S, _cpu_h(sums))


def _cpu_h(sums: Sums) -> float | None:
    """None where it is known of none of them."""
    return None if sums.unknown_cpu and sums.unknown_cpu == sums.jobs else sums.cpu_s / HOUR_S


def _corrections(month: Month) -> Iterator[Block]:
    yield Heading("Corrections made in the month")
    if not month.corrections:
        yield Paragraph("None: no row of the ledger that had been dealt with was replaced.")
        return
    rows = [(one.why, one.rows, one.jobs, shown(one.first_at), shown(one.last_at)) for one in month.corrections]
    columns = ("why", "corrections", "jobs", "logged from", "to")
    yield Table("Rows of the ledger that were replaced, of jobs of whatever month", columns, rows)


def _audit(month: Month) -> Iterator[Block]:
    audit = month.audit
    yield Heading("Audit")
    if audit.balanced:
        yield Paragraph("The books of the month balance: every record logged in it is accounted for, up to each destination.")
    else:
        yield Paragraph("The books do not balance:", warns=True)
        yield Bullets(audit.problems)
    yield Paragraph(
        "The audit is of what was logged in the month, usage of what ended in it; jobs that never started are in the audit only. "
        + ("Each record was read again from its raw unit." if audit.reread else "Records were not read again from their raw units.")
    )
    sources = [
        (s.name, s.record_type, s.records, s.replaced, shown(s.first_at), shown(s.last_at), s.rejects) for s in audit.sources
    ]
    columns = ("source", "type", "records", "replaced by newer", "first", "last", "rejects")
    yield Table("Records by source", columns, sources)
    outcomes = [(*why, *_sums(sums)) for why, sums in [*audit.outcomes.items(), (("total", ""), audit.in_force)]]
    columns_of = ("outcome", "why", "jobs", "wall h", "wall x processors (h)", "CPU h")
    yield Table("What became of the jobs", columns_of, outcomes, has_total=True)
    for name, states in audit.published.items():
        yield Table(f"Published to {name}", ("state", "records"), list(states.items()))
