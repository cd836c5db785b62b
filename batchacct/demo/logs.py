"""From the farm's jobs and identities to the log files of LSF and BLAH, damage included."""

from __future__ import annotations

import gzip
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from batchacct.demo.lines import EXIT, BlahIdentity, LsfJob, blah_line, lsf_line, reservation_line

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence
    from pathlib import Path
    from random import Random

Timed = tuple[int, bytes]
"""When a line was written, and the line."""

UPGRADES = ((0.3, "7.06"), (0.55, "9.13"))
"""Share of the period at which the master stops writing this version; from then on it is 10.1."""
ROTATIONS = ((0.4, "lsb.acct.2.gz"), (0.7, "lsb.acct.1"))
"""Share of the period at which the log was rotated, and the name that part has at its end."""
DOUBLE_BLANK = (b'"" -1 "" "" 6160 "" ', b'"" -1 "" "" 6160  "" ')
INVERSION_SHARE = 0.02


def write_lsf(folder: Path, jobs: Sequence[tuple[str, LsfJob]], begin_at: int, end_at: int, counts: Counter[str]) -> list[Path]:
    """Write the records of `jobs`, (kind, job) each, as a log rotated twice, and count what else is in it."""
    span_s = end_at - begin_at
    lines: list[Timed] = []
    for kind, job in sorted(jobs, key=lambda pair: (pair[1].event_at, pair[1].job_id, pair[1].index)):
        line = lsf_line(replace(job, version=_version((job.event_at - begin_at) / span_s)))
        if kind == "double_blank":
            line = line.replace(*DOUBLE_BLANK, 1)
        lines.append((job.event_at, line))
    lines = _with_others(lines, begin_at, span_s, counts)
    paths = []
    first = 0
    for share, name in (*ROTATIONS, (1.1, "lsb.acct")):
        until = begin_at + int(share * span_s)
        content = b"".join(line for at, line in lines if first <= at < until)
        paths.append(folder / name)
        paths[-1].write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
        first = until
    counts["lsf_lines"] = sum(line.count(b"\n") for _, line in lines)
    return paths


def _version(share: float) -> str:
    return next((version for until, version in UPGRADES if share < until), "10.1")


def _with_others(lines: list[Timed], begin_at: int, span_s: int, counts: Counter[str]) -> list[Timed]:
    """The lines with those that are no good record of a job: other events, a comment, damage, a repetition, a range."""

    def at(share: float) -> int:
        return begin_at + int(share * span_s)

    killed = LsfJob("normal", "anna", 20_410, at(0.9), at(0.9) - 900, 0, 887_001, -1, status=EXIT, exit_info=14, saap="/x_FOO/anna")
    killed = replace(killed, job_name="test[1-1000]", index_ranges=((678, 1000, 1),))
    torn = LsfJob("normal", "hugo", 20_430, at(0.5), at(0.5) - 900, at(0.5) - 600, 887_002, cpu_us=(510_000_000, 2_000_000))
    torn = replace(torn, version="9.13", exec_hosts=("lxb0007.example.org",), command="./long_command --with many --arguments")
    torn_earlier, torn_later = lsf_line(torn), lsf_line(replace(torn, event_at=at(0.6), version="10.1"))
    others = [
        (at(0.9), lsf_line(killed)),
        (at(0.8), reservation_line(at(0.8), ("lxb0001.example.org", "lxb0002.example.org"))),
        (at(0.2), b"# farm drained for the upgrade, anna\n"),
        (at(0.5), torn_earlier[: torn_earlier.index(b" -1 0 0 ")] + b"\n"),
        (at(0.6), torn_later[: torn_later.index(b" --with")] + b"\n"),
    ]
    plain = next(index for index in range(len(lines) * 3 // 4, len(lines)) if lines[index][1].count(b"\n") == 1)
    others.append(lines[plain])
    counts.update(jobs=1, local=1, range_record=1, never_started=1, reservation=1, comment=1, damaged_lsf=2, duplicate_lsf=1)
    return sorted([*lines, *others], key=lambda timed: timed[0])


def write_blah(folder: Path, rng: Random, identities: Sequence[BlahIdentity], counts: Counter[str]) -> list[Path]:
    """Write the identity lines, a file a UTC day, with an invalid line, a repeated one and some out of order."""
    lines = [(one.recorded_at, blah_line(one)) for one in sorted(identities, key=lambda one: (one.recorded_at, one.job_id))]
    middle = len(lines) // 2
    at, line = lines[middle]
    lines[middle:middle] = [(at, line), (at, line.replace(b" ", b"A", 1).replace(b'"lrmsID=', b'"lrmsID', 1))]
    counts.update(identities=len(identities), duplicate_blah=1, damaged_blah=1)
    paths = []
    for day, of_day in groupby(lines, key=lambda timed: f"{datetime.fromtimestamp(timed[0], UTC):%Y%m%d}"):
        written = list(of_day)
        for index in range(1, len(written)):
            earlier, later = written[index - 1 : index + 1]
            if earlier[0] < later[0] and rng.random() < INVERSION_SHARE:
                written[index - 1 : index + 1] = [later, earlier]
        counts["inversions"] += sum(one[0] > other[0] for one, other in pairwise(written))
        paths.append(folder / f"blahp.log-{day}")
        paths[-1].write_bytes(b"".join(line for _, line in written))
    return paths
