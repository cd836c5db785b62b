"""Where one job of sacct's output ends and the next begins: the row of a job and the rows of its steps are one unit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from batchacct.parsing import LINES, Reject
from loccol.slurm_sacct_layout import Layout, SacctRow, header_of, read_row
from loccol.slurm_sacct_rows import step_use

_STEP_ID = re.compile(
    rb"(?<![0-9A-Za-z_.+:/-])[0-9]++(?:_[0-9]++)?(?:\+[0-9]++)?\.(?:batch|extern|interactive|TBD|[0-9]++)(?![0-9A-Za-z_.-])"
)
"""What looks like the id of a step, whatever field it is in."""


@dataclass(frozen=True)
class GroupFraming:
    """Groups of rows, by the header in force before them if there is one.

    `cut` ends before the last group, since more of its steps may follow, unless that group is all there is: what has been read is
    handed on, and steps that come later find their job by the rule for parts. A header line is a unit; so is a row that cannot be
    read, and a step's row that does not belong to the job before it.
    """

    header: Layout | None = None

    def cut(self, data: bytes, *, final: bool) -> int:
        """Does not ask which field is the id, and needs no header: a row without anything like a step's id begins a group."""
        if final:
            return len(data)
        end = whole = data.rfind(b"\n") + 1
        while end > 0:
            start = data.rfind(b"\n", 0, end - 1) + 1
            if start > 0 and data[start:end].strip() and not _STEP_ID.search(data, start, end):
                return start
            end = start
        return whole

    def spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        header = self.header
        job: SacctRow | None = None
        group: tuple[int, int] | None = None
        for start, end in LINES.spans(data):
            line = data[start:end]
            if job and group and _continues(line, header, job):
                group = group[0], end
                continue
            if group:
                yield group
            group, job = (start, end), None
            if found := header_of(line):
                header = found
            else:
                job = _job_row(line, header)
        if group:
            yield group


def _continues(line: bytes, header: Layout | None, job: SacctRow) -> bool:
    """Whether this is a step of that job, and one that can be read."""
    try:
        row = read_row(line, header)
        if not row.is_step or not row.is_of(job):
            return False
        step_use(row)
    except Reject:
        return False
    return True


def _job_row(line: bytes, header: Layout | None) -> SacctRow | None:
    try:
        row = read_row(line, header)
    except Reject:
        return None
    return None if row.is_step else row
