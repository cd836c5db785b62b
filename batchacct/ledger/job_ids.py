"""Job ids as people type them, and which jobs they name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_

from batchacct.errors import ConfigError
from batchacct.store.tables import job

LAST_INDEX = 2**63 - 1
"""What a database has room for."""
_NUMBERED = re.compile(r"(\d+)(?:\[(\d*)\]|-(\d+))?(?:\.\D.*)?")
_NAMED = re.compile(r"(.+?)(?:\[(\d+)\]|-(\d+))?")


@dataclass(frozen=True, slots=True)
class JobId:
    """A job id as a person types it: `1234`, `1234.server`, `1234.0` (HTCondor), and `1234[5]` or `1234-5` for an array element."""

    join_id: str
    array_index: int | None
    typed: str

    @classmethod
    def of(cls, text: str) -> JobId:
        """Raises: ConfigError for nothing but blanks."""
        match = _NUMBERED.fullmatch(text.strip()) or _NAMED.fullmatch(text.strip())
        if match is None:
            raise ConfigError("give a job id, such as 1234 or 1234[5]")
        index = match[2] or match[3]
        if index and int(index) > LAST_INDEX:  # a name like any other: no element has it
            return cls(text.strip(), None, text.strip())
        return cls(match[1], int(index) if index else None, text.strip())


def naming(job_id: JobId) -> tuple[ColumnElement[bool], ...]:
    """Which rows of `job` an id names, in order: by the id that joins, else as it is published, or as a part of that
    (`schedd#1234.0#time`)."""
    joins = job.c.join_id == job_id.join_id
    if job_id.array_index is not None:
        joins = and_(joins, job.c.array_index == job_id.array_index)
    return joins, job.c.lrms_job_id == job_id.typed, job.c.lrms_job_id.contains(f"#{job_id.typed}#", autoescape=True)
