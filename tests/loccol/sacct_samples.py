"""Samples of sacct's output, with the header lines that those without one had (from their programs' field lists)."""

from __future__ import annotations

from pathlib import Path

SAMPLES = Path(__file__).parent.parent / "samples" / "slurm"

_REPORTSEFF = "AdminComment AllocCPUS Elapsed JobID JobIDRaw MaxRSS NNodes ReqMem State Timelimit TotalCPU"
_SONAR = (
    "JobID JobIDRaw User Account State Start End AveCPU AveDiskRead AveDiskWrite AveRSS AveVMSize ElapsedRaw ExitCode Layout"
    " MaxRSS MaxVMSize MinCPU ReqCPUS ReqMem ReqNodes Reservation Submit Suspended SystemCPU TimelimitRaw UserCPU NodeList"
    " Partition AllocTRES Priority JobName"
)
_CEEMS = (
    "JobIDRaw Partition QOS Account Group GID User UID Submit Start End Elapsed ElapsedRaw ExitCode State AllocTRES NodeList"
    " JobName WorkDir"
)
_SLURM_MAIL = (
    "JobID User Group Partition Start End State ReqMem MaxRSS NCPUS TotalCPU NNodes WorkDir Elapsed ExitCode Comment Cluster"
    " NodeList Timelimit TimelimitRaw JobIDRaw JobName"
)
HEADERS = {
    "bart-tests": "JobID User Partition Submit Start End Account Elapsed UserCPU AllocCPUS NodeList",
    "ceems-tests": _CEEMS,
    "gc3pie-tests": "JobID ExitCode State NCPUS Elapsed TotalCPU Submit Start End MaxRSS MaxVMSize ",
    "issue-auditor-1976": "NCPUS JobID Start End Group User State",
    "issue-reportseff-25": _REPORTSEFF,
    "reportseff-tests": _REPORTSEFF,
    "issue-slurm-mail": _SLURM_MAIL,
    "sonar-tests": _SONAR,
}


def sample(name: str) -> bytes:
    """A sample's bytes, behind the header line it was printed without (a trailing blank here is `-p`'s trailing delimiter)."""
    data = (SAMPLES / f"{name}.sacct").read_bytes()
    return HEADERS[name].replace(" ", "|").encode() + b"\n" + data if name in HEADERS else data


NAMES = sorted(path.stem for path in SAMPLES.glob("*.sacct"))
