"""`batchacct doctor`: checks everything an administrator would, and says what to do."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import click

from batchacct.cli.common import harmless
from batchacct.clock import unix_now
from batchacct.config import default_path, load_config
from batchacct.doctor import Examined, Level, Told, error, examine, registered
from batchacct.doctor.account import become
from batchacct.errors import ConfigError, IncompleteError

USUAL_TIME_S = 60.0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Everything as one JSON object.")
@click.option("--timeout", default=USUAL_TIME_S, show_default=True, type=click.FloatRange(min=1), help="Seconds a check may take.")
@click.option("--user", help="Look as this user; only root may.  [default: batchacct, for root]")
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    help="Configuration file.  [default: $BATCHACCT_CONFIG, else /etc/batchacct/batchacct.toml]",
)
def doctor(as_json: bool, timeout: float, user: str | None, path: Path | None) -> None:
    """Checks everything an administrator would.

    What it finds is ok, a warning, an error, or not applicable here; with what to do. It changes nothing. The exit status is 0 if
    nothing is an error, 13 otherwise; a warning does not change it.
    """
    checks = registered()
    become(user)
    try:
        config = load_config(path or default_path())
    except ConfigError as wrong:
        told = [Told("configuration", error("configuration", wrong.message, "nothing else can be checked before that"))]
    else:
        examined = Examined(config, unix_now())
        told = examine(checks, examined, timeout)
        examined.close()
    show(told, as_json=as_json)
    errors = sum(one.finding.level is Level.ERROR for one in told)
    if errors:
        raise IncompleteError("1 thing is wrong, see above" if errors == 1 else f"{errors} things are wrong, see above")


def show(told: list[Told], *, as_json: bool) -> None:
    """Findings for a script, or for a person."""
    counts = Counter(one.finding.level for one in told)
    if as_json:
        findings = [
            {
                "check": one.check,
                "subject": one.finding.subject,
                "level": one.finding.level.value,
                "found": one.finding.found,
                "todo": one.finding.todo,
            }
            for one in told
        ]
        click.echo(json.dumps({"counts": {level.value: counts[level] for level in Level}, "findings": findings}, indent=2))
        return
    for one in told:
        finding = one.finding
        click.echo(f"{_SHOWN[finding.level]} {_line(finding.subject)}: {_line(finding.found)}")
        if finding.todo is not None:
            click.echo(f"        to do: {_line(finding.todo)}")
    click.echo(", ".join(f"{counts[level]} {plural(level, counts[level])}" for level in reversed(Level)))


_SHOWN = {Level.OK: "ok     ", Level.NOT_APPLICABLE: "-      ", Level.WARNING: "WARNING", Level.ERROR: "ERROR  "}


def plural(level: Level, count: int) -> str:
    return f"{level.value}s" if level in {Level.WARNING, Level.ERROR} and count != 1 else level.value


def _line(text: str) -> str:
    return harmless(" ".join(text.split("\n")))
