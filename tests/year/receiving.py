"""The receiver of a year: it counts every message, keeps records as APEL does, and knows what each delivery changed."""

from __future__ import annotations

import hashlib
from collections import Counter

from tests.apel_reader import read_message
from tests.faults.receiver import Letterbox
from tests.year.runs import COLUMNS, Key, Row


class Receiver:
    """A record takes the place of one with the same site, job id and end."""

    def __init__(self, letterbox: Letterbox) -> None:
        self._letterbox = letterbox
        self.table: dict[Key, Row] = {}
        self._seen: dict[str, bytes] = {}

    def take(self, now: int) -> Counter[str]:
        """Takes what has arrived: how many messages, of which came before; how many records are new, correct one, or repeat it.

        Raises: Refused for a message that APEL would not take; AssertionError for one that came with other bytes before.
        """
        counts: Counter[str] = Counter()
        for name, body in self._letterbox.emptied():
            digest = hashlib.sha256(body).digest()
            counts["messages"] += 1
            if name in self._seen:
                assert self._seen[name] == digest, f"message {name} came twice, with other bytes"
                counts["messages again"] += 1
            self._seen[name] = digest
            for record in read_message(body, now=now):
                key = record["Site"], record["LocalJobId"], record["EndTime"]
                row = tuple(record.get(column) for column in COLUMNS)
                known = self.table.get(key)
                counts["new" if known is None else "repeated" if known == row else "corrected"] += 1
                self.table[key] = row
        return counts
