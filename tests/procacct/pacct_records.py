"""Accounting records for tests, written by the layout of `struct acct_v3` in linux/acct.h."""

from __future__ import annotations

import struct
from typing import Any

V3 = struct.Struct("<BBHIIIIIIfHHHHHHHH16s")
V3_BIG = struct.Struct(">BBHIIIIIIfHHHHHHHH16s")

FIELDS: dict[str, Any] = {
    "flags": 0,
    "version": 3,
    "tty": 0,
    "status": 0,
    "uid": 1000,
    "gid": 100,
    "pid": 4711,
    "parent": 1,
    "began": 1_795_187_667,
    "elapsed": 5.0,
    "user": 2,
    "system": 1,
    "memory": 591,
    "io": 0,
    "blocks": 0,
    "minor": 79,
    "major": 0,
    "swaps": 0,
    "name": b"true",
}


def v3(*, big: bool = False, **fields: Any) -> bytes:
    """One record of version 3, in either byte order; compressed numbers are given as they are written."""
    values = FIELDS | fields
    assert values.keys() == FIELDS.keys()
    values["version"] |= 0x80 if big else 0
    return (V3_BIG if big else V3).pack(*values.values())
