"""What Slurm itself says of the runs on the cluster, read here in the simplest way, and by nothing of loccol."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field

from tests.services.slurm import SlurmCluster

WHOLE_DAY = ("--allusers", "--duplicates", "--starttime=now-1hour", "--endtime=now")
_FIELDS = (
    "JobID,Submit,Start,End,Elapsed,Suspended,State,ExitCode,NCPUS,NNodes,AllocTRES,User,Group,Account,Partition,"
    "UserCPU,SystemCPU,MaxRSS"
)

Key = tuple[str, int | None, dt.datetime]
"""Job id, array index, end: of one run."""


@dataclass
class Run:
    """A run by `sacct`: its own row, and the rows of its steps below it."""

    row: dict[str, str]
    steps: list[dict[str, str]] = field(default_factory=list)

    @property
    def key(self) -> Key:
        number, _, index = self.row["JobID"].partition("_")
        return number, int(index) if index else None, at(self.row["End"])

    @property
    def started(self) -> bool:
        """A job that was cancelled in the queue has no Start, or that of its end; and nothing was allocated to it."""
        return bool(self.row["AllocTRES"])

    @property
    def wall_s(self) -> float:
        return seconds(self.row["Elapsed"])

    @property
    def cpu_s(self) -> float:
        return sum(seconds(step["UserCPU"]) + seconds(step["SystemCPU"]) for step in self.steps)

    @property
    def memory_kib(self) -> int | None:
        return max((int(step["MaxRSS"]) // 1024 for step in self.steps if step["MaxRSS"] not in {"", "0"}), default=None)

    @property
    def exit(self) -> tuple[int, int | None]:
        code, signal = self.row["ExitCode"].split(":")
        return int(code), int(signal) or None


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def seconds(text: str) -> float:
    """`1-02:03:04`, `02:03:04` and `03:04.567`."""
    days, _, clock = text.rpartition("-")
    parts = [float(part) for part in clock.split(":")]
    return float(int(days or 0) * 86_400 + sum(part * 60**power for power, part in enumerate(reversed(parts))))


def runs(cluster: SlurmCluster) -> dict[Key, Run]:
    """Every run that ended, by `sacct`."""
    text = cluster.run("sacct", *WHOLE_DAY, "--parsable2", "--noheader", "--noconvert", "--format", _FIELDS)
    found: list[Run] = []
    for line in text.splitlines():
        row = dict(zip(_FIELDS.split(","), line.split("|"), strict=True))
        if "." in row["JobID"]:
            found[-1].steps.append(row)
        else:
            found.append(Run(row))
    return {run.key: run for run in found if run.row["End"] != "Unknown"}


def latest_runs(cluster: SlurmCluster) -> dict[tuple[str, int | None], dict[str, str]]:
    """The last run of each job (and array element) as the controller has it: `scontrol show job`, its values by name."""
    found: dict[tuple[str, int | None], dict[str, str]] = {}
    for text in re.split(r"(?m)^(?=JobId=)", cluster.run("scontrol", "--oneliner", "show", "job")):
        values = dict(re.findall(r"(?:^|\s)(\w+)=(\S*)", text))
        if "HetJobId" in values:
            found[f"{values['HetJobId']}+{values['HetJobOffset']}", None] = values
        elif "ArrayJobId" in values:
            found[values["ArrayJobId"], int(values["ArrayTaskId"])] = values
        elif values:
            found[values["JobId"], None] = values
    return found
