"""What messages come to, whoever wrote them: records, and the sums that are published of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FIELD = re.compile(rb"^(WallDuration|CpuDuration|Processors|GlobalUserName):[ \t]*(.*?)[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Totals:
    """`named` are records with the DN of a person."""

    records: int
    wall_s: int
    cpu_s: int
    named: int

    def __str__(self) -> str:
        return f"{self.records:,} records, {self.wall_s:,} s wallclock, {self.cpu_s:,} s CPU, {self.named:,} of a DN"


def totals_of(folder: Path) -> Totals:
    """Of all messages below a folder (APEL's individual job records)."""
    records = wall_s = cpu_s = named = 0
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (content := path.read_bytes()).startswith(b"APEL-individual-job-message"):
            for name, value in _FIELD.findall(content):
                if name == b"WallDuration":
                    records, wall_s = records + 1, wall_s + int(value)
                elif name == b"CpuDuration":
                    cpu_s += int(value)
                elif name == b"GlobalUserName":
                    named += value.startswith(b"/")
    return Totals(records, wall_s, cpu_s, named)
