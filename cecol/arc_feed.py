"""Asks ARC's accounting database (`<controldir>/accounting/accounting.db`, SQLite) who came through it, for `cecol.arc_accounting`.

A row is made when a job is accepted and completed when it has finished, so that what is asked for are the jobs that finished since
the last time; an answer is a line of JSON a job. The database is opened for reading alone, and A-REX may write meanwhile.

    option   default  meaning
    overlap  1d       how much of the time before is asked for again: a row may be completed late
    window   7d       at most this much time in one answer

Sources: nordugrid/arc arex_accounting_db_schema_v1.sql, arex_accounting_db_schema_v2.sql (ARC 7), AccountingDBSQLite.cpp.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from pydantic import Field

from batchacct.clock import shown
from batchacct.config import Duration, Section, key
from batchacct.errors import ConfigError, SourceError
from batchacct.feeding import Answer, checked_options, cursor_seconds
from batchacct.parsing import Source
from batchacct.parsing.reading import Readable

BUSY_TIMEOUT_S = 60
ROWS_AT_ONCE = 1000

_ENDED = "AAR.EndTime >= ? AND AAR.EndTime < ? AND Status.Name <> 'in-progress'"
_TABLES = (
    " FROM AAR JOIN Status ON Status.ID = AAR.StatusID LEFT JOIN Endpoints ON Endpoints.ID = AAR.EndpointID"
    " LEFT JOIN Queues ON Queues.ID = AAR.QueueID LEFT JOIN Users ON Users.ID = AAR.UserID"
    " LEFT JOIN WLCGVOs ON WLCGVOs.ID = AAR.VOID"
)
_COLUMNS = {
    "RecordID": "AAR.RecordID",
    "JobID": "AAR.JobID",
    "LocalJobID": "AAR.LocalJobID",
    "Interface": "Endpoints.Interface",
    "URL": "Endpoints.URL",
    "Queue": "Queues.Name",
    "User": "Users.Name",
    "WLCGVO": "WLCGVOs.Name",
    "Status": "Status.Name",
    "SubmitTime": "AAR.SubmitTime",
    "EndTime": "AAR.EndTime",
}


class Options(Section):
    """`feed_options` of a source."""

    overlap: Duration = key("how much of the time before is asked for again", 86_400)
    window: Annotated[Duration, Field(ge=60)] = key("at most this much time in one answer", 7 * 86_400)


@dataclass(frozen=True, slots=True)
class ArcFeed:
    """The database at `path`."""

    path: Path
    options: Options

    def ask(self, cursor: str | None, now: int) -> Iterator[Answer]:
        """The jobs that finished since the cursor (Unix seconds, less the overlap), at most a window in one answer.

        Raises: SourceError if the database cannot be read.
        """
        with closing(_opened(self.path)) as database, _told(self.path):
            reached = None if cursor is None else min(cursor_seconds("arc-db", cursor), now)  # the clock may have been set back
            begin = self._earliest(database, now) if reached is None else max(reached - self.options.overlap, 0)
            while begin < now:
                end = min(begin + self.options.window, now)
                question = f"{self.path}: jobs that finished {shown(begin)} to {shown(end)}"
                yield Answer(question, self._answer(database, begin, end), str(end))
                begin = end

    def _earliest(self, database: sqlite3.Connection, now: int) -> int:
        (first,) = database.execute("SELECT min(EndTime) FROM AAR WHERE typeof(EndTime) = 'integer' AND EndTime > 0").fetchone()
        return now if first is None else int(first)

    @contextmanager
    def _answer(self, database: sqlite3.Connection, begin: int, end: int) -> Iterator[Readable]:
        with _told(self.path):
            yield _Lines(_lines(database, begin, end))


class _Lines:
    """Lines of an iterator as a stream of bytes."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines

    def read(self, size: int = -1, /) -> bytes:
        """Some whole lines: about `size` bytes, or a bit more."""
        pieces = []
        length = 0
        for line in self._lines:
            pieces.append(line)
            length += len(line)
            if 0 <= size <= length:
                break
        return b"".join(pieces)


def _lines(database: sqlite3.Connection, begin: int, end: int) -> Iterator[bytes]:
    columns, tables = dict(_COLUMNS), _TABLES
    if "FQANID" in {row[1] for row in database.execute("PRAGMA table_info(AAR)")}:
        columns["FQAN"] = "FQANs.Name"
        tables += " LEFT JOIN FQANs ON FQANs.ID = AAR.FQANID"
    query = f"SELECT {', '.join(columns.values())}{tables} WHERE {_ENDED} ORDER BY AAR.EndTime, AAR.RecordID"
    rows = database.execute(query, (begin, end))
    while some := rows.fetchmany(ROWS_AT_ONCE):
        for row in some:
            values = dict(zip(columns, row, strict=True))
            number = values.pop("RecordID")
            told = {
                "AAR": values,
                "AuthTokenAttributes": _pairs(database, "AuthTokenAttributes", "AttrKey, AttrValue", number),
                "JobExtraInfo": dict(_pairs(database, "JobExtraInfo", "InfoKey, InfoValue", number)),
            }
            yield json.dumps(told, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace") + b"\n"


def _pairs(database: sqlite3.Connection, table: str, columns: str, number: object) -> list[tuple[object, object]]:
    """What a table says of one record, in the order in which it was written (that of FQANs matters)."""
    query = f"SELECT {columns} FROM {table} WHERE RecordID = ? ORDER BY rowid"  # noqa: S608 - names of our own
    return database.execute(query, (number,)).fetchall()


def _opened(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise SourceError(f"{path} does not exist: give the accounting.db below ARC's control directory in the source's `paths`")
    with _told(path):
        database = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
        database.text_factory = lambda text: text.decode("utf-8", "backslashreplace")
        return database


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise SourceError(
            f"{path} cannot be read as ARC's accounting database: {error}. It must be readable, with its folder, by this user"
        ) from error


def make_feed(source: Source, paths: Sequence[str], options: Mapping[str, str]) -> ArcFeed:
    """The feed `arc-db`: `paths` is the one database.  Raises: ConfigError."""
    if len(paths) != 1:
        raise ConfigError(f"source {source.name}: the feed arc-db asks one database: give its file, one, in paths")
    return ArcFeed(Path(paths[0]), checked_options(Options, source, options))
