"""Our units, as systemd has them: those that are enabled or failed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from batchacct.doctor.contract import Finding, error, not_applicable, ok, warning

RUNS_SYSTEMD = Path("/run/systemd/system")
ASK_WITHIN_S = 5.0
PATTERNS = ("batchacct-*", "procacct*")
_ASKED = ("Id", "ActiveState", "SubState", "UnitFileState", "Result", "Type", "NRestarts", "StatusText")


def unit_findings() -> Iterator[Finding]:
    """A finding a unit that somebody wants to run."""
    if not RUNS_SYSTEMD.is_dir():
        yield not_applicable("units", "this host is not run by systemd: see that cron, or what else it is, runs the commands")
        return
    try:
        command = ["systemctl", "show", "--all", *(f"--property={name}" for name in _ASKED), *PATTERNS]
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ASK_WITHIN_S)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as failed:
        yield not_applicable("units", f"systemd was not asked: {failed}")
        return
    told = [finding for unit in units_of(answer.stdout) if (finding := _of_unit(unit)) is not None]
    yield from told or [not_applicable("units", "none of ours is enabled: see that cron runs the commands")]


def units_of(shown: str) -> list[dict[str, str]]:
    """What `systemctl show` printed, a unit each."""
    found = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in shown.split("\n\n")]
    return [unit for unit in found if unit.get("Id")]


def _of_unit(unit: dict[str, str]) -> Finding | None:
    subject, name = f"unit {unit['Id']}", unit["Id"]
    state, enabled = unit.get("ActiveState", ""), unit.get("UnitFileState") == "enabled"
    log = f"see `journalctl -u {name}`, mend what it says, then `systemctl restart {name}`"
    if state == "failed":
        return error(subject, f"it has failed: {unit.get('Result', 'unknown')}", log)
    if enabled and state != "active" and unit.get("Type") != "oneshot":
        return error(subject, f"it is enabled, and {state} ({unit.get('SubState', '')})", log)
    if state == "active" and int(unit.get("NRestarts") or 0):
        return warning(subject, f"it runs, and was restarted {unit['NRestarts']} times: {unit.get('StatusText', '')}", log)
    return ok(subject, f"{state}: {unit.get('StatusText') or unit.get('SubState', '')}") if state == "active" else None
