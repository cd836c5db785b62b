"""What the completion logs of slurmctld have in common, jobcomp/filetxt and jobcomp/elasticsearch or kafka: a run that ended.

They are written when slurmctld lets a job go: at its end, when it is requeued, and, with the state RESIZING, when its size changes.
Flags are taken off a state before it is written, so that the one of a requeued run, REQUEUED upon PENDING, reads PENDING.
(SchedMD/slurm src/plugins/jobcomp/filetxt/jobcomp_filetxt.c, src/plugins/jobcomp/common/jobcomp_common.c)
"""

from __future__ import annotations

from dataclasses import dataclass

from batchacct.model import Record
from batchacct.parsing import Reject, Skip, Source
from loccol.slurm_values import JobId, NodeList, ended_state, exec_hosts, id_columns, memory_kib, record_key, tres

NOT_ENDED = Skip("job has not ended")
_UNKNOWN = frozenset({"", "unknown", "(null)"})
"""What filetxt says of a time, an account or a QOS that slurmctld does not know; of the times of a job it says `Unknown`."""


def known(text: str) -> str | None:
    return None if text in _UNKNOWN else text


def requested_kib(tracked: str, name: str) -> int | None:
    """`mem` of requested TRES, KiB; a Gres of before 20.11, `gpu:2`, has none.  Raises: Reject."""
    if "=" not in tracked:
        return None
    memory = tres(tracked, name).get("mem")
    return None if memory is None else memory_kib(str(memory), name, bare="M") or None


def state_of(word: str, name: str) -> str | None:
    """The state of `model.JOB_STATES`; None if the job has not ended.  Raises: Reject."""
    return "requeued" if word == "PENDING" else ended_state(word, name)


@dataclass(frozen=True, slots=True)
class Run:
    """A run that ended: ids, the state it ended in, its times in Unix seconds, and what it was given."""

    job: JobId
    raw: int
    state: str
    start_at: int | None
    end_at: int
    nodes: NodeList
    node_count: int
    cpus: int

    def columns(self, source: Source) -> Record:
        """Key, ids, times, state and allocation.  Raises: Reject.

        A run never started if it has no start, or ended as it started and had no nodes: cancelled while it waited.
        """
        has_started = self.start_at is not None and (self.start_at < self.end_at or self.nodes.count > 0)
        start_at = self.start_at if has_started else None
        record: Record = {
            "record_key": record_key(source.cluster, self.job, self.raw, start_at, self.end_at),
            **id_columns(self.job),
            "start_at": start_at,
            "end_at": self.end_at,
            "logged_at": self.end_at,
            "state": self.state if has_started else "never_started",
        }
        if start_at is None:
            return record
        if start_at > self.end_at:
            raise Reject("the job ended before it started")
        return record | {
            "wall_duration_s": self.end_at - start_at,
            "processors": self.cpus or None,
            "node_count": self.node_count or self.nodes.count or None,
            "exec_hosts": exec_hosts(self.nodes, self.cpus),
        }
