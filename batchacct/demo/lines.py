"""The two kinds of line the demo farm writes: one JOB_FINISH record of LSF, one accounting line of BLAH.

    "JOB_FINISH" "7.06" 1331208000 4711 30017 33554450 1 1331204380 0 0 1331204400 "atlas017" "grid_atlas" "" "" ...
    "timestamp=2012-03-08 10:59:41" "userDN=/DC=ch/CN=Ada" "userFQAN=/atlas/Role=pilot" "ceID=..." "jobID=..." ...

The order of the fields is that of `loccol.lsf_layout` and `cecol.blah`. Instants are Unix seconds; text may hold lone surrogates,
which stand for bytes that are no UTF-8 ("surrogateescape").
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

DONE, EXIT = 64, 32
_ARRAY, _POST_EXEC_FREE = 0x40000, 33554434
_NO_USAGE = " ".join(["-1.000000"] * 2 + ["-1"] * 17)


@dataclass(frozen=True, slots=True)
class LsfJob:
    """One JOB_FINISH record; `cpu_us` is (user, system) in microseconds, None where LSF knows no usage."""

    queue: str
    user_name: str
    user_id: int
    event_at: int
    submit_at: int
    start_at: int
    job_id: int = 0
    index: int = 0
    version: str = "10.1"
    status: int = DONE
    cpu_us: tuple[int, int] | None = None
    exec_hosts: tuple[str, ...] = ()
    asked_hosts: tuple[str, ...] = ()
    processors: int = 1
    res_req: str = ""
    submit_host: str = "lxplus01.example.org"
    cwd: str = ""
    job_name: str = ""
    command: str = "./run.sh"
    exit_status: int = 0
    exit_info: int = 0
    memory_kib: int = 0
    swap_kib: int = 0
    host_factor: float = 1.0
    saap: str = ""
    index_ranges: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class BlahIdentity:
    """One line of BLAH: who asked for the batch job `job_id`; `fqans` as in the proxy, the first is primary."""

    recorded_at: int
    dn: str
    fqans: tuple[str, ...]
    ce_id: str
    grid_job: int
    job_id: int
    user_id: int


def lsf_line(job: LsfJob) -> bytes:
    """The record of `job` in the layout of its version ("7.06", "9.13" or "10.1"), newline included."""
    fields = [*_head(job), _usage(job), *_middle(job), *_tail_706(job)]
    if job.version != "7.06":
        fields += _tail_913(job)
    if job.version == "10.1":
        fields += ["-1", str(len(job.index_ranges))]
        fields += [str(number) for one in job.index_ranges for number in one]
        fields += ["0", "0"]
    return (" ".join(fields) + "\n").encode("utf-8", "surrogateescape")


def blah_line(identity: BlahIdentity) -> bytes:
    """The line of `identity`, newline included; BLAH escapes nothing."""
    at = datetime.fromtimestamp(identity.recorded_at, UTC)
    pairs = [
        f"timestamp={at:%Y-%m-%d %H:%M:%S}",
        f"userDN={identity.dn}",
        *(f"userFQAN={fqan}" for fqan in identity.fqans),
        f"ceID={identity.ce_id}",
        f"jobID=CREAM{identity.grid_job:09d}",
        f"lrmsID={identity.job_id}",
        f"localUser={identity.user_id}",
        f"clientID=cream_{identity.grid_job:09d}",
    ]
    return (" ".join(f'"{pair}"' for pair in pairs) + "\n").encode()


def reservation_line(event_at: int, hosts: tuple[str, ...]) -> bytes:
    """An EVENT_ADRSV_FINISH record: an advance reservation of `hosts` for the two hours before `event_at` ended."""
    start_at = event_at - 7200
    head = f'"EVENT_ADRSV_FINISH" "10.1" {event_at} {start_at - 3600} 1 1500 "opsadm#3" "opsadm" "{start_at}-{event_at}"'
    slots = " ".join(f'"{host}" 8' for host in hosts)
    return f'{head} "opsadm" 7200 {len(hosts)} {slots}\n'.encode()


def _text(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


def _listed(values: Iterable[str]) -> list[str]:
    quoted = [_text(value) for value in values]
    return [str(len(quoted)), *quoted]


def _seconds(microseconds: int) -> str:
    return f"{microseconds // 1_000_000}.{microseconds % 1_000_000:06d}"


def _head(job: LsfJob) -> list[str]:
    options = _POST_EXEC_FREE | (_ARRAY if job.index else 0)
    numbers = (job.event_at, job.job_id, job.user_id, options, job.processors, job.submit_at, 0, 0, job.start_at)
    folder = f"{job.job_id % 200}/" if job.version != "7.06" else ""
    texts = (job.user_name, job.queue, job.res_req, "", "", job.submit_host, job.cwd, "", "/dev/null", "")
    return [
        '"JOB_FINISH"',
        _text(job.version),
        *map(str, numbers),
        *map(_text, (*texts, f"{folder}{job.submit_at}.{job.job_id}")),
        *_listed(job.asked_hosts),
        *_listed(job.exec_hosts),
        str(job.status),
        f"{job.host_factor:3.1f}",
        _text(job.job_name),
        _text(job.command),
    ]


def _usage(job: LsfJob) -> str:
    if job.cpu_us is None:
        return _NO_USAGE
    user, system = map(_seconds, job.cpu_us)
    faults, switches = job.memory_kib // 4, job.cpu_us[0] // 250_000
    return f"{user} {system} {job.memory_kib} 0 -1 0 0 {faults} 0 0 {faults // 3} 0 -1 0 0 0 {switches} {switches // 9} -1"


def _middle(job: LsfJob) -> list[str]:
    """mailUser to chargedSAAP."""
    memory = f'"default" {job.exit_status} {job.processors} "" "" {job.index} {job.memory_kib} {job.swap_kib}'
    return ['""', memory, f'"" "" "" "" 0 "" {job.exit_info} "" -1', _text(job.saap)]


def _tail_706(job: LsfJob) -> list[str]:
    """licenseProject to submitExt, which 10.1 fills with two pairs."""
    extension = '2 1032 "0" 1033 "0"' if job.version == "10.1" else "0"
    return [f'"" "default" "" -1 "" "" 6160 "" {job.start_at} "" ""', extension]


def _tail_913(job: LsfJob) -> list[str]:
    """numHostRusage to allocSlots."""
    run_time = job.event_at - job.start_at if job.start_at else 0
    limits = f'0 -1 64 {job.memory_kib * 3 // 4} "select[ type == any] order[r15s:pg] "'
    forwarding = '"" -1 "" -1 0 "" 0 0 ""'
    return [
        limits,
        forwarding,
        str(run_time),
        _text(job.cwd),
        '0 "" 0.000000 0.00 0.00 0.00 0.00',
        *_listed(job.exec_hosts),
    ]
