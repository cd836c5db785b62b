"""Logs of every format to measure parsers with, of the same invented jobs (`benchmarks.logs.jobs`); a seed gives the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.farm import Logs
from benchmarks.logs import batch, grid, htcondor, slurm
from benchmarks.logs.jobs import Job, jobs

LINES, JOBS = "lines", "jobs"


@dataclass(frozen=True, slots=True)
class Format:
    """How jobs are written for a parser.

    piece(job): what the log holds of one job, which may be several lines, or nothing.
    unit: what is counted; a format of lines is counted by them, as APEL's parsers are.
    share: of the units asked for so many are enough where a unit is long.
    apel: APEL's parser for the same lines.
    """

    parser: str
    piece: Callable[[Job], bytes]
    unit: str = LINES
    share: float = 1.0
    apel: str | None = None
    head: bytes = b""
    between: bytes = b""
    tail: bytes = b""

    def pieces(self, of: Iterable[Job], units: int) -> Iterable[tuple[bytes, int]]:
        """Bytes, and how many units they are, up to so many; `head` and `tail` are none."""
        written = 0
        for job in of:
            piece = self.piece(job)
            if piece:
                count = piece.count(b"\n") if self.unit == LINES else 1
                yield (self.between if written else self.head) + piece, count
                written += count
            if written >= units:
                break
        yield self.tail, 0


FORMATS = {
    "slurm": Format("slurm", slurm.sacct),
    "slurm-apel-list": Format("slurm", slurm.sacct_apel, apel="slurm"),
    "slurm-json": Format("slurm-json", slurm.sacct_json, JOBS, 0.05, None, slurm.JSON_HEAD, b",\n", slurm.JSON_TAIL),
    "slurm-jobcomp": Format("slurm-jobcomp", slurm.jobcomp),
    "slurm-jobcomp-json": Format("slurm-jobcomp-json", slurm.jobcomp_json, share=0.25),
    "pbs": Format("pbs", batch.pbs, apel="pbs"),
    "pbs-ends": Format("pbs", batch.pbs_ended, apel="pbs"),
    "sge": Format("sge", batch.sge, apel="sge"),
    "sge-json": Format("sge-json", batch.sge_json, share=0.25),
    "htcondor": Format("htcondor", htcondor.ad, JOBS, 0.1),
    "htcondor-json": Format("htcondor-json", htcondor.ad_json, JOBS, 0.1, None, b"[\n", b",\n", b"\n]\n"),
    "htcondor-apel": Format("htcondor-apel", batch.htcondor_apel, apel="htcondor"),
    "htcondor-ce": Format("htcondor-ce", htcondor.ad, JOBS, 0.1),
    "htcondor-ce-json": Format("htcondor-ce-json", htcondor.ad_json, JOBS, 0.1, None, b"[\n", b",\n", b"\n]\n"),
    "htcondor-ce-audit": Format("htcondor-ce-audit", htcondor.audit, share=0.5),
    "gram": Format("gram", grid.gram),
    "gram-audit": Format("gram-audit", grid.gram_audit, share=0.25),
    "voms-accounting": Format("voms-accounting", grid.voms_accounting, share=0.25),
    "lcmaps": Format("lcmaps", grid.lcmaps, share=0.5),
    "arc-joblog": Format("arc-joblog", grid.arc_joblog, share=0.25),
    "arc-db": Format("arc-db", grid.arc_db, share=0.25),
}
"""By what the table calls them: `slurm-apel-list` is the list of APEL's script, `pbs-ends` E lines alone."""

LARGE = {"lsf": "lsf", "blah": "blah"}
"""Logs of `benchmarks.large_logs`, and APEL's parsers for them."""

_OF_NODES = "`--only processes` measures the rows of a node: procs, of which the others are a small part"
_HISTORY = "what a site recorded before, read once"
_IMPORTED = "rows of the database of another program, which `batchacct import` reads once"
NOT_MEASURED = {
    "htcondor-perjob": "one ad a file; the ads are those of htcondor",
    **dict.fromkeys(("procs", "procs-groups", "procs-objects"), _OF_NODES),
    **dict.fromkeys(("app-accounting", "ogrt", "xalt"), _HISTORY),
    **dict.fromkeys(("loc-2012", "ce-2012", "apel-jobs", "apel-identities"), _IMPORTED),
    "pacct": "binary records; no log of lines to compare with",
}


@dataclass(frozen=True, slots=True)
class Log:
    """A log as it is measured."""

    name: str
    parser: str
    path: Path
    unit: str
    units: int
    apel: str | None

    @property
    def size(self) -> int:
        return self.path.stat().st_size


def made(name: str, workdir: Path, units: int, seed: int) -> Log:
    """The log of that name, with about so many units: written at the first call, found again by later ones."""
    if name in LARGE:
        logs = Logs.made(workdir, units, seed)
        path = logs.acct if name == "lsf" else logs.blah
        return Log(name, name, path, LINES, _lines_of(path), LARGE[name])
    form = FORMATS[name]
    wanted = max(1, int(units * form.share))
    folder = workdir / f"parsers-{units}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    path, count = folder / name, folder / f"{name}.units"
    if not count.exists():
        written = 0
        with path.open("wb") as log:
            for piece, units_of_it in form.pieces(jobs(seed), wanted):
                log.write(piece)
                written += units_of_it
        count.write_text(str(written), encoding="ascii")
    return Log(name, form.parser, path, form.unit, int(count.read_text(encoding="ascii")), form.apel)


def _lines_of(path: Path) -> int:
    with path.open("rb") as raw:
        return sum(piece.count(b"\n") for piece in iter(lambda: raw.read(1 << 22), b""))
