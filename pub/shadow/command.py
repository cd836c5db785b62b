"""`batchacct shadow`: beside an APEL client, whether both would say the same."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import click

from batchacct.cli.common import config_option, emit_table, open_store
from batchacct.cli.importing import foreign_options, opened
from batchacct.config import Config
from batchacct.errors import ConfigError, DifferenceError
from pub.republishing import Period
from pub.shadow.comparing import Compared, compare
from pub.shadow.ours import NotOut, spool_ours
from pub.shadow.record import KEY, LABELS, Record
from pub.shadow.spool import spool
from pub.shadow.theirs import of_database, of_messages

A_DAY = click.DateTime(["%Y-%m-%d"])
DAY, HOUR_S = 86_400, 3600
NAMED_BY = ("LocalJobId", "EndTime", "MachineName", "Site")


@click.command()
@click.option("--from", "first", type=A_DAY, required=True, metavar="DAY", help="First day (UTC) on which the jobs ended.")
@click.option("--to", "last", type=A_DAY, required=True, metavar="DAY", help="Last day, included.")
@foreign_options
@click.option(
    "--messages",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="The client's outgoing messages, in place of its database.",
)
@click.option("--ignore", multiple=True, type=click.Choice(LABELS), metavar="FIELD", help="Not this field; may be repeated.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=20, show_default=True, help="Records named of each kind of difference."
)
@click.option("--json", "as_json", is_flag=True, help="Everything as one JSON object.")
@config_option
def shadow(
    config: Config, first: dt.datetime, last: dt.datetime, *, connection: Path | None, url: str | None, messages: Path | None,
    ignore: tuple[str, ...], limit: int, as_json: bool,
) -> None:  # fmt: skip
    """Holds our records against an APEL client's.

    Beside a client that publishes, before batchacct does: record by record, for the jobs that ended in a period, what only one of
    the two has, which fields differ, and the totals. Nothing is stored or sent, and what the client has is only read. The exit
    status is 23 if they differ.
    """
    since, until = (int(day.replace(tzinfo=dt.UTC).timestamp()) for day in (first, last))
    until += DAY
    if until <= since:
        raise ConfigError("--to lies before --from: give the first day, then the last")
    if sum(one is not None for one in (connection, url, messages)) != 1:
        raise ConfigError("say where the client's records are: --connection FILE, --url URL or --messages FOLDER, one of them")
    with spool() as ours:
        with open_store(config) as store:
            not_out = spool_ours(store, config, Period(since, until, ()), ours)
        if messages is not None:
            theirs = of_messages(messages, since, until)
            found = compare(theirs, ours, ignore, limit)
        else:
            with opened(connection, url) as foreign:
                theirs = of_database(foreign, since, until)
                found = compare(theirs, ours, ignore, limit)
    if as_json:
        click.echo(json.dumps(_as_values(found, not_out), indent=2))
    else:
        _show(found, not_out)
    for kind, count in theirs.passed_over.items():
        click.echo(f"{count:,} messages are of no jobs, and were passed over: {kind}", err=True)
    if not found.agrees:
        raise DifferenceError(
            f"{found.different:,} records differ, {found.only_there:,} are only there and {found.only_here:,} only here"
        )


def _show(found: Compared, not_out: NotOut) -> None:
    counts = (
        ("same", found.same),
        ("different", found.different),
        ("only there", found.only_there),
        ("only here", found.only_here),
    )
    emit_table("Records", ("what", "records"), counts)
    months = sorted(found.totals_there.keys() | found.totals_here.keys())
    rows = []
    for key in months:
        there, here = (side.get(key, [0, 0, 0]) for side in (found.totals_there, found.totals_here))
        pairs = (there[0], here[0], *(value / HOUR_S for place in (1, 2) for value in (there[place], here[place])))
        rows.append((*key, *pairs, "" if there == here else "DIFFERS"))
    of_sums = ("jobs there", "jobs here", "wall there (h)", "wall here (h)", "CPU there (h)", "CPU here (h)", "")
    emit_table("Totals", ("month", "VO", *of_sums), rows)
    if found.differing:
        emit_table("Fields that differ", ("field", "records"), found.differing.most_common())
    examples = [(_named(one), label, there, here) for one, fields in found.examples for label, (there, here) in fields.items()]
    if examples:
        emit_table("Records that differ", ("record", "field", "there", "here"), examples)
    for title, records in (("Only there", found.there_alone), ("Only here", found.here_alone)):
        if records:
            emit_table(title, NAMED_BY, [tuple(_told(one, label) for label in NAMED_BY) for one in records])
    if found.likely is not None:
        one, other = found.likely
        differ = ", ".join(f"{label} is {one[label]} there and {other[label]} here" for label in KEY if one[label] != other[label])
        click.echo(f"These may be the same jobs under other keys, as {differ}: see site and [publish] local_job_id")
    jobs = [(outcome, reason, count) for (outcome, reason), count in sorted(not_out.jobs.items())]
    jobs += [("refused", reason, count) for reason, count in sorted(not_out.refused.items())]
    if jobs:
        emit_table("Jobs of the period that do not go out here", ("outcome", "why", "jobs"), jobs)
    if found.agrees:
        click.echo(f"Both say the same of {found.same:,} jobs.")


def _told(record: Record, label: str) -> str:
    at = record[label]
    return f"{dt.datetime.fromtimestamp(int(at), dt.UTC):%Y-%m-%d %H:%M:%SZ}" if label == "EndTime" else at


def _named(record: Record) -> str:
    return f"{record['LocalJobId']}, ended {_told(record, 'EndTime')}"


def _as_values(found: Compared, not_out: NotOut) -> dict[str, object]:
    totals = [
        {"month": key[0], "vo": key[1], "there": _sums(found.totals_there.get(key)), "here": _sums(found.totals_here.get(key))}
        for key in sorted(found.totals_there.keys() | found.totals_here.keys())
    ]
    differing = [
        {label: one[label] for label in NAMED_BY} | {"fields": {label: {"there": a, "here": b} for label, (a, b) in fields.items()}}
        for one, fields in found.examples
    ]
    return {
        "agrees": found.agrees,
        "same": found.same,
        "different": found.different,
        "only_there": found.only_there,
        "only_here": found.only_here,
        "fields": dict(found.differing),
        "records_that_differ": differing,
        "records_only_there": found.there_alone,
        "records_only_here": found.here_alone,
        "totals": totals,
        "not_out": [{"outcome": a, "reason": b, "jobs": count} for (a, b), count in sorted(not_out.jobs.items())],
        "refused": dict(not_out.refused),
    }


def _sums(sums: list[int] | None) -> dict[str, int]:
    return dict(zip(("jobs", "wall_s", "cpu_s"), sums or (0, 0, 0), strict=True))
