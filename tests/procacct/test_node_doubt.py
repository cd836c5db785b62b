"""What was read of /proc about a program that soon executes another."""

from __future__ import annotations

import os

import pytest

from procacct.node.proc_files import facts_of
from procacct.node.processes import CONNECTOR, PROC, Process

MS = 1_000_000


@pytest.mark.parametrize(("read_before_ms", "is_kept"), [(-5, False), (0, False), (10, False), (100, True)])
def test_what_was_read_while_another_program_was_executed_is_not_believed(read_before_ms: int, is_kept: bool) -> None:
    """/proc shows the new program from within execve on, and the execution is told at its end: on a busy host much later."""

    facts = facts_of(os.getpid(), (0, 1 << 62), "none")
    assert facts is not None
    process = Process(os.getpid(), 1, 0, 0, CONNECTOR)
    process.execute(1000 * MS, 1000 * MS)
    process.learn(facts, 2000 * MS - read_before_ms * MS)
    assert process.program is not None
    process.doubt(2000 * MS)
    assert (process.program is not None) == is_kept
    assert bool(process.seen & PROC) == is_kept
