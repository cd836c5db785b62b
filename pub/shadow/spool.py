"""Our records of a period on the disk, by the receiver's key: there may be millions of them, and each is asked for once."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pub.shadow.record import Record, key_of


class Spool:
    """Records that can be taken out."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE ours (number INTEGER PRIMARY KEY, key TEXT, ran TEXT, record TEXT)")
        self._database.execute("CREATE INDEX by_key ON ours (key)")
        self._database.execute("CREATE INDEX by_run ON ours (ran)")

    def add(self, records: Iterable[Record]) -> None:
        rows = [(key_of(one), _run(one), json.dumps(one)) for one in records]
        self._database.execute("BEGIN")
        self._database.executemany("INSERT INTO ours (key, ran, record) VALUES (?, ?, ?)", rows)
        self._database.execute("COMMIT")

    def take(self, theirs: Record) -> Record | None:
        """Ours under the key of theirs, that of the same machine first; it is gone then."""
        rows = self._database.execute("SELECT number, record FROM ours WHERE key = ? ORDER BY number", (key_of(theirs),)).fetchall()
        if not rows:
            return None
        found = [(number, json.loads(record)) for number, record in rows]
        number, ours = next((one for one in found if one[1]["MachineName"] == theirs["MachineName"]), found[0])
        self._database.execute("DELETE FROM ours WHERE number = ?", (number,))
        return dict(ours)

    def like(self, theirs: Record) -> Record | None:
        """One of ours that started and ended when theirs did, for the same account: it may be the same job under another key."""
        row = self._database.execute("SELECT record FROM ours WHERE ran = ? LIMIT 1", (_run(theirs),)).fetchone()
        return None if row is None else dict(json.loads(row[0]))

    def left(self) -> Iterator[Record]:
        """Those that were not taken, in the order in which they came."""
        for (record,) in self._database.execute("SELECT record FROM ours ORDER BY number"):
            yield dict(json.loads(record))

    def close(self) -> None:
        self._database.close()


def _run(record: Record) -> str:
    return "\n".join(record[label] for label in ("StartTime", "EndTime", "LocalUserId"))


@contextmanager
def spool() -> Iterator[Spool]:
    """An empty one, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="batchacct-shadow-") as folder:
        made = Spool(Path(folder, "ours.db"))
        try:
            yield made
        finally:
            made.close()
