"""The other side: the jobs an APEL client has joined, from its database, or the messages that wait in its outgoing directory."""

from __future__ import annotations

import datetime as dt
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from batchacct.errors import SourceError
from batchacct.importing.foreign import Foreign
from batchacct.importing.layout_apel import ApelClient
from pub.formats.apel import APEL_02, FIELDS_02
from pub.shadow.record import LABELS, Record, as_kept

JOB_MESSAGE = "APEL-individual-job-message"
_IN_ORDER = ("hepscore23", "hepspec", "si2k")


@dataclass
class Theirs:
    """Records as they are asked for; `labels` are those that all of them have, `passed_over` what else there was, by kind."""

    records: Iterable[Record]
    labels: set[str] = field(default_factory=lambda: set(LABELS))
    passed_over: Counter[str] = field(default_factory=Counter)


def of_database(foreign: Foreign, since: int, until: int) -> Theirs:
    """The rows of JobRecords that ended from `since` to before `until`.  Raises: ConfigError, SourceError."""
    jobs = ApelClient(foreign).jobs()
    end = jobs.table["EndTime"]
    query = select(*jobs.labelled(*LABELS)).select_from(jobs.joined).where(end >= _naive(since), end < _naive(until))

    def rows() -> Iterator[Record]:
        with foreign.reading() as connection:
            for row in foreign.rows(connection, query):
                yield as_kept({label: _seconds(value) for label, value in row.items()})

    return Theirs(rows())


def _naive(at: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(at, dt.UTC).replace(tzinfo=None)


def _seconds(value: object) -> object:
    return int(value.replace(tzinfo=dt.UTC).timestamp()) if isinstance(value, dt.datetime) else value


def of_messages(folder: Path, since: int, until: int) -> Theirs:
    """The records in the messages of a folder that ended from `since` to before `until`; the files are only read.

    Raises: SourceError for a folder that cannot be read.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder} is no folder: name the outgoing directory of the client's SSM")
    theirs = Theirs(())
    records: list[Record] = []
    for path in sorted(_files(folder)):
        try:
            text = path.read_text(encoding="utf-8", errors="backslashreplace")
        except FileNotFoundError:
            continue  # sent meanwhile
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error.strerror}") from error
        header, _, body = text.lstrip().partition("\n")
        if not header.startswith(JOB_MESSAGE):
            theirs.passed_over[header.strip()[:60] or "empty"] += 1
            continue
        if header.strip() == APEL_02.header:
            theirs.labels &= {one.label for one in FIELDS_02} | {"VO", "VOGroup", "VORole"}
        records += (one for one in _parsed(path, body) if since <= int(one["EndTime"]) < until)
    theirs.records = records
    return theirs


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(place, name) for name in names if not name.endswith((".tmp", ".lck")))


def _parsed(path: Path, body: str) -> Iterator[Record]:
    """Raises: SourceError for a record without its key."""
    for block in body.split("%%"):
        lines = (line.partition(":") for line in block.splitlines() if line.strip())
        values = {label.strip(): value.strip() for label, _, value in lines}
        if not values:
            continue
        record = as_kept(_with_one_benchmark(values))
        if not record["EndTime"].isdigit():
            raise SourceError(f"{path}: a record has no EndTime, so that it is no message of an APEL client")
        yield record


def _with_one_benchmark(values: Mapping[str, str]) -> Mapping[str, str]:
    """Of a dictionary of benchmarks, as v0.4 has it, the one that a receiver takes."""
    told = values.get("ServiceLevel", "")
    if not told.startswith("{"):
        return values
    pairs = (pair.partition(":") for pair in told.strip("{}").split(","))
    figures = {name.strip().lower(): figure.strip() for name, _, figure in pairs}
    kind = next((name for name in _IN_ORDER if name in figures), None)
    return values if kind is None else {**values, "ServiceLevelType": kind, "ServiceLevel": figures[kind]}
