"""The spellings of a batch job's id that computing elements and the APEL client have, and the id itself in them.

Both expressions are read by Python's engine and by Arrow's (RE2).
"""

from __future__ import annotations

import re

OPAQUE = r"#|^[0-9]+(?:\.[0-9]+)?_.*[A-Za-z]"
"""Ids of HTCondor, which are taken whole: `schedd#1234.0#1561371138`, `1234.0_schedd`."""

NUMBER = r"^(?P<number>[0-9]{1,18})(?:\[(?P<index>[0-9]{0,9})\]|_(?P<task>[0-9]{1,9}))?(?:[.@].*)?$"
"""`1234`, `1234.server`, `1234[7].server`, `1234_7`, `1234@cluster`."""


def join_id_of(raw: str) -> str:
    """The id by which jobs and identities are joined: without server, cluster and index; what is no such id as it is."""
    if re.search(OPAQUE, raw):
        return raw
    numbered = re.match(NUMBER, raw)
    return numbered["number"] if numbered else raw
