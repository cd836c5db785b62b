"""`batchacct procs jobs`: which jobs used a program or a library."""

from __future__ import annotations

import re
import uuid as uuids
from dataclasses import asdict

import click
from sqlalchemy import Connection

from batchacct.cli.common import config_option, open_store
from batchacct.clock import shown
from batchacct.config import Config
from batchacct.errors import ConfigError
from procacct.asking.asked import Asked
from procacct.asking.coverage import counted, notes
from procacct.asking.options import format_option, period_options
from procacct.asking.places import answered
from procacct.asking.printing import Answer, show
from procacct.asking.recall import Sought, Use, uses
from procacct.asking.runs import runs_of_processes

COLUMNS = ("job", "cluster", "user", "VO", "host", "executions", "first start", "last start")


@click.command("jobs")
@click.option("--program", metavar="PATTERN", help="That ran this program: a path, or the name of a file, with * and ?.")
@click.option("--library", metavar="PATTERN", help="That had this shared object loaded, likewise.")
@click.option("--signature", metavar="UUID", help="Whose program, or an object it had loaded, bears this signature.")
@click.option("--build-id", metavar="HEX", help="Whose program, or an object it had loaded, has this build id.")
@period_options
@format_option
@config_option
def jobs_command(
    config: Config,
    *,
    program: str | None,
    library: str | None,
    signature: str | None,
    build_id: str | None,
    begin: str | None,
    end: str | None,
    vo: tuple[str, ...],
    cluster: str | None,
    user: str | None,
    form: str,
) -> None:
    """Lists the jobs that used a program or library.

    For recalls: which jobs, of whom, when. What is looked for by several options has to be true of one process. Libraries are known
    of programs that ran with the sensor; the notes say how much of what ran was seen at all.
    """
    sought = Sought(program, library, _uuid(signature), _build_id(build_id))

    def question(connection: Connection, asked: Asked) -> tuple[list[Use], list[str]]:
        runs = runs_of_processes(connection, asked.logged)
        return list(uses(connection, asked, sought, runs)), notes(connection, asked, runs)

    with open_store(config) as store:
        (found, told), asked, purged = answered(store, begin, end, question, vo=vo, cluster=cluster, user=user)
    users, jobs = {one.user for one in found}, {(one.cluster, one.job, one.array_index, one.start_at) for one in found if one.job}
    told = [f"{counted(len(jobs), 'job')} of {counted(len(users), 'user')} used it.", *told, *purged]
    title = f"What used {sought}{asked.who}, {shown(asked.begin)} to {shown(asked.end)}"
    show(Answer(title, COLUMNS, [_for_people(one) for one in found], [asdict(one) for one in found], told), form)


def _for_people(one: Use) -> tuple[str | int, ...]:
    job = "-" if one.job is None else one.job if one.array_index is None else f"{one.job}[{one.array_index}]"
    host = one.host if one.hosts == 1 else f"{one.host} and {one.hosts - 1} more"
    return job, one.cluster, one.user, one.vo, host, one.executions, shown(one.first_at), shown(one.last_at)


def _uuid(given: str | None) -> str | None:
    """As it is recorded.  Raises: ConfigError for what no signature can be, of which it would be said that nobody used it."""
    try:
        return None if given is None else str(uuids.UUID(given.strip()))
    except ValueError as error:
        raise ConfigError(
            f"--signature {given!r} is none: write a UUID as `batchacct procs show-signature FILE` shows it, such as "
            "01a1f98c-555b-7147-bb57-58bdf3043a47"
        ) from error


def _build_id(given: str | None) -> str | None:
    """Likewise."""
    if given is None:
        return None
    digits = given.strip().lower().removeprefix("0x")
    if not re.fullmatch(r"(?:[0-9a-f]{2})+", digits):
        raise ConfigError(
            f"--build-id {given!r} is none: write an even number of hex digits, all that `batchacct procs show-signature FILE` or "
            "`readelf -n FILE` shows"
        )
    return digits
