"""`batchacct procs report`: what `sa`, `lastcomm` and the script of ELSA tell, out of accounting files or out of the store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from batchacct.cli.common import open_store
from batchacct.cli.instants import end_of, instant
from batchacct.clock import unix_now
from batchacct.config import default_path, load_config
from batchacct.errors import ConfigError
from batchacct.parsing.hosts import this_host
from procacct.asking.accounting_files import Files, sums_of_files
from procacct.asking.accounting_list import list_of_files, list_of_store, show_list
from procacct.asking.accounting_question import SUMMED_BY, Groups, Question, read_groups
from procacct.asking.accounting_shown import FORMATS, Answer, named_totals, notes_of_files, notes_of_store, show
from procacct.asking.accounting_store import sums_of_store, who_told
from procacct.asking.accounts import user_id_of

NEEDS_STORE = {"job": "the batch job of a process", "group": "the group of a process"}


@click.command()
@click.argument("files", nargs=-1)
@click.option("--by", type=click.Choice(list(SUMMED_BY)), help="What to sum by.  [default: user; with --groups-file: group]")
@click.option("--list", "as_list", is_flag=True, help="Each process by itself, the last first, in place of sums.")
@click.option("--from", "first", metavar="DATE", help="Processes that ended from here on.  [default: the first one]")
@click.option("--to", "last", metavar="DATE", help="Until here; a day or month is included.  [default: the last one]")
@click.option("--user", "users", multiple=True, help="Only of this account, a name or number; may be repeated.")
@click.option("--command", "commands", multiple=True, help="Only of this command, a pattern with * and ?; may be repeated.")
@click.option("--terminal", "terminals", multiple=True, help="Only at this terminal, such as pts/0; may be repeated.")
@click.option(
    "--groups-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Groups of processes, as `jobmng dump` writes them, for --by group of FILES.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="With --list: so many at most.  [default: 1000 in a table]")
@click.option("--numeric", is_flag=True, help="Numbers of users and groups, not their names on this host.")
@click.option("--host", help="Host that wrote FILES.  [default: this one]")
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print it.")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help="Configuration file, for the store.  [default: $BATCHACCT_CONFIG, else /etc/batchacct/batchacct.toml]",
)
def report(
    files: tuple[str, ...],
    *,
    by: str | None,
    as_list: bool,
    first: str | None,
    last: str | None,
    users: tuple[str, ...],
    commands: tuple[str, ...],
    terminals: tuple[str, ...],
    groups_file: Path | None,
    limit: int | None,
    numeric: bool,
    host: str | None,
    form: str,
    config_path: Path | None,
) -> None:
    """Sums what processes used, or lists them.

    Sums are by account, command, group of processes, batch job and more.

    FILES are those of BSD process accounting, rotated and compressed ones too; no database is needed for them. Without FILES the
    processes in the store are told of; of a host and day (UTC) the rows of the node daemon count, else those of BSD accounting,
    else the others. A process counts as a whole at the instant it ended. A DATE is 2026-11-01, 2026-11, Unix seconds, or -30d, -2w
    (before today); UTC.
    """
    now = unix_now()
    question = Question(instant(first, now) if first else None, end_of(last, now) if last else None, users, commands, terminals)
    if question.begin is not None and question.end is not None and question.begin >= question.end:
        raise ConfigError(f"--to {last} lies before --from {first}: nothing can have ended between them")
    if files:
        _check_known(users)
    if groups_file is not None and (not files or as_list):
        raise ConfigError("--groups-file is for sums of FILES: the store knows the groups itself")
    if as_list and by is not None:
        raise ConfigError("--list shows each process by itself, and sums by nothing: leave out --by")
    by = by or ("user" if groups_file is None else "group")
    if files and (what := NEEDS_STORE.get(by)) and (by == "job" or groups_file is None):
        raise ConfigError(f"{what} is in no accounting file: {_instead(by)}")
    asked = _Asked(question, by, as_list, limit, numeric, form)
    if files:
        _of_files(Files(files, host or this_host()), asked, None if groups_file is None else read_groups(groups_file))
    else:
        _of_store(config_path or default_path(), asked)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The question, and how the answer is to look."""

    question: Question
    by: str
    as_list: bool
    limit: int | None
    numeric: bool
    form: str


def _check_known(users: tuple[str, ...]) -> None:
    """Raises: ConfigError for users nobody here knows: the files have numbers, and an empty answer would be taken for one."""
    if unknown := [name for name in users if user_id_of(name) is None]:
        raise ConfigError(f"--user {unknown[0]}: this host knows no such account; give its number")


def _instead(by: str) -> str:
    return "ask the store, without FILES" if by == "job" else "give --groups-file, or ask the store, without FILES"


def _of_files(files: Files, asked: _Asked, groups: Groups | None) -> None:
    if asked.as_list:
        show_list(list_of_files(files, asked.question, numeric=asked.numeric), asked.form, asked.limit)
    else:
        totals = named_totals(sums_of_files(files, asked.question, asked.by, groups), asked.by, numeric=asked.numeric)
        show(Answer(asked.by, asked.question, totals, notes_of_files(files, asked.by)), asked.form)
    files.check()


def _of_store(config_path: Path, asked: _Asked) -> None:
    with open_store(load_config(config_path)) as store, store.reading() as connection:
        told = who_told(connection, asked.question)
        if asked.as_list:
            rows = list_of_store(connection, asked.question, numeric=asked.numeric)
            show_list(rows, asked.form, asked.limit, notes_of_store(told))
        else:
            totals = named_totals(sums_of_store(connection, asked.question, asked.by), asked.by, numeric=asked.numeric)
            show(Answer(asked.by, asked.question, totals, notes_of_store(told, asked.by)), asked.form)
