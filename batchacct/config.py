"""The configuration: one TOML file. Each key is a field with type, default, unit and doc; everything else derives from them.

From the fields come validation (every error at once, an unknown key with the nearest known one), `batchacct config sample`,
`check` and `show`, and `docs/reference/configuration.md`.
"""

from __future__ import annotations

import os
import stat
import string
import tomllib
import zoneinfo
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, PrivateAttr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from sqlalchemy import make_url

from batchacct.addresses import checked_address
from batchacct.brokers.keys import Receive
from batchacct.config_applications import Application
from batchacct.config_errors import told_errors
from batchacct.config_mapping import Benchmark, Person, Vo
from batchacct.config_portal import Portal
from batchacct.config_reports import Capacity, Energy
from batchacct.connection import check_url, database_url, holds_password
from batchacct.cron import CronText
from batchacct.errors import ConfigError
from batchacct.parsing import Source
from batchacct.parsing.hosts import this_host
from batchacct.sections import Duration as Duration  # noqa: PLC0414 - exported, as the next three are
from batchacct.sections import File as File  # noqa: PLC0414
from batchacct.sections import Section as Section  # noqa: PLC0414
from batchacct.sections import Zone, as_seconds
from batchacct.sections import key as key  # noqa: PLC0414

DEFAULT_PATH = Path("/etc/batchacct/batchacct.toml")
PATH_VARIABLE = "BATCHACCT_CONFIG"
EXAMPLE_CLUSTER = "lsf1"
MAIN = "main"
"""The destination of a configuration that lists none."""


def _url(value: str) -> str:
    try:
        return check_url(value)
    except ConfigError as error:
        raise ValueError(error.message) from error


def _template(must: str, *may: str) -> AfterValidator:
    """A template of just these names in braces, the first of them required."""
    known = [f"{{{name}}}" for name in (*must.split(), *may)]

    def check(value: str) -> str:
        try:
            parts = list(string.Formatter().parse(value))
        except ValueError as error:
            raise ValueError(f"a brace is not closed, or not opened; known are {', '.join(known)}") from error
        used = {name for _, name, _, _ in parts if name is not None}
        plain = not any(form or conversion for _, _, form, conversion in parts)
        if not plain or not used <= {k.strip("{}") for k in known}:
            raise ValueError(f"only {', '.join(known)} are replaced")
        if missing := set(must.split()) - used:
            raise ValueError(f"needs {{{missing.pop()}}}: records of different jobs would have the same name")
        return value

    return AfterValidator(check)


class Database(Section):
    """Where everything is kept. Give `url` or `connection_file`."""

    url: Annotated[str, AfterValidator(_url)] | None = key(
        "SQLAlchemy URL, without password", None, sample="sqlite:////var/lib/batchacct/batchacct.db"
    )
    connection_file: File | None = key(
        "file with the URL, or username/password@dsn; with a password in it not readable for everybody", None
    )
    read_only_connection_file: File | None = key(
        "as connection_file, of an account that may only read, for `portal` and `serve`; default: the account of the others", None
    )
    partitions_ahead: int = key("months ahead of this one for which `db partition` makes partitions", 3, ge=0, le=24)

    @model_validator(mode="after")
    def _one_of_two(self) -> Database:
        if (self.url is None) == (self.connection_file is None):
            raise ValueError("give url or connection_file, one of them")
        return self

    def resolved(self) -> str:
        """The URL.  Raises: ConfigError for a connection file that cannot be used."""
        if self.url is not None:
            return self.url
        assert self.connection_file is not None
        return database_url(self.connection_file)

    def resolved_to_read(self) -> str:
        """The URL for who only reads.  Raises: ConfigError as `resolved`."""
        return self.resolved() if self.read_only_connection_file is None else database_url(self.read_only_connection_file)


class SourceKeys(Section):
    """A log that is followed, or a set of files that are one log over time."""

    name: str = key("name, as records and `status` show it", sample="lsf-master", pattern=r"^[A-Za-z0-9_.-]+$")
    parser: str = key("one of docs/reference/parsers.md; a site's own also as module:function", sample="lsf")
    paths: list[str] = key("files and patterns; rotated and compressed ones too", [], sample=["/var/log/lsf/lsb.acct*"])
    header: str | None = key("header line of files that have none, as their program would write it", None)
    feed: str | None = key("ask instead of following files: sacct, arc-db, or that of a plug-in", None)
    feed_options: dict[str, str] = key("settings of the feed", {})
    cluster: str | None = key("cluster whose jobs it tells of; may be left out where [ce] decides", None, sample=EXAMPLE_CLUSTER)
    site: str | None = key("site, where it is not the one above", None)
    zone: Zone = key("time zone of the host that writes it, for formats that do not say", "UTC")
    host: str | None = key("host that writes it, for formats that do not say; default: the one this is run on", None)
    longest_silence: Duration | None = key(
        "silent for longer than this is a warning; default: twice the longest of eight weeks, and 2h", None
    )

    @model_validator(mode="after")
    def _followed_or_asked(self) -> SourceKeys:
        if self.feed is None and not self.paths:
            raise ValueError("give paths, the files to follow, or a feed to ask")
        if self.feed is None and self.feed_options:
            raise ValueError("feed_options are for a source with a feed")
        return self


class Cluster(Section):
    """A batch system: one space of job ids."""

    name: str = key("name, as sources and [ce] use it", sample=EXAMPLE_CLUSTER)
    machine_name: str | None = key("host of the LRMS server, published as MachineName", None, sample="lsf-master.example.org")
    submit_host: str | None = key("what local jobs publish as SubmitHost; default: machine_name, else the name", None)
    grid_queues: list[str] = key("queues (with * and ?) whose jobs wait for their identity", [], sample=["grid_*"])


class Join(Section):
    """Which identity belongs to which job, and how long a job waits for it."""

    submit_window: Duration = key("a submit-time identity is within this of the job's submit time", 86_400, sample="1d")
    accept_before: Duration = key("an accept-time identity is at most this long before the submit time", 30 * 86_400, sample="30d")
    accept_after: Duration = key("... and at most this long after it", 3600, sample="1h")
    end_window: Duration = key("an end-time identity is within this of the job's end", 86_400, sample="1d")
    grace: Duration = key("a grid queue's job waits at least this long after its end", 86_400, sample="1d")
    max_hold: Duration = key("... and at most this long, however far the identity sources were read", 14 * 86_400, sample="14d")
    then: Literal["local", "hold"] = key("what becomes of it after that", "local")
    unknown_cpu: Literal["exclude", "zero"] = key("a job whose CPU time is unknown", "exclude")


class WayOut(Section):
    """To one receiver: what its messages are, and how they get there."""

    format: str = key("message format", "apel-0.3")
    transport: str = key("transport", "ssm-directory")
    path: File = key("where the transport puts messages, if it is a folder", Path("/var/spool/apel/outgoing"))
    options: dict[str, Any] = key("settings of the transport: docs/reference/transports.md", {})
    bunch: int = key("records a message", 1000, ge=1, le=5000)


class Publish(WayOut):
    """What goes out, and how. The first five keys are of the one destination there is where no [[destination]] stands."""

    local_job_id: Annotated[str, _template("id", "cluster")] = key("LocalJobId of a job: {id} and {cluster} are replaced", "{id}")
    local_job_id_array: Annotated[str, _template("id index", "cluster")] = key(
        "LocalJobId of an array element: {id}, {index} and {cluster}", "{id}-{index}"
    )
    personal: Literal["grid", "all", "none"] = key("whose names go out: DN and account of grid jobs, of all, of nobody", "grid")
    pseudonym_key: File | None = key(
        "file with a secret; with it, keyed hashes go out in the place of names; not readable for everybody", None
    )
    description: Annotated[str, _template("", "ce", "lrms")] = key(
        "InfrastructureDescription: {lrms}, and {ce} for grid jobs", "BATCHACCT-{ce}-{lrms}"
    )
    schedule: CronText = key("when `batchacct publish` runs, as in cron: minute hour day month weekday", "17 * * * *")
    schedule_zone: Zone = key("time zone of the schedule", "UTC")
    schedule_jitter: Duration = key("runs are later than that by up to this, each site's by a time of its own", 900, sample="15m")


class Destination(WayOut):
    """A receiver of several: each has its own messages and progress, and one that fails does not hold up the others."""

    name: str = key("name, as `status` shows it; what was sent is kept under it", sample="apel", pattern=r"^[A-Za-z0-9_.-]{1,100}$")
    vos: list[str] = key("VOs (with * and ?) whose records it gets; local ones are local-atlas and the like", ["*"], min_length=1)
    infrastructure: Literal["all", "grid", "local"] = key("whether it gets records of grid jobs, of local ones, of all", "all")


class Collect(Section):
    """How `batchacct collect` follows: only of concern while it runs, not with --once."""

    watch: Literal["auto", "inotify", "poll"] = key("inotify, polling, or by the file system: polling on NFS and its like", "auto")
    poll_interval: Duration = key("time between two looks where folders are polled", 1, sample="1s", ge=1)
    feed_interval: Duration = key("time between two questions to a feed", 300, sample="5m", ge=1)
    heartbeat: Duration = key("time between two heartbeat lines in the log; 0 for none", 10_800, sample="3h")
    metrics_address: Annotated[str, AfterValidator(checked_address)] | None = key(
        "address and port at which metrics are served by HTTP, such as 127.0.0.1:9105", None
    )


class Serve(Section):
    """What `batchacct serve` gives by HTTP to those who ask for records themselves, and to whom."""

    address: Annotated[str, AfterValidator(checked_address)] = key(
        "address and port it listens at; for one that other hosts reach it needs a token_file", "127.0.0.1:9106"
    )
    token_file: File | None = key("file with the token a client has to show; not readable for everybody", None)
    certificate: File | None = key("certificate for HTTPS, and those between it and its CA, PEM", None)
    certificate_key: File | None = key("its private key, PEM without a pass phrase; not readable for everybody", None)
    longest_page: int = key("records an answer holds at most", 10_000, ge=1, le=100_000)
    at_once: int = key("requests answered at the same time; others wait a little, and are told to come again", 4, ge=1, le=12)
    deadline: Duration = key("an answer is made and taken within this; a client that is slower is cut off", 60, sample="60s", ge=1)

    @model_validator(mode="after")
    def _both(self) -> Serve:
        if (self.certificate is None) != (self.certificate_key is None):
            raise ValueError("certificate and certificate_key go together")
        return self


class Archive(Section):
    """Where `batchacct db archive` puts months that are taken out of the database."""

    path: File = key("folder of the archive; it names people, as the database does", Path("/var/lib/batchacct/archive"))


class Retention(Section):
    """How long things are kept, from the end of their month on: what `db archive` and `db purge` go by."""

    keep: Duration = key("records stay in the database; then `db archive` takes their month out", 400 * 86_400, sample="400d")
    archive_for: Duration | None = key("files of the archive stay; then `db purge` deletes them; default: for ever", None)
    personal_data: Duration | None = key("names of people stay; then `db purge` takes them out everywhere; default: for ever", None)

    @model_validator(mode="after")
    def _in_order(self) -> Retention:
        if self.archive_for is not None and self.archive_for < self.keep:
            raise ValueError("archive_for is shorter than keep: nothing is archived before that")
        return self


class Config(Section):
    """The whole file."""

    site: str = key("site name, as in GOCDB", sample="EXAMPLE-SITE", min_length=1, max_length=255)
    database: Database = key("")
    source: list[SourceKeys] = key("", [])
    ce: dict[str, str] = key(
        "CE id patterns to cluster, in order", {}, sample={"ce01.example.org:8443/cream-lsf-*": EXAMPLE_CLUSTER}
    )
    collect: Collect = key("", Collect())
    cluster: list[Cluster] = key("", [])
    benchmark: list[Benchmark] = key("", [])
    capacity: list[Capacity] = key("", [])
    energy: list[Energy] = key("", [])
    join: Join = key("", Join())
    vo: Vo = key("", Vo())
    person: list[Person] = key("", [])
    application: list[Application] = key("", [])
    publish: Publish = key("", Publish())
    destination: list[Destination] = key("", [])
    serve: Serve = key("", Serve())
    portal: Portal = key("", Portal())
    receive: Receive | None = key("", None)
    archive: Archive = key("", Archive())
    retention: Retention = key("", Retention())
    _file: Path | None = PrivateAttr(None)

    @property
    def file(self) -> Path | None:
        """Where it was read from, to be named in errors."""
        return self._file

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        names = [s.name for s in self.source]
        if twice := {n for n in names if names.count(n) > 1}:
            raise ValueError(f"two sources have the name {', '.join(sorted(twice))}")
        known = {c.name for c in self.cluster}
        if twice := {c.name for c in self.cluster if [one.name for one in self.cluster].count(c.name) > 1}:
            raise ValueError(f"two [[cluster]] have the name {', '.join(sorted(twice))}: put their keys into one")
        used = {c for s in self.source if (c := s.cluster)} | set(self.ce.values())
        used |= {b.cluster for b in self.benchmark if b.cluster != "*"} | {c.cluster for c in self.capacity}
        if missing := used - known:
            raise ValueError(f"[[cluster]] is missing for {', '.join(sorted(missing))}")
        scopes = [(b.cluster, tuple(sorted(set(b.hosts))), b.valid_from) for b in self.benchmark]
        if twice_valid := next((b for b, scope in zip(self.benchmark, scopes, strict=True) if scopes.count(scope) > 1), None):
            raise ValueError(
                f"two [[benchmark]] of cluster {twice_valid.cluster} for the same hosts begin on {twice_valid.valid_from}: "
                "give one of them another valid_from; other benchmarks of the same core belong into also"
            )
        begins = [(f"[[capacity]] of cluster {c.cluster}", c.valid_from) for c in self.capacity]
        begins += [("[[energy]]", e.valid_from) for e in self.energy]
        if begun_twice := next((one for one in begins if begins.count(one) > 1), None):
            raise ValueError(f"two {begun_twice[0]} begin on {begun_twice[1]}: give one of them another valid_from")
        names = [name for p in self.person for name in (p.name, *p.also)]
        if twice := {n for n in names if names.count(n) > 1}:
            raise ValueError(f"[[person]]: {', '.join(sorted(twice))} stands twice")
        names = [a.name for a in self.application]
        if twice := {n for n in names if names.count(n) > 1}:
            raise ValueError(f"[[application]]: {', '.join(sorted(twice))} stands twice")
        names = [d.name for d in self.destination]
        if twice := {n for n in names if names.count(n) > 1}:
            raise ValueError(f"two destinations have the name {', '.join(sorted(twice))}")
        idle = [name for name, field in WayOut.model_fields.items() if getattr(self.publish, name) != field.default]
        if self.destination and idle:
            raise ValueError(f"[publish] {', '.join(sorted(idle))}: say it in each [[destination]], as there are some")
        template = self.publish.local_job_id + self.publish.local_job_id_array
        if len(known) > 1 and template.count("{cluster}") < 2:
            raise ValueError("several clusters share job ids: [publish] local_job_id and local_job_id_array need {cluster}")
        return self

    @property
    def destinations(self) -> list[Destination]:
        """Where everything goes: what is listed, else the one that [publish] describes."""
        if self.destination:
            return self.destination
        return [Destination(name=MAIN, **{name: getattr(self.publish, name) for name in WayOut.model_fields})]

    def parser_source(self, keys: SourceKeys) -> Source:
        """What a parser is told of a source."""
        zone = zoneinfo.ZoneInfo(keys.zone)
        head = b"" if keys.header is None else keys.header.encode() + b"\n"
        host = keys.host or this_host()
        return Source(keys.name, keys.site or self.site, keys.cluster, zone, tuple(self.ce.items()), head, host)

    def cluster_named(self, name: str) -> Cluster:
        return next((c for c in self.cluster if c.name == name), Cluster(name=name))


def default_path() -> Path:
    """The configuration file: from the environment, else /etc/batchacct/batchacct.toml."""
    return Path(os.environ.get(PATH_VARIABLE, DEFAULT_PATH))


def load_config(path: Path) -> Config:
    """The configuration in a file.  Raises: ConfigError naming every wrong key at once."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"there is no configuration {path}: `batchacct init` writes one, --config names another") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration {path} cannot be read: {error}") from error
    try:
        config = Config.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"configuration {path} is no TOML: {error}") from error
    except ValidationError as error:
        raise ConfigError(f"configuration {path}:\n{told_errors(error, Config)}") from error
    config._file = path  # noqa: SLF001 - a field would be a key
    if config.database.url and holds_password(config.database.url) and path.stat().st_mode & stat.S_IROTH:
        raise ConfigError(
            f"configuration {path} may be read by everybody and holds a password, in [database] url: "
            f"run `chmod o-r {path}`, or keep the URL in a connection_file"
        )
    return config


def is_duration(field: FieldInfo) -> bool:
    """Whether the number of a key is one of seconds, which may be written as `36h`."""
    return any(isinstance(one, BeforeValidator) and one.func is as_seconds for one in field.metadata)


def masked(config: Config) -> dict[str, Any]:
    """The configuration in force as plain values, a password in a URL masked."""
    values = config.model_dump(mode="json", exclude_none=True)
    if config.database.url:
        values["database"]["url"] = make_url(config.database.url).render_as_string(hide_password=True)
    return values
