"""Configuration of a node: one TOML file of its own, as a worker node has no database. Each key is a field with default, unit and
doc.

From the fields come validation (every error at once, an unknown key with the nearest known one) and `procacctd --sample-config`.
"""

from __future__ import annotations

import json
import socket
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError, model_validator

from batchacct.config_errors import told_errors
from batchacct.errors import ConfigError
from batchacct.sections import File, Section, key
from procacct import policy
from procacct.node.group_rules import GroupRule
from procacct.shipping.config import Ship

DEFAULT_PATH = Path("/etc/batchacct/procacctd.toml")
MIB = 1 << 20


class SpoolKeys(Section):
    """Where rows are kept until they are collected or shipped."""

    path: File = key("folder of the spool files", Path("/var/spool/batchacct/procacct"))
    rotate_bytes: int = key("a file is followed by the next one at this size", 16 * MIB, ge=4096)
    rotate_s: int = key("... or at this age, seconds", 3600, ge=1)
    most_bytes: int = key("all files together; beyond it the oldest goes, and a gap row tells of it", 1024 * MIB, ge=8192)
    keep_s: int = key("files older than this go quietly, seconds; 0, or with [ship]: never", 7 * 86_400, ge=0)
    sync_s: float = key("what was written is put on the disk this often, seconds", 5.0, ge=0.1)

    @model_validator(mode="after")
    def _fits(self) -> SpoolKeys:
        if self.most_bytes < 2 * self.rotate_bytes:
            raise ValueError(
                "most_bytes is less than two files of rotate_bytes: nothing could be kept while the next one is written"
            )
        return self


class EventsKeys(Section):
    """The kernel's process events (connector): every fork, program and end. Needs CAP_NET_ADMIN and the initial namespaces."""

    use: Literal["auto", "yes", "no"] = key("yes: it has to work; auto: go on without where it does not", "auto")
    buffer_bytes: int = key("receive buffer; the kernel takes twice as much", 8 * MIB, ge=65_536)
    drain_ms: int = key("events are read this often while there are many, milliseconds", 25, ge=1, le=1000)
    prompt_per_s: int = key("of few events so many are read at once, so that short programs are seen in /proc", 50, ge=0, le=1000)
    rescan_s: float = key("after a loss /proc is looked at, at most this often, seconds", 2.0, ge=0.1)


class TaskstatsKeys(Section):
    """What each process used, told by the kernel at its end (taskstats). Needs what the events need."""

    use: Literal["auto", "yes", "no"] = key("yes: it has to work; auto: go on without where it does not", "auto")
    buffer_bytes: int = key("receive buffer of each group of CPUs", 8 * MIB, ge=65_536)


class SensorRule(Section):
    """Which programs the sensors tell of; the first rule that fits decides, and what none fits is told."""

    action: Literal["keep", "skip", "sample"] = key("what becomes of it", sample="skip")
    program: str = key("pattern (with * and ?) of its path", sample="/usr/bin/git*")
    argument: str | None = key("pattern of one of its arguments, if that matters", None)
    one_of: int = key("with sample: one execution of so many is told, and stands for so many", 1, ge=1, le=999_999_999)


class SensorKeys(Section):
    """The sensors within the programs, and what they may tell."""

    socket: File = key("socket they send to", Path("/run/batchacct/procacct.sensor"))
    policy: File = key("file that tells them what is wanted; written at the start", Path("/run/batchacct/procacct.policy"))
    active: bool = key("whether sensors send anything", True)
    buffer_bytes: int = key("receive buffer", 8 * MIB, ge=65_536)
    objects: bool = key("whether they tell the shared objects", True)
    environment: list[str] = key(
        "variables (with * and ?) that are told, beside those of the batch systems", [], sample=["OMP_NUM_THREADS"]
    )
    secrets: list[str] = key("words that mark a name as a secret's, beside the known ones", [])
    opt_out: str | None = key(
        "file by which its owner opts out; %h is the home, %U the number of the user", None, sample="%h/.no-procacct"
    )
    rule: list[SensorRule] = key("", [])

    @property
    def most_weight(self) -> int:
        """For how many executions a message may stand."""
        return max((rule.one_of for rule in self.rule if rule.action == "sample"), default=1)


class ControlKeys(Section):
    """Where jobmng asks."""

    socket: File = key("the control socket", Path("/run/batchacct/procacct.control"))


class NodeConfig(Section):
    """The whole file."""

    host: str | None = key("name of this host in the rows; default: its own", None, sample="node042.example.org")
    cluster: str | None = key("cluster of the jobs; default: that of the source that collects", None, sample="lsf1")
    state: File = key("folder for what has to survive a restart", Path("/var/lib/procacctd"))
    outside_jobs: bool = key("whether programs outside any batch job become rows", True)
    arguments: Literal["none", "program", "redacted", "all"] = key(
        "of command lines: nothing; program and script; all but secrets (as the sensor redacts them; else program and script); all",
        "program",
    )
    sum_above_per_s: int = key(
        "of a job that executes more programs a second, equal ones become rows that are their sums; 0: each its row", 0, ge=0
    )
    sum_s: float = key("such sums are written this often, seconds", 60.0, ge=1)
    prometheus_file: File | None = key(
        "file of metrics for node_exporter's textfile collector", None, sample="/var/lib/node_exporter/procacctd.prom"
    )
    prometheus_s: float = key("... written this often, seconds", 15.0, ge=1)
    spool: SpoolKeys = key("", SpoolKeys())
    events: EventsKeys = key("", EventsKeys())
    taskstats: TaskstatsKeys = key("", TaskstatsKeys())
    sensor: SensorKeys = key("", SensorKeys())
    control: ControlKeys = key("", ControlKeys())
    group: list[GroupRule] = key("", [])
    ship: Ship | None = key("", None)

    @property
    def sensor_policy(self) -> policy.Policy:
        """What the sensors are told."""
        keys = self.sensor
        rules = tuple(policy.Rule(one.action, one.program, one.argument, one.one_of) for one in keys.rule)
        return policy.Policy(
            keys.active,
            keys.socket,
            self.arguments,
            keys.objects,
            rules,
            tuple(keys.environment),
            tuple(keys.secrets),
            keys.opt_out,
        )

    @property
    def host_name(self) -> str:
        return self.host or socket.gethostname()

    @property
    def spool_keep_s(self) -> int:
        """Where lines are shipped no file goes because of its age: it is deleted once the broker has it."""
        return self.spool.keep_s if self.ship is None else 0


def load_node_config(path: Path) -> NodeConfig:
    """The configuration in a file; the defaults if there is none at the default place.  Raises: ConfigError naming every wrong
    key, or what the policy of the sensors cannot say."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        if path == DEFAULT_PATH:
            return NodeConfig()
        raise ConfigError(f"there is no configuration {path}: `procacctd --sample-config` prints one") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration {path} cannot be read: {error}") from error
    try:
        config = NodeConfig.model_validate(tomllib.loads(text))
        _require_full_paths(config)
        config.sensor_policy.text()
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"configuration {path} is no TOML: {error}") from error
    except ValidationError as error:
        raise ConfigError(f"configuration {path}:\n{told_errors(error, NodeConfig)}") from error
    except ConfigError as error:
        raise ConfigError(f"configuration {path}: {error.message}") from error
    return config


def _require_full_paths(config: NodeConfig) -> None:
    if relative := list(_relative_paths(config)):
        raise ConfigError("\n".join(["these depend on where a program is started: write them from / on", *relative]))


def _relative_paths(section: BaseModel, above: str = "") -> Iterator[str]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _relative_paths(value, f"{above}{name}.")
        elif isinstance(value, Path) and not value.is_absolute():
            yield f"  {above}{name}: {value} is no full path"


def sample() -> str:
    """A complete configuration, every key with its doc; those that are commented out show their default."""
    lines = ["# procacctd configuration. A key that is commented out shows its default, or an example.", ""]
    lines += _keys(NodeConfig)
    lines += _tables(NodeConfig, "")
    return "\n".join(lines) + "\n"


def _tables(section: type[BaseModel], above: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        inner = _section(field.annotation)
        if inner is not None:
            is_list = get_origin(field.annotation) is list
            title = f"[[{above}{name}]]" if is_list else f"[{above}{name}]"
            title = f"# {title}" if is_list or field.annotation is not inner else title
            yield from ("", f"# {(inner.__doc__ or '').strip().splitlines()[0]}", title, *_keys(inner))
            yield from _tables(inner, f"{above}{name}.")


def _keys(section: type[BaseModel]) -> Iterator[str]:
    for name, field in section.model_fields.items():
        if _section(field.annotation) is None:
            extra = field.json_schema_extra
            shown = extra.get("sample") if isinstance(extra, dict) else None
            value = shown if shown is not None else "" if field.is_required() or field.default is None else field.default
            yield f"# {field.description}"
            yield f"# {name} = {_toml(value)}"


def _section(annotation: object) -> type[Section] | None:
    """That of a table, of a list of tables, or of a table that may be missing."""
    inner = (get_args(annotation) or (annotation,))[0]
    return inner if isinstance(inner, type) and issubclass(inner, Section) else None


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(inner)}" for name, inner in value.items()) + "}"
    return json.dumps(str(value) if isinstance(value, Path) else value)
