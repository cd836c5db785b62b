"""What both lanes derive from one field of an `lsb.acct` record, each from its bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from batchacct.model import Record, join_lists, text_of

SLURM_HOST = "lsfhost.localdomain"
"""Under LSF-SLURM every execution host has this name; the allocation is in additionalInfo (sample `epcc-safe-7.03.acct`)."""

TEXT_FIELDS = (
    ("user_name", "userName"),
    ("project", "projectName"),
    ("queue", "queue"),
    ("submit_host", "fromHost"),
    ("job_name", "jobName"),
    ("command", "command"),
)
"""Columns that are one string field as it stands, null where it is empty."""

FINISHED = 0x40
TIMEOUT = frozenset({5, 6, 12})
OUT_OF_MEMORY = frozenset({16, 20})
CANCELLED = frozenset({8, 9, 14, 15, 23})
"""jStatus bit DONE; exitInfo RUNLIMIT DEADLINE CPULIMIT; MEMLIMIT SWAP; FORCE_OWNER FORCE_ADMIN OWNER ADMIN BUCKET_KILL."""

_SEVERAL_SLOTS = re.compile(rb"([0-9]{1,9})\*(.+)", re.DOTALL)
_GPUS = re.compile(rb"ngpus_physical=([0-9]{1,9}(?:\.[0-9]{1,9})?)")
_SLURM_ALLOCATION = re.compile(rb"slurm_alloc=([^;]*)")
_SLURM_NODES = re.compile(rb"[^,\[\]]+(?:\[([0-9,-]+)\])?(?:,|$)")


@dataclass(frozen=True, slots=True)
class ExecHosts:
    """An allocation: JSON text of the column, slots, distinct hosts, and whether the hosts are LSF-SLURM's stand-in."""

    text: str
    slots: int
    nodes: int
    is_slurm: bool


def exec_hosts(hosts: Sequence[bytes]) -> ExecHosts:
    """Slots by host, in order of first use; an entry is a name (one slot) or, with SHORT_EVENTFILE, `n*name`."""
    slots: dict[str, int] = {}
    for host in hosts:
        match = _SEVERAL_SLOTS.fullmatch(host) if b"*" in host else None
        count, raw = (int(match[1]), match[2]) if match else (1, host)
        name = text_of(raw)
        slots[name] = slots.get(name, 0) + count
    text = join_lists((count, name) for name, count in slots.items())
    return ExecHosts(text, sum(slots.values()), len(slots), SLURM_HOST in slots)


def slurm_nodes(additional_info: bytes) -> int | None:
    """Nodes of `slurm_alloc=hapu[1-15]` (15), `a1,b[2-4,7]` (5); None where it is not stated so."""
    allocation = _SLURM_ALLOCATION.search(additional_info)
    if allocation is None or not allocation[1]:
        return None
    nodes = position = 0
    while position < len(allocation[1]):
        match = _SLURM_NODES.match(allocation[1], position)
        if match is None:
            return None
        for span in (match[1] or b"0").split(b","):
            first, _, last = span.partition(b"-")
            if not first.isdigit() or len(span) > 18 or (last and not last.isdigit()):
                return None
            nodes += int(last or first) - int(first) + 1
        position = match.end()
    return nodes if nodes > 0 else None


def gpus_a_host(effective_request: bytes) -> int | None:
    """`rusage[ngpus_physical=2.00]` is 2; None if none are asked for, a fraction is, or parts of the request differ."""
    asked = {Decimal(number.decode()) for number in _GPUS.findall(effective_request)}
    if len(asked) != 1:
        return None
    number = asked.pop()
    return int(number) if number > 0 and number == int(number) else None


def group_of(charged_account: bytes) -> str | None:
    """First element of the share account charged: `/group/sub/user` is `group`; None where there is none."""
    return text_of(charged_account.removeprefix(b"/").partition(b"/")[0]) or None


def exit_columns(status: int) -> Record:
    """Code and signal of a wait status; neither if the number is none."""
    if not 0 <= status <= 0xFFFF:
        return {}
    return {"exit_code": status >> 8, "exit_signal": (status & 0x7F) or None}


def state_of(j_status: int, exit_info: int, *, started: bool) -> str:
    """How the job ended: startTime, then jStatus, then exitInfo (the reason LSF gives since 6.0); never exitStatus alone."""
    if not started:
        return "never_started"
    if j_status & FINISHED:
        return "completed"
    if exit_info in TIMEOUT:
        return "timeout"
    if exit_info in OUT_OF_MEMORY:
        return "out_of_memory"
    return "cancelled" if exit_info in CANCELLED else "failed"
