"""`batchacct rejects`: units that could not be read, and what to do about them."""

from __future__ import annotations

import click
from sqlalchemy import func, select, update

from batchacct.cli.common import config_option, emit_table, open_store
from batchacct.cli.parsing import raw_text
from batchacct.clock import unix_now
from batchacct.collector import Collector
from batchacct.config import Config
from batchacct.errors import ConfigError, IncompleteError
from batchacct.parsing import Block
from batchacct.parsing.contract import printable
from batchacct.store import Origin, Store, append
from batchacct.store.tables import reject


@click.group()
def rejects() -> None:
    """Units that should have been readable and were not: kept, counted, replayed."""


@rejects.command("list")
@click.option("--limit", default=50, show_default=True, help="At most so many, newest first.")
@config_option
def list_(config: Config, limit: int) -> None:
    """Lists the rejects that were not replayed, newest first."""
    open_ones = reject.c.replayed_by.is_(None)
    with open_store(config) as store, store.reading() as connection:
        rows = connection.execute(select(reject).where(open_ones).order_by(reject.c.id.desc()).limit(limit)).all()
        total = connection.scalar(select(func.count()).where(open_ones)) or 0
    shown = [(r.id, r.source, r.path, r.source_offset, r.reason, printable(r.unit, 40)) for r in rows]
    emit_table(f"Rejects, {len(rows)} of {total}", ("id", "source", "file", "byte", "reason", "begins"), shown)


@rejects.command()
@click.argument("number", type=int)
@config_option
def show(config: Config, number: int) -> None:
    """Shows one reject whole: where it stands, why it was rejected, and its bytes."""
    with open_store(config) as store, store.reading() as connection:
        row = connection.execute(select(reject).where(reject.c.id == number)).one_or_none()
    if row is None:
        raise ConfigError(f"there is no reject {number}: `batchacct rejects list` shows them")
    click.echo(f"{row.path}, byte {row.source_offset}, {row.length} bytes, source {row.source}, parser {row.parser}")
    click.echo(f"reason: {row.reason}")
    click.echo(f"replayed by load {row.replayed_by}" if row.replayed_by else "not replayed")
    click.echo(raw_text(row.unit))


@rejects.command()
@click.argument("numbers", type=int, nargs=-1)
@config_option
def replay(config: Config, numbers: tuple[int, ...]) -> None:
    """Gives rejects (those NUMBERED, or all) to their parsers again, after a parser or the configuration was mended."""
    from batchacct.cli.collecting import chosen_sources, collector_of  # noqa: PLC0415

    collectors = {keys.name: collector_of(config, keys) for keys in chosen_sources(config, ())}
    with open_store(config) as store:
        wanted = select(reject).where(reject.c.replayed_by.is_(None)).order_by(reject.c.id)
        with store.reading() as connection:
            rows = connection.execute(wanted.where(reject.c.id.in_(numbers)) if numbers else wanted).all()
        outcomes = [_replay_one(store, collectors.get(row.source), row.id) for row in rows]
    taken = sum(outcomes)
    click.echo(f"{taken} replayed, {len(outcomes) - taken} still rejected")
    if taken < len(outcomes):
        raise IncompleteError("the others are still rejected: `batchacct rejects list` says why")


def _replay_one(store: Store, collector: Collector | None, number: int) -> bool:
    """Parses one reject again; True if it is a record, part or skip now (stored, and the reject marked, in that order).

    The record's key makes a repetition harmless, should the mark not come to be written.
    """
    with store.reading() as connection:
        row = connection.execute(select(reject).where(reject.c.id == number)).one()
    if collector is None or row.length > len(row.unit):
        return False
    parser = collector.parser
    parsed = next(iter(parser.parse([Block(bytes(row.unit), row.source_offset)], collector.source)))
    if parsed.rejects:
        return False
    origin = Origin(row.source, parser.record_type.name, parser.label, row.path)
    counts, _ = append(store, origin, parsed, unix_now())
    with store.writing() as connection:
        connection.execute(update(reject).where(reject.c.id == number).values(replayed_by=counts.load_id))
    return True
