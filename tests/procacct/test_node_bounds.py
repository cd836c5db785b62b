"""A process's own word beyond what a database keeps is left out and counted; the row, which the kernel vouches for, stays."""

from __future__ import annotations

import json

import pytest

from batchacct.model import PROCESS
from batchacct.parsing import Block, Source
from batchacct.store.columns import longest_of
from batchacct.store.keys import with_strange_rejected
from procacct.node import bounds
from procacct.node.batch_jobs import of_environment
from procacct.node.processes import CONNECTOR, SENSOR, Belonging, Ended, Process
from procacct.node.rows import Rows
from procacct.node.told import END, START, Told
from procacct.records import PROCESSES

S = 1_000_000_000
AT = 1_790_000_000 * S
LIMITED = {"postgresql", "mariadb", "mysql", "sqlite", "oracle"}


def test_the_bounds_are_those_of_the_model_and_the_databases() -> None:
    columns = {column.name: column for column in PROCESS.columns}
    for name, most in bounds.GREATEST.items():
        assert columns[name].greatest == (None if name == "array_index" else most), name
    for name, longest in bounds.LONGEST.items():
        assert longest == min(found for one in LIMITED if (found := longest_of("process", name, one)) is not None), name


@pytest.mark.parametrize(
    ("columns", "variables", "rusage", "is_gone"),
    [
        ({}, {"PMI_RANK": "999999999999999999"}, None, "mpi_rank"),
        ({}, {"PMI_SIZE": "100000001"}, None, "mpi_size"),
        ({"signature": "s" * 101}, {}, None, "signature"),
        ({"modules": ["m" * 1000] * 5}, {}, None, "modules"),
        ({"program": "/" + "ü" * 2100}, {}, None, "program"),
        ({}, {"PBS_JOBID": "1." + "x" * 1000}, None, "lrms_job_id"),
        ({}, {}, (0, 0, 2**64 - 1, 0, 0, 0, 0, 0, 0), "memory_real_kib"),
        ({}, {}, (0, 0, 0, 2**63, 0, 0, 0, 0, 0), "minor_faults"),
        ({}, {}, (0, 0, 0, 0, 0, 2**63, 0, 0, 0), "read_bytes"),
    ],
)
def test_a_field_that_cannot_be_kept_does_not_lose_the_row(
    columns: dict[str, object], variables: dict[str, str], rusage: tuple[int, ...] | None, is_gone: str
) -> None:
    process = Process(7, 1, 10 * S, AT, CONNECTOR)
    process.execute(10 * S, AT)
    process.seen |= SENSOR
    process.told = Told(START, 7, 0, 0, 10 * S, 10 * S, columns=dict(columns), variables=variables)
    process.told_end = Told(END, 7, 0, 0, 10 * S, 12 * S, rusage=rusage)
    process.belonging = Belonging(None)
    process.belonging.settle(None, of_environment(variables))
    rows = Rows("n", "boot", lambda _: None)
    row = rows.process(process, Ended("exit", AT + 2 * S, AT + 2 * S, 0), 12 * S)
    line = json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    for parsed in PROCESSES.parse([Block(line, 0)], Source("spool", "SITE", "cluster1")):
        for database in LIMITED:
            kept = with_strange_rejected(PROCESS, parsed, database)
            assert (kept.records.num_rows, kept.rejects) == (1, ())
    assert is_gone not in row
    assert (rows.left_out, row["pid"]) == (1, 7)
