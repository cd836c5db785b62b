"""The units, and reading them as systemd does."""

from __future__ import annotations

import re
from pathlib import Path

from tools.packages.layout import SOURCE

UNITS = sorted((SOURCE / "rpm/systemd").iterdir())
SERVICES = [path for path in UNITS if path.suffix == ".service"]


def lines(path: Path, section: str) -> dict[str, list[str]]:
    """The values of each key of a section, in order: a key may stand several times."""
    text = path.read_text(encoding="utf-8")
    (found,) = re.findall(rf"^\[{section}\]\n(.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL)
    values: dict[str, list[str]] = {}
    for line in found.splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.partition("=")
            values.setdefault(key, []).append(value)
    return values


DAEMONS = {path.name for path in SERVICES if lines(path, "Service")["Type"] == ["notify"]}
"""What lives long."""
ENABLED = {path.name for path in UNITS if "\n[Install]\n" in path.read_text(encoding="utf-8")}
"""What an administrator may have enabled."""
