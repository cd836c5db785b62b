"""`batchacct audit`: the books of a period, for whoever has to defend its numbers."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Iterator

import click

from batchacct.archive.holdings import despite_archiving
from batchacct.cli.common import config_option, emit_table, open_store
from batchacct.clock import day_text, midnight, shown, unix_now
from batchacct.config import Config
from batchacct.errors import ConfigError, IncompleteError
from batchacct.ledger.audit import Audit, Sums, read_audit
from batchacct.ledger.progress import read_progress, watched
from batchacct.ledger.reading_rows import readers_of
from batchacct.ledger.rereading import Reread

DAY_S = 86_400
HOUR_S = 3600
A_DAY = click.DateTime(["%Y-%m-%d"])
GROUPS = 5
"""So many groups are named that no VO rule fits."""
OF_SUMS = ("jobs", "wall (h)", "wall x processors (h)", "CPU (h)", "CPU unknown")


@click.command()
@click.option("--from", "first", type=A_DAY, metavar="DAY", help="First day (UTC).  [default: the first of this month]")
@click.option("--to", "last", type=A_DAY, metavar="DAY", help="Last day, included.  [default: today]")
@click.option("--json", "as_json", is_flag=True, help="Everything as one JSON object; times in seconds.")
@click.option(
    "--reread/--no-reread", "with_units", default=True, show_default=True, help="Read records again from the units that are kept."
)
@config_option
def audit(config: Config, first: dt.datetime | None, last: dt.datetime | None, as_json: bool, with_units: bool) -> None:
    """Shows the books of a period, and whether they balance.

    What was logged in it by source, what became of its jobs, what was published of it, what is missing. Each record is held against
    the raw unit it was read from, each row of the ledger against the messages. The exit status is 13 if anything does not add up.
    """
    now = unix_now()
    today = dt.datetime.fromtimestamp(now, dt.UTC).replace(hour=0, minute=0, second=0)
    since, until = midnight(first or today.replace(day=1)), midnight(last or today) + DAY_S
    if until <= since:
        raise ConfigError("--to lies before --from: give the first day, then the last")
    readers = readers_of(config) if with_units else None
    with open_store(config) as store:

        def ask() -> Audit:
            with store.reading() as connection:
                gaps_in = watched(config, read_progress(connection, config, now), now)
                return read_audit(connection, gaps_in, since, until, now, readers=readers)

        found = despite_archiving(store, ask)
    if as_json:
        click.echo(json.dumps(_as_values(found), indent=2))
    else:
        _show(found)
    if not found.balanced:
        raise IncompleteError("the books do not balance: " + "; ".join(found.problems))


def _as_values(found: Audit) -> dict[str, object]:
    outcomes = [{"outcome": outcome, "reason": reason} | dataclasses.asdict(s) for (outcome, reason), s in found.outcomes.items()]
    told = {**dataclasses.asdict(dataclasses.replace(found, outcomes={})), "outcomes": outcomes}
    return {**told, "balanced": found.balanced, "warnings": found.gaps.told}


def _show(found: Audit) -> None:
    click.echo(f"Books of {day_text(found.since)} to {day_text(found.until - 1)} (UTC, both days included), by when it was logged")
    emit_table(
        "Records",
        ("source", "type", "records", "replaced by newer", "first", "last", "rejects read in the period"),
        [(s.name, s.record_type, s.records, s.replaced, shown(s.first_at), shown(s.last_at), s.rejects) for s in found.sources],
    )
    rows = [(outcome, reason, *_cells(sums)) for (outcome, reason), sums in found.outcomes.items()]
    emit_table("Jobs in force", ("outcome", "why", *OF_SUMS), [*rows, ("together", "", *_cells(found.in_force))])
    if found.vos:
        emit_table("Jobs to publish, by VO", ("VO", *OF_SUMS), [(vo, *_cells(sums)) for vo, sums in found.vos.items()])
    if found.unmapped:
        groups = ", ".join(
            f"{group} ({jobs:,})" for group, jobs in sorted(found.unmapped.items(), key=lambda one: -one[1])[:GROUPS]
        )
        more = ", ..." if len(found.unmapped) > GROUPS else ""
        count = sum(found.unmapped.values())
        click.echo(f"No VO rule fits {count:,} of them, which have the default VO; their local groups: {groups}{more}")
    for name, states in found.published.items():
        emit_table(
            "Publishing" if len(found.published) == 1 else f"Publishing to {name}", ("state", "records"), list(states.items())
        )
    if found.reread is not None:
        columns = ("type", "held against its unit", "records")
        emit_table("Records and the units they were read from", columns, list(_reread(found.reread)))
    for why, count in found.corrections.items():
        click.echo(f"corrections made in the period: {why} ({count:,})")
    for line in found.stranded:
        click.echo(line)
    for source in found.sources:
        if source.lost_bytes:
            click.echo(f"source {source.name}: {source.lost_bytes:,} bytes were destroyed before they could be read (since ever)")
    for line in found.purged:
        click.echo(line)
    for gap in found.gaps.told:
        click.echo(f"GAP: {gap}")
    if not found.gaps.told:
        click.echo("No gaps were found in the period.")
    click.echo("The books balance." if found.balanced else "THE BOOKS DO NOT BALANCE: " + "; ".join(found.problems))


def _reread(found: Reread) -> Iterator[tuple[str, str, int]]:
    for name, count in found.compared.items():
        yield name, "as its unit says", count
        if found.differing[name]:
            yield name, "NOT AS ITS UNIT SAYS", found.differing[name]
        for reason, records in sorted(found.not_compared[name].items()):
            yield name, f"not compared: {reason}", records


def _cells(sums: Sums) -> tuple[object, ...]:
    return (sums.jobs, sums.wall_s / HOUR_S, sums.core_s / HOUR_S, sums.cpu_s / HOUR_S, sums.unknown_cpu)
