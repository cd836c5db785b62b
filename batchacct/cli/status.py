"""`batchacct status` and `metrics`: how far everything is, for people and for a monitoring system."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection, select

from batchacct.cli.common import config_option, emit_table, open_store
from batchacct.clock import shown, unix_now
from batchacct.config import Config
from batchacct.errors import IncompleteError
from batchacct.ledger.books import Books, DestinationBooks, SourceBooks
from batchacct.ledger.gaps import duration
from batchacct.ledger.progress import Progress
from batchacct.ledger.state import State, read_state
from batchacct.monitoring import alert_rules, dashboard
from batchacct.store import sent
from batchacct.store.tables import message


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Everything as one JSON object.")
@config_option
def status(config: Config, as_json: bool) -> None:
    """Shows how far everything is, and whether the books balance.

    Warnings (a silent source, a hole in the job ids, bytes lost) do not change the exit status; books that do not balance do.
    """
    with open_store(config) as store:
        state = read_state(store, config, unix_now())
        with store.reading() as connection:
            refused = _refused_messages(connection)
    if as_json:
        click.echo(json.dumps({**state.as_values(), "refused_messages": refused}, indent=2))
    else:
        show_state(state)
        for one in refused:
            click.echo(
                f"message {one['message']} ({one['records']:,} records, among the unsent) was refused {shown(one['refused_at'])}: "
                f"{one['reason']}"
            )
        if refused:
            click.echo("refused messages are kept; `batchacct publish --once --retry-refused` tries them again")
    if not state.books.balanced:
        raise IncompleteError("the books do not balance: " + "; ".join(state.books.problems))


def _prints(text: Callable[[], str]) -> Callable[[click.Context, click.Parameter, bool], None]:
    """A callback of an option that prints a text in place of what its command does."""

    def callback(context: click.Context, _: click.Parameter, is_given: bool) -> None:
        if is_given:
            click.echo(text(), nl=False)
            context.exit()

    return callback


def _instead(name: str, text: Callable[[], str], told: str) -> Callable[[click.decorators.FC], click.decorators.FC]:
    return click.option(name, is_flag=True, is_eager=True, expose_value=False, callback=_prints(text), help=told)


@click.command()
@_instead("--alert-rules", alert_rules, "Print alert rules for Prometheus, each with what to do.")
@_instead("--dashboard", dashboard, "Print a dashboard for Grafana.")
@config_option
def metrics(config: Config) -> None:
    """Prints the same as Prometheus text.

    For the text file collector of a node exporter; `[collect] metrics_address` serves it by HTTP while `batchacct collect` runs.
    """
    from batchacct.metrics import metrics_text  # noqa: PLC0415 - a library that no other command needs

    with open_store(config) as store:
        click.echo(metrics_text(store, config), nl=False)


def _refused_messages(connection: Connection) -> list[dict[str, Any]]:
    columns = (
        *(message.c.id.label("message"), message.c.destination, message.c.records, message.c.refused_at),
        message.c.last_error.label("reason"),
    )
    refused = select(*columns).where(sent.IS_OPEN, message.c.refused_at.is_not(None)).order_by(message.c.id)
    return [dict(row) for row in connection.execute(refused).mappings()]


def show_state(state: State) -> None:
    """Tables of what is read, of the books and of publishing, then what a person should look into."""
    _show_following(state)
    show_books(state.books)
    for warning in state.warnings:
        click.echo(f"WARNING: {warning}")
    books = state.books
    click.echo("The books balance at every stage." if books.balanced else "THE BOOKS DO NOT BALANCE: " + "; ".join(books.problems))


def _show_following(state: State) -> None:
    emit_table("Sources, in bytes", *following_rows(state))


def following_rows(state: State) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Columns, and a row a source: what is read, how much is left, for how long, and what is wrong with it."""
    by_name = {s.name: s for s in state.books.sources}
    columns = ("source", "reading", "at byte", "unread", "in files", "lag", "last record", "read to end", "state")
    rows: list[tuple[object, ...]] = []
    for one in state.progress:
        source, rhythm = by_name.get(one.source), state.gaps.rhythms.get(one.source)
        times = (source.last_record_at if source else None, rhythm.last_at if rhythm else None)
        last_at = max((at for at in times if at is not None), default=None)
        left = ("-", "-") if one.unread_bytes is None else (one.unread_bytes, one.unread_files)
        lag = "-" if one.lag_s is None else duration(one.lag_s)
        to_end = "never" if one.read_to_end_at is None else f"{duration(max(state.now - one.read_to_end_at, 0))} ago"
        file = "-" if one.file is None else Path(one.file).name
        rows.append((one.source, file, one.offset, *left, lag, shown(last_at), to_end, _state(state, one)))
    return columns, rows


def _state(state: State, one: Progress) -> str:
    """In a word or two; the sentences stand below."""
    if one.read_to_end_at is None and one.offset is None and one.last_error is None:
        return "never read"
    told = ["error"] if one.last_error is not None else []
    told += ["warning"] if one.warning is not None else []
    told += ["silent"] if any(s.source == one.source for s in state.gaps.silences) else []
    told += ["bytes lost"] if one.lost_bytes else []
    if one.unfinished_bytes:
        told.append(f"unfinished unit of {one.unfinished_bytes:,} bytes waits")
    return ", ".join(told) or ("reading" if one.unread_bytes else "ok")


def show_books(books: Books) -> None:
    """The books as tables: units of each source, jobs, records of publishing."""
    _show_units(books.sources)
    for kind, count in books.parts_waiting.items():
        since = f", the oldest logged {shown(books.parts_oldest_at[kind])}"
        click.echo(f"parts that wait for others of their whole: {kind} ({count:,}{since})")
    jobs = books.jobs
    rows = [(outcome, reason, count) for (outcome, reason), count in sorted(jobs.outcomes.items())]
    rows.append(("not joined yet", "the next `publish` does", jobs.not_joined))
    emit_table(
        f"Jobs: {jobs.in_force:,} in force, {jobs.superseded:,} replaced by newer records",
        ("outcome", "why", "jobs"),
        rows,
    )
    for one in books.destinations:
        _show_destination(one, several=len(books.destinations) > 1)
    for what, count in sorted(books.left_out.items()):
        click.echo(f"left out of published records: {what} ({count:,})")
    if books.open_rejects:
        click.echo(f"{books.open_rejects:,} reject{'' if books.open_rejects == 1 else 's'}: see `batchacct rejects list`")


def _show_destination(out: DestinationBooks, *, several: bool) -> None:
    published = [("confirmed", "", out.confirmed), ("unsent", f"in {out.messages_unsent} messages", out.unsent)]
    published += [(kind, reason if reason != kind else "", count) for (kind, reason), count in sorted(out.kept_back.items())]
    published.append(("not in a message yet", "the next `publish` does", out.not_in_message))
    to = f" to {out.name}" if several else ""
    gone = "" if out.retired_at is None else f", not configured any more since {shown(out.retired_at)}"
    title = f"Publishing{to}: {out.publishable:,} records, {out.messages:,} messages{gone}"
    emit_table(title, ("state", "why", "records"), published)
    if out.last_error:
        click.echo(f"last error of publishing{to}: {out.last_error}")


def _show_units(sources: list[SourceBooks]) -> None:
    """A row a source that ever was read, also if it is not configured any more; columns about parts only where there are any."""
    columns: dict[str, list[object]] = {
        "source": [s.name for s in sources],
        "units read": [s.units for s in sources],
        "recorded": [s.recorded for s in sources],
        "merged": [s.merged for s in sources],
        "already known": [s.known for s in sources],
        "skipped": [s.skipped for s in sources],
        "rejected": [s.rejected for s in sources],
        "completed": [s.completed for s in sources],
        "files": [s.files for s in sources],
    }
    of_parts = {"merged", "completed"}
    told = {name: values for name, values in columns.items() if name not in of_parts or any(values)}
    emit_table("Units", list(told), list(zip(*told.values(), strict=True)))
