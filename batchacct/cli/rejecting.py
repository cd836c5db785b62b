"""`batchacct rejects`: units that could not be read, and what to do about them."""

from __future__ import annotations

import json

import click
from sqlalchemy import and_, func, select, true, update

from batchacct.cli.common import NUMBER, config_option, emit_table, open_store
from batchacct.cli.parsing import raw_text
from batchacct.clock import unix_now
from batchacct.collector import Collector, beginning
from batchacct.completing import complete_parts
from batchacct.config import Config
from batchacct.errors import ConfigError, HorizonError, IncompleteError, SourceError
from batchacct.following import HEAD_BYTES, read_fully
from batchacct.model import text_of
from batchacct.parsing import Block
from batchacct.parsing.contract import printable
from batchacct.parsing.reading import open_stream
from batchacct.store import Origin, Store, append
from batchacct.store.imports import imports
from batchacct.store.keys import with_strange_rejected
from batchacct.store.tables import load, reject

LISTED = ("id", "source", "path", "source_offset", "length", "reason", "parser")


@click.group()
def rejects() -> None:
    """Units that could not be read: kept, counted, replayed."""


@rejects.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many, newest first.")
@click.option("--source", "name", metavar="NAME", help="Only those of this source.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object, the units as text (bytes that are none as \\xNN).")
@config_option
def list_(config: Config, limit: int, name: str | None, as_json: bool) -> None:
    """Lists the rejects that were not replayed, newest first."""
    wanted = and_(reject.c.replayed_by.is_(None), true() if name is None else reject.c.source == name)
    with open_store(config) as store, store.reading() as connection:
        if name is not None and name not in {keys.name for keys in config.source}:
            sources = connection.scalars(select(reject.c.source).distinct().order_by(reject.c.source)).all()
            if name not in sources:
                there = sorted({*sources, *(keys.name for keys in config.source)})
                raise ConfigError(f"no source is named {name}; there are: {', '.join(there) or 'none'}")
        rows = connection.execute(select(reject).where(wanted).order_by(reject.c.id.desc()).limit(limit)).all()
        total = connection.scalar(select(func.count()).where(wanted)) or 0
    if as_json:
        listed = [{column: getattr(r, column) for column in LISTED} | {"unit": text_of(r.unit)} for r in rows]
        click.echo(json.dumps({"total": total, "rejects": listed}, indent=2))
        return
    shown = [(r.id, r.source, r.path, r.source_offset, r.reason, printable(r.unit, 40)) for r in rows]
    emit_table(f"Rejects, {len(rows)} of {total}", ("id", "source", "file", "byte", "reason", "begins"), shown)


@rejects.command()
@click.argument("number", type=NUMBER)
@config_option
def show(config: Config, number: int) -> None:
    """Shows one reject whole.

    Where it stands, why it was rejected, and its bytes.
    """
    with open_store(config) as store, store.reading() as connection:
        row = connection.execute(select(reject).where(reject.c.id == number)).one_or_none()
    if row is None:
        raise ConfigError(f"there is no reject {number}: `batchacct rejects list` shows them")
    click.echo(f"{row.path}, byte {row.source_offset}, {row.length} bytes, source {row.source}, parser {row.parser}")
    click.echo(f"reason: {row.reason}")
    click.echo(f"replayed by load {row.replayed_by}" if row.replayed_by else "not replayed")
    click.echo(raw_text(row.unit))


@rejects.command()
@click.argument("numbers", type=NUMBER, nargs=-1)
@config_option
def replay(config: Config, numbers: tuple[int, ...]) -> None:
    """Gives rejects to their parsers again.

    Those NUMBERED, or all: after a parser or the configuration was mended.
    """
    from batchacct.cli.collecting import collectors_of, rules_for  # noqa: PLC0415

    collectors = {one.source.name: one for one in collectors_of(config, ())[0]}
    with open_store(config) as store:
        wanted = select(reject).where(reject.c.replayed_by.is_(None)).order_by(reject.c.id)
        with store.reading() as connection:
            rows = connection.execute(wanted.where(reject.c.id.in_(numbers)) if numbers else wanted).all()
        if strange := sorted(set(numbers) - {row.id for row in rows}):
            raise ConfigError(f"there is no reject {strange[0]} to replay: `batchacct rejects list` shows those there are")
        reasons = {row.id: _replay_one(store, collectors.get(row.source), row.id) for row in rows}
        complete_parts(store, rules_for(config, collectors), unix_now())
    still = {number: reason for number, reason in reasons.items() if reason is not None}
    for number, reason in still.items():
        click.echo(f"reject {number}: {reason}", err=True)
    click.echo(f"{len(reasons) - len(still)} replayed, {len(still)} still rejected")
    if still:
        raise IncompleteError(f"{len(still)} of {len(reasons)} are still rejected, see above")


def _replay_one(store: Store, collector: Collector | None, number: int) -> str | None:
    """Parses one reject again; None if it is a record, part or skip now (stored, and the reject marked, in that order).

    The record's key makes a repetition harmless, should the mark not come to be written. In the books the unit moves from the load
    that rejected it to the one that replays it, once, however many replay it at a time. Else why it is still rejected.
    """
    with store.reading() as connection:
        row = connection.execute(select(reject).where(reject.c.id == number)).one()
        imported = {one.source for one in imports(connection)}
    if collector is None and row.source in imported:
        return (
            f"it is a row of another program's database, imported as {row.source}: correct it there (see `batchacct rejects show "
            f"{number}`), and say `batchacct import` again as you did; what is known is not doubled"
        )
    if collector is None:
        return f"source {row.source} is not configured any more: give it its [[source]] again, then replay"
    if row.length > len(row.unit):
        return f"only {len(row.unit):,} of its {row.length:,} bytes were kept; {row.path} has the rest at byte {row.source_offset}"
    parser = collector.parser
    source = beginning(collector.source, _head_of(row.path))
    parsed = next(iter(parser.parse([Block(bytes(row.unit), row.source_offset)], source)))
    parsed = with_strange_rejected(parser.record_type, parsed, store.dialect.name)
    if parsed.rejects:
        return parsed.rejects[0].reason
    origin = Origin(row.source, parser.record_type.name, parser.label, row.path)
    try:
        counts, _ = append(store, origin, parsed, unix_now())
    except HorizonError as error:
        return error.message
    with store.writing() as connection:
        still = and_(reject.c.id == number, reject.c.replayed_by.is_(None))
        moved = {"units": load.c.units - 1, "rejected": load.c.rejected - 1}
        if connection.execute(update(reject).where(still).values(replayed_by=counts.load_id)).rowcount:
            connection.execute(update(load).where(load.c.id == row.load_id).values(moved))
    return None


def _head_of(path: str) -> bytes:
    """How the file begins that the reject is of, where a header line may stand; nothing if it is not there any more."""
    try:
        with open_stream(path) as stream:
            return read_fully(stream, HEAD_BYTES)
    except SourceError:
        return b""
