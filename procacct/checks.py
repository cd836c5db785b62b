"""What `batchacct doctor` looks at of a node that accounts for processes: the daemon, its spool, the sensor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from batchacct.doctor import Examined, Finding, error, not_applicable, ok, warning
from batchacct.doctor.setup import folder_findings
from batchacct.errors import ConfigError
from procacct.node.config import DEFAULT_PATH, NodeConfig, load_node_config
from procacct.node.control_client import NoDaemonError, RefusedError, ask
from procacct.sensor.building import FOLDERS, NAME

ALMOST = 0.8
_SEE = "see `jobmng status`, and the log by `journalctl -u procacctd`"


def node(examined: Examined) -> Iterator[Finding]:
    """Of a host with a procacctd.toml. What the kernel lets the daemon do, only `procacctd --check` can try, as root."""
    del examined
    yield from node_findings(DEFAULT_PATH)


def node_findings(path: Path) -> Iterator[Finding]:
    """The same for a configuration elsewhere."""
    if not path.exists():
        yield not_applicable("node daemon", f"this host accounts for no processes: there is no {path}")
        return
    try:
        keys = load_node_config(path)
    except ConfigError as wrong:
        yield error("node daemon", wrong.message, "mend it, until `procacctd --check` is content")
        return
    yield from _daemon(keys)
    yield from folder_findings(keys.spool.path, "the spool")
    yield _spool(keys)
    yield _sensor(keys)


def _daemon(keys: NodeConfig) -> Iterator[Finding]:
    try:
        told = ask(keys.control.socket, "status")
    except (NoDaemonError, RefusedError) as failed:
        yield error("node daemon", failed.message, "start it: `systemctl start procacctd`; `procacctd --check` says what it lacks")
        return
    wrong = list(_wrong(told))
    for what in wrong:
        yield warning("node daemon", what, _SEE)
    if not wrong:
        yield ok("node daemon", f"runs for {told['running_s'] / 3600:.1f} h, {told['rows_written']:,} rows written")


def _wrong(told: dict[str, Any]) -> Iterator[str]:
    """What it says of itself that is not as it should be."""
    if not told["hears_events"]:
        yield "it hears no events of the kernel, and sees only what sensors tell and what it finds in /proc"
    if told["spool_failing"]:
        yield f"its spool cannot be written, {told['rows_waiting']:,} rows wait in memory"
    if told["rows_dropped"]:
        yield f"{told['rows_dropped']:,} rows were given up since its start, as the spool was full or failed"
    if told["lost_events"]:
        yield f"{told['lost_events']:,} events of the kernel were lost since its start; gap rows tell when"


def _spool(keys: NodeConfig) -> Finding:
    files = [path.stat().st_size for path in keys.spool.path.glob("*.jsonl")] if keys.spool.path.is_dir() else []
    told = f"{len(files):,} files, {sum(files) >> 20:,} MiB of {keys.spool.most_bytes >> 20:,}"
    if sum(files) > ALMOST * keys.spool.most_bytes:
        todo = "collect or ship it: is `batchacct collect` or `procacct ship` at work? Beyond the limit the oldest rows go"
        return warning("spool", told, todo)
    return ok("spool", told)


def _sensor(keys: NodeConfig) -> Finding:
    found = [folder / NAME for folder in FOLDERS if (folder / NAME).is_file()]
    if not found:
        return not_applicable("sensor", f"{NAME} is not installed: programs are seen from outside alone")
    if not keys.sensor.policy.is_file():
        todo = "start procacctd, which writes it; until then sensors do what is built into them"
        return warning("sensor", f"{found[0]} is there, and its policy {keys.sensor.policy} is not", todo)
    return ok("sensor", f"{found[0]}, by the policy {keys.sensor.policy}")
