"""`batchacct init` and `config`: everything before the first record."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import click
from sqlalchemy import make_url

from batchacct.cli.common import config_option, open_store
from batchacct.cli.database import create_database
from batchacct.config import Config, default_path, load_config, masked
from batchacct.config_problems import config_problems
from batchacct.config_sample import Found, sample
from batchacct.connection import check_url, holds_password
from batchacct.errors import BatchacctError, ConfigError, SchemaError
from batchacct.names_policy import change_ahead
from batchacct.parsing.reading import expand

_USUAL_LOGS: dict[str, tuple[str, ...]] = {
    "lsf": ("/var/log/lsf/lsb.acct*", "/usr/share/lsf/work/*/logdir/lsb.acct*"),
    "pbs": tuple(f"/var/spool/{home}/server_priv/accounting/[0-9]*" for home in ("pbs", "torque", "PBS")),
    "sge": ("/opt/sge/*/common/accounting*", "/var/lib/gridengine/*/common/accounting*"),
    "slurm-jobcomp": ("/var/log/slurm_jobcomp.log*",),
    "htcondor": ("/var/lib/condor/spool/history*",),
    "blah": tuple(f"/var/log/{place}accounting/blahp.log-*" for place in ("cream/", "", "arc/")),
    "arc-joblog": ("/var/log/arc/arex-jobs.log*",),
    "htcondor-ce": ("/var/lib/condor-ce/spool/history*",),
    "gram": ("/var/log/globus-gatekeeper.log*",),
}
"""Where the logs of this release's parsers usually are (formats/*.md, "Files")."""

_CLUSTERS = {
    "lsf": "lsf1", "pbs": "pbs1", "sge": "sge1", "slurm": "slurm1", "slurm-jobcomp": "slurm1", "htcondor": "htcondor1",
}  # fmt: skip
"""What the cluster of a source is called at first; a computing element's is that of the batch system beside it."""

_ARC_DATABASE = "/var/spool/arc/jobstatus/accounting/accounting.db"
_INSTEAD = {"slurm": "slurm-jobcomp", "arc-db": "arc-joblog"}
"""What can be asked tells more than the log beside it."""


def usual_sources() -> list[Found]:
    """What there is on this host to follow or to ask, as keys of a source."""
    logs: list[Found] = [
        {"name": parser, "parser": parser, "paths": patterns}
        for parser, usual in _USUAL_LOGS.items()
        if (patterns := [pattern for pattern in usual if expand([pattern])])
    ]
    asked: list[Found] = []
    if shutil.which("sacct"):
        asked.append({"name": "slurm", "parser": "slurm", "feed": "sacct"})
    if Path(_ARC_DATABASE).is_file():
        asked.append({"name": "arc-db", "parser": "arc-db", "feed": "arc-db", "paths": [_ARC_DATABASE]})
    superfluous = {_INSTEAD[str(source["name"])] for source in asked}
    found = [source for source in logs if source["name"] not in superfluous] + asked
    clusters = [_CLUSTERS.get(str(source["parser"])) for source in found]
    first = next((cluster for cluster in clusters if cluster), "cluster1")
    return [source | {"cluster": cluster or first} for source, cluster in zip(found, clusters, strict=True)]


@click.command()
@click.option("--config", "path", type=click.Path(path_type=Path), default=default_path, help="Configuration to write.")
@click.option("--database", default="sqlite:////var/lib/batchacct/batchacct.db", show_default=True, help="Database URL.")
@click.option("--site", help="Site name, as in GOCDB.  [default: this host's domain]")
def init(path: Path, database: str, site: str | None) -> None:
    """Writes a commented configuration, and creates the database.

    It names the logs that are in the usual places of this host; read it, and correct it, before anything else.
    """
    if path.exists() and not _is_the_sample(path):
        raise ConfigError(f"{path} exists already, and is not overwritten: edit it, or name another with --config")
    check_url(database)
    found = usual_sources()
    text = sample(site=site or socket.getfqdn().partition(".")[2] or "MY-SITE", database=database, sources=found)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600 if holds_password(database) else 0o644)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}") from error
    click.echo(f"wrote {path}" + (", which holds the password: nobody else may read it" if holds_password(database) else ""))
    try:
        create_database(load_config(path))
    except BatchacctError:
        click.echo(f"the database is still to be made: mend what is wrong, then run `batchacct db create --config {path}`")
        raise
    for source in found:
        paths = source.get("paths")
        what = f"asks {source['feed']}" if "feed" in source else "follows " + ", ".join(paths if isinstance(paths, list) else [])
        click.echo(f"source {source['name']} {what}")
    if not found:
        click.echo("found no logs in the usual places: correct the `paths` of each [[source]]")
    shown = make_url(database).render_as_string(hide_password=True)
    click.echo(f"created {shown}. Next: read and correct the configuration, then `batchacct config check`")


def _is_the_sample(path: Path) -> bool:
    """Whether it is what the packages put there, untouched: nothing is lost by overwriting it."""
    try:
        return path.read_text(encoding="utf-8") == sample()
    except (OSError, UnicodeDecodeError):
        return False


@click.group()
def config() -> None:
    """The configuration: a sample, a check, what is in force."""


@config.command("sample")
def print_sample() -> None:
    """Prints a complete configuration with every key explained."""
    click.echo(sample(), nl=False)


@config.command()
@config_option
def show(config: Config) -> None:
    """Prints what is in force, as JSON.

    Defaults are included, passwords masked.
    """
    click.echo(json.dumps(masked(config), indent=2))


@config.command()
@click.option("--keys-only", is_flag=True, help="Only what stands in the file: ask neither files, receivers nor the database.")
@config_option
def check(config: Config, keys_only: bool) -> None:
    """Checks the configuration against this host.

    Plug-ins, files, the database: tells everything that is wrong, at once.
    """
    if keys_only:
        click.echo("the keys of the configuration are right")
        return
    problems = [*config_problems(config), *_unreachable(config)]
    for problem in problems:
        click.echo(f"wrong: {problem}", err=True)
    for note in _notes(config) if not problems else ():
        click.echo(f"note: {note}", err=True)
    if problems:
        wrong = "1 thing is" if len(problems) == 1 else f"{len(problems)} things are"
        raise ConfigError(f"{wrong} wrong with the configuration, see above")
    click.echo("the configuration is right")


def _unreachable(config: Config) -> list[str]:
    """What is wrong with the database: it answers, has its schema, and lets this account do its work.

    A file that is not there is not made by asking.
    """
    try:
        _reach(config)
    except Exception as error:  # noqa: BLE001 - whatever it is, the person who asked for a check wants to read it
        return [str(error)]
    return []


def _reach(config: Config) -> None:
    """Raises: whatever is wrong."""
    url = make_url(config.database.resolved())
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise SchemaError(f"the database {url.database} does not exist: run `batchacct db create`")
    with open_store(config) as store:
        store.check_rights()


def _notes(config: Config) -> list[str]:
    """What is right, and has consequences."""
    with open_store(config) as store, store.reading() as connection:
        change = change_ahead(connection, config)
    return [] if change is None else [change]
