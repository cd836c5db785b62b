"""`batchacct demo`: the whole job on generated logs, with the very commands a site would type."""

from __future__ import annotations

import datetime as dt
import glob
import json
import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import click
from sqlalchemy import ColumnElement, func, select

from batchacct.cli.common import emit_table, open_store
from batchacct.cli.main import group
from batchacct.clock import NOW_VARIABLE
from batchacct.config import PATH_VARIABLE, load_config
from batchacct.demo.farm import VO_MAP, Summary, write_logs
from batchacct.errors import ConfigError
from batchacct.store import Store
from batchacct.store.tables import job, usage

END_AT = int(dt.datetime(2026, 11, 1, 12, tzinfo=dt.UTC).timestamp())
"""The farm's last job ends about then, and the demo takes it to be that time: so its output never changes."""

MARKER = "# Written by `batchacct demo`, which may delete this folder.\n"

_SHOWN_KINDS = (
    ("jobs", "jobs"),
    ("grid", "of them through a computing element"),
    ("array", "elements of job arrays"),
    ("multi_host", "on several hosts"),
    ("zero_length", "of zero length"),
    ("killed", "killed"),
    ("over_24h", "longer than 24 h"),
    ("over_1000h", "longer than 1,000 h"),
    ("never_started", "never started"),
    ("unknown_cpu", "of unknown CPU time"),
    ("reused_id", "with a job id used twice"),
    ("odd_command", "with odd quoting or bytes"),
    ("damaged_lsf", "LSF lines damaged on purpose"),
    ("damaged_blah", "BLAH lines damaged on purpose"),
    ("identity_without_job", "identities without a job"),
    ("identity_lost", "grid jobs whose identity was lost"),
    ("identity_pending", "grid jobs whose identity is still to come"),
)


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Where everything goes.")
@click.option(
    "--jobs", type=click.IntRange(500, 1_000_000), default=3000, show_default=True, help="How many jobs the farm has run."
)
@click.option("--seed", default=1, show_default=True, help="Another seed, another farm; the same seed, the same output.")
def demo(folder: Path, jobs: int, seed: int) -> None:
    """Runs the whole job on a simulated farm.

    Writes LSF and BLAH logs, collects, joins, publishes, draws; everything stays in one folder, to be looked at.
    """
    try:
        _prepare(folder)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}; name another with --folder") from error
    summary = write_logs(folder / "logs", jobs=jobs, seed=seed, end_at=END_AT)
    configuration = folder / "batchacct.toml"
    configuration.write_text(_configuration(folder), encoding="utf-8")
    _show_farm(summary, folder)
    os.environ[NOW_VARIABLE] = str(END_AT)
    os.environ[PATH_VARIABLE] = str(configuration)
    for command in (
        ("db", "create"),
        ("collect", "--once"),
        ("publish", "--once"),
        ("report", "--by", "vo", "--plot", str(folder / "cpu-hours.png")),
        ("status",),
    ):
        click.echo(f"\n$ batchacct {' '.join(command)}")
        group.main(command, standalone_mode=False)
    with open_store(load_config(configuration)) as store:
        _what_next(folder, configuration, store)


def _prepare(folder: Path) -> None:
    """An empty folder; an earlier demo's is deleted, anything else is left alone."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is no folder: name another with --folder")
    if folder.exists():
        configuration = folder / "batchacct.toml"
        ours = configuration.is_file() and configuration.read_text(encoding="utf-8").startswith(MARKER)
        if not ours and any(folder.iterdir()):
            raise ConfigError(f"{folder} is not empty and no earlier demo's: name another with --folder")
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    (folder / "logs").mkdir(parents=True)


def _configuration(folder: Path) -> str:
    place = str(folder.resolve())
    logs = glob.escape(f"{place}/logs")
    rules = "\n".join(f'[[vo.rule]]\nvo = "{vo}"\ngroup = "{group_name}"' for group_name, vo in sorted(VO_MAP.items()))
    return f"""{MARKER}site = "DEMO-SITE"

[database]
url = {json.dumps(f"sqlite:///{place}/batchacct.db")}

[[source]]
name = "lsf-master"
parser = "lsf"
paths = [{json.dumps(f"{logs}/lsb.acct*")}]
cluster = "lsf1"

[[source]]
name = "ce-blah"
parser = "blah"
paths = [{json.dumps(f"{logs}/blahp.log-*")}]

[ce]
"*.example.org:8443/cream-lsf-*" = "lsf1"

[[cluster]]
name = "lsf1"
machine_name = "lsf-master.example.org"
grid_queues = ["grid_*"]

[[benchmark]]
type = "HEPscore23"
value = 12.5

{rules}

[publish]
path = {json.dumps(f"{place}/outgoing")}
"""


def _show_farm(summary: Summary, folder: Path) -> None:
    rows = [(summary.counts[kind], what) for kind, what in _SHOWN_KINDS]
    emit_table(f"A simulated farm wrote {len(summary.paths)} logs to {folder / 'logs'}", ("count", "what"), rows)


def _what_next(folder: Path, configuration: Path, store: Store) -> None:
    published = _some_job(store, (usage.c.outcome == "joined",))
    waiting = _some_job(store, (usage.c.outcome == "waiting",))
    message = next(iter(sorted(p for p in (folder / "outgoing").rglob("*") if p.is_file())))
    lines = [
        "What to look at next:",
        f"  {folder / 'cpu-hours.png'}  CPU hours a day by VO",
        f"  {message}  the first APEL message",
        f"  {configuration}  the configuration",
        "",
        "and, after `. .venv/bin/activate` if `make demo` ran this:",
        f"  export {PATH_VARIABLE}={shlex.quote(str(configuration))}",
        f"  export {NOW_VARIABLE}={END_AT}  # the farm's clock stands there: by yours its logs would be silent since",
        f"  batchacct why {published}  # the story of a published job, from byte offset to receipt",
        f"  batchacct why {waiting}  # the last run of this id waits for its identity",
        "  batchacct rejects list  # the lines that could not be read",
        "  batchacct trace message 1  # every record of a message, down to file and byte",
        "  batchacct report --by day  # CPU hours as a table",
    ]
    click.echo("\n" + "\n".join(lines))


def _some_job(store: Store, conditions: Sequence[ColumnElement[bool]]) -> str:
    """A job id that fits; preferably one used once, so that its story is one."""
    again = job.alias()
    times_used = select(func.count()).where(again.c.join_id == job.c.join_id).scalar_subquery()
    with store.reading() as connection:
        query = (
            select(job.c.lrms_job_id)
            .join(usage, usage.c.job_id == job.c.id)
            .where(*conditions)
            .order_by(times_used, job.c.id.desc())
            .limit(1)
        )
        return str(connection.scalar(query))
