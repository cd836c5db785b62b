"""`batchacct import`: the records of a 2012 batchacct's or an APEL client's database, with the totals of both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from batchacct.cli.collecting import collected_row
from batchacct.cli.common import config_option, emit_table, open_store, steps_progress
from batchacct.cli.parsing import checked_zone
from batchacct.clock import unix_now
from batchacct.collector import Collected
from batchacct.config import Config
from batchacct.connection import check_url, database_url, holds_password
from batchacct.errors import ConfigError, DifferenceError
from batchacct.importing.feed import Progress
from batchacct.importing.foreign import Foreign
from batchacct.importing.imports import ALL, MARKED, NONE, Import2012, ImportApel, Importing
from batchacct.importing.layout_apel import ApelClient
from batchacct.importing.running import count, dry_run, from_logs, run
from batchacct.importing.totals import Sums, Totals, add, differences, folded
from batchacct.model import IDENTITY, JOB
from batchacct.store import Store

HOUR_S = 3600
NAMED = 20
"""So many cells that differ are named."""
COLUMNS = ("source", "rows read", "recorded", "already known", "revised", "rejected")
OF_SUMS = ("jobs there", "jobs here", "wall there (h)", "wall here (h)", "CPU there (h)", "CPU here (h)", "")

F = TypeVar("F", bound=Callable[..., Any])


@click.group("import")
def import_() -> None:
    """Takes over another program's database.

    It is only read; killed, an import goes on when it is started again, and a second one adds nothing. At the end totals of both
    sides are held against each other: the exit status is 23 where they differ.
    """


def foreign_options(command: F) -> F:
    """Decorator: where the other database is."""
    of_file = click.option(
        "--connection", type=click.Path(path_type=Path), metavar="FILE",
        help="Connection file of that database: its URL, or username/password@dsn.",
    )  # fmt: skip
    of_url = click.option("--url", help="Its SQLAlchemy URL, without password.")
    return of_file(of_url(command))


def import_options(command: F) -> F:
    """Decorator: what both imports ask for."""
    published = click.option(
        "--published", type=click.Choice([MARKED, ALL, NONE]), default=MARKED, show_default=True,
        help="Which jobs it has published, and are not published again.",
    )  # fmt: skip
    dry = click.option("--dry-run", "--dryrun", is_flag=True, help="Show what its rows would become; nothing is stored.")
    return foreign_options(published(dry(command)))


@import_.command("2012")
@import_options
@click.option("--zone", required=True, help="Time zone of the host that wrote it, such as Europe/Zurich: its times are local.")
@click.option("--cluster", help="Cluster of its jobs.  [default: the one that is configured]")
@click.option("--jobs", "jobs_table", default="loc", show_default=True, metavar="TABLE", help="Its table of jobs.")
@click.option("--identities", default="ce", show_default=True, metavar="TABLE", help="Its table of identities; - for none.")
@click.option("--name", default="batchacct-2012", show_default=True, help="Name of the source the records get.")
@config_option
def import_2012(
    config: Config, /, connection: Path | None, url: str | None, *, cluster: str | None, identities: str, dry_run: bool, **told: str
) -> None:  # fmt: skip
    """From a database of the 2012 batchacct, tables loc and ce."""
    checked_zone(told["zone"])
    of = _known_cluster(config, cluster) if cluster else _only_cluster(config)
    with opened(connection, url) as foreign:
        table = None if identities == "-" else identities
        _import(config, foreign, Import2012(foreign, config, cluster=of, identities_table=table, **told), dry=dry_run)


@import_.command("apel")
@import_options
@click.option("--name", default="apel", show_default=True, help="Name of the source the records get.")
@config_option
def import_apel(config: Config, connection: Path | None, url: str | None, published: str, name: str, *, dry_run: bool) -> None:
    """From the database of an APEL client.

    Events, BLAH records and the jobs joined of them. What the client has sent is kept, counts in summaries and sync messages, and
    is not sent again unless `batchacct republish` asks for it.
    """
    with opened(connection, url) as foreign:
        _import(config, foreign, ImportApel(foreign, config, name, published), dry=dry_run)
        rows = [(*row[:2], str(row[2]), *map(_day, row[3:])) for row in ApelClient(foreign).benchmarks()]
        if rows:
            emit_table("Its benchmarks, to be said as [[benchmark]]", ("CE or LRMS", "type", "value", "from", "until"), rows)


@contextmanager
def opened(connection: Path | None, url: str | None) -> Iterator[Foreign]:
    """The other database.  Raises: ConfigError unless it is told by one of the two."""
    if (connection is None) == (url is None):
        raise ConfigError("say where the other database is: --connection FILE or --url URL, one of them")
    if url is not None and holds_password(check_url(url)):
        raise ConfigError("--url holds a password, which the list of processes shows to all: put it into a --connection file")
    foreign = Foreign(database_url(connection) if connection is not None else str(url))
    try:
        yield foreign
    finally:
        foreign.close()


def _only_cluster(config: Config) -> str:
    if len(config.cluster) != 1:
        names = ", ".join(one.name for one in config.cluster) or "none"
        raise ConfigError(f"--cluster: say of which cluster its jobs are; configured are {names}")
    return config.cluster[0].name


def _known_cluster(config: Config, name: str) -> str:
    """Raises: ConfigError for a cluster that nothing else is of: neither logs nor identities would ever meet its jobs."""
    known = {one.name for one in config.cluster} | {one.cluster for one in config.source if one.cluster}
    if name not in known:
        names = ", ".join(sorted(known)) or "none"
        raise ConfigError(f"--cluster {name} is not configured: say one of {names}, or add a [[cluster]] of that name first")
    return name


def _import(config: Config, foreign: Foreign, importing: Importing, *, dry: bool) -> None:
    steps = importing.steps
    with _progress(count(foreign, steps)) as progress:
        if dry:
            tried = dry_run(foreign, steps, progress)
            emit_table("Would be imported", ("source", "rows", "rejected"), [(t.source, t.rows, t.rejected.total()) for t in tried])
            for one in tried:
                for reason, rows in one.rejected.most_common(NAMED):
                    click.echo(f"{one.source}: {rows:,} rows would be rejected: {reason}")
            return
        with open_store(config) as store:
            done = run(store, foreign, steps, unix_now, progress)
            emit_table("Imported", COLUMNS, [_row(one) for one in done])
            _compare(store, foreign, importing)


@contextmanager
def _progress(total: int) -> Iterator[Progress]:
    with steps_progress() as show:
        done = 0

        def advance(rows: int) -> None:
            nonlocal done
            done += rows
            show("rows", min(done, total), total)

        yield advance


def _row(done: Collected) -> tuple[object, ...]:
    source, _, units, recorded, _, known, revised, _, rejected, _ = collected_row(done)
    return (source, units, recorded, known, revised, rejected)


def _compare(store: Store, foreign: Foreign, importing: Importing) -> None:
    """Raises: DifferenceError where the totals of both sides are not the same."""
    there, here = importing.there(), importing.here(store)
    if folded(there, 0) != folded(here, 0):
        _add_all(here, from_logs(store, foreign, importing.steps, JOB))
    _show("Jobs", importing.labels[:1], folded(there, 2), folded(here, 2))
    differ = [("jobs", importing.labels, there, here)]
    if (identities := importing.identities(store)) is not None:
        if identities[0] != identities[1]:
            _add_all(identities[1], from_logs(store, foreign, importing.steps, IDENTITY))
        differ.append(("identities", ("VO",), *identities))
    found = [(what, labels, one) for what, labels, a, b in differ for one in differences(a, b)]
    for what, labels, one in found[:NAMED]:
        cell = ", ".join(f"{label} {value}" for label, value in zip(("month", *labels), one.key, strict=True))
        click.echo(f"{what} of {cell}: there {_told(one.there)}; here {_told(one.here)}", err=True)
    if found:
        raise DifferenceError(
            f"{len(found):,} totals differ, see above: rows that are rejects are missing here (`batchacct rejects list`), and jobs "
            "that were here before, from their log, count with what that says"
        )
    click.echo(f"The totals are equal: {folded(there, 0).get((), Sums(0, 0, 0)).jobs:,} jobs on both sides.")


def _add_all(totals: Totals, more: Totals) -> None:
    for key, sums in more.items():
        add(totals, key, sums)


def _show(title: str, labels: Sequence[str], there: Totals, here: Totals) -> None:
    rows = []
    for key in sorted(there.keys() | here.keys()):
        one, other = (side.get(key, Sums(0, 0, 0)) for side in (there, here))
        pairs = (one.jobs, other.jobs, one.wall_s / HOUR_S, other.wall_s / HOUR_S, one.cpu_s / HOUR_S, other.cpu_s / HOUR_S)
        rows.append((*key, *pairs, "" if one == other else "DIFFERS"))
    emit_table(title, ("month", *labels, *OF_SUMS), rows)


def _told(sums: Sums) -> str:
    return f"{sums.jobs:,} ({sums.wall_s:,} s wall, {sums.cpu_s:,} s CPU)"


def _day(value: object) -> str:
    return "" if value is None else str(value)[:10]
