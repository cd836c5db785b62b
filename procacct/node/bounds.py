"""What a database can keep of a row: a field beyond that would make a reject of the whole row, which the kernel vouches for.

The bounds are those of `batchacct.model` and `batchacct.store.columns`, of the database with the shortest, written down here
since those modules would cost the daemon their memory; a test holds them equal.
"""

from __future__ import annotations

import json
from typing import Any

GREATEST = {
    "mpi_rank": 100_000_000,
    "mpi_size": 100_000_000,
    "processes": 2**53,
    "memory_real_kib": 2**53,
    "memory_virtual_kib": 2**53,
    "minor_faults": 2**62,
    "major_faults": 2**62,
    "read_bytes": 2**62,
    "written_bytes": 2**62,
    "cpu_user_s": 10**11,
    "cpu_system_s": 10**11,
    "array_index": 2**63 - 1,
}
LONGEST = {
    "lrms_job_id": 750,
    "join_id": 750,
    "user_name": 400,
    "signature": 100,
    "object_set": 100,
    "step_id": 4000,
    "program": 4000,
    "terminal": 4000,
    "build_id": 4000,
    "modules": 4000,
}
"""Bytes of a text, or of the JSON text of a list."""


def fit(row: dict[str, Any]) -> int:
    """Takes out of a row what cannot be kept; how many fields these were."""
    beyond = [name for name, most in GREATEST.items() if name in row and not 0 <= row[name] <= most]
    beyond += [name for name, longest in LONGEST.items() if name in row and _bytes(row[name]) > longest]
    for name in beyond:
        del row[name]
    return len(beyond)


def _bytes(value: object) -> int:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return len(text.encode("utf-8", "backslashreplace"))
