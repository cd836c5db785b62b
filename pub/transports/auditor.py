"""Records for AUDITOR by its REST API: `POST /records`, for the format `auditor`.

AUDITOR adds the records of a request all or not at all, and replaces nothing: a single one that it has already makes it answer
500 `RECORD_EXISTS`, or, with its setting `ignore_record_exists_error`, 200 with a warning, and in both cases none is stored. That
is what a message meets that is sent again after a doubt. Its records are then sent one by one (`POST /record`), and each that is
there already is asked for (`GET /record/<id>`) and compared: only if all of them are there with the same values the message has
arrived. With other values (a job that was published and then corrected) the message is refused, and the reason names the record.

So our certificate must have, where AUDITOR enforces rights, `POST` of `/records` and `/record`, and `GET` of `/record/*`.

Never run against a real AUDITOR: tested with a receiver written from its source (ALU-Schumacher/AUDITOR: `routes/add.rs`,
`routes/record_handlers.rs`, `routes/advanced_record_filters.rs`, `middleware.rs`; a request has 2 MiB at most, the default of its
framework).
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar
from urllib.parse import quote

from batchacct.brokers.pipeline import Ended, Refused, Taken
from batchacct.config import Section
from batchacct.config import key as option
from pub.transports.contract import Message, Receipt, Refusal
from pub.transports.http import Answer, Client, Url, WaitOptions, one_by_one, settled, too_large

HEADERS = {"Content-Type": "application/json"}
_EXISTS = re.compile(r"record.?exists", re.IGNORECASE)

Record = dict[str, Any]


class AuditorOptions(WaitOptions):
    """`POST /records` of AUDITOR."""

    url: Url = option("AUDITOR, without a path of its API", sample="https://auditor.example.org:8443")
    max_bytes: int = option("a larger message is refused here; AUDITOR's own limit is to be above", 2_000_000, ge=1000)


class Auditor:
    """Adds the records of a message, and sees to it that those that are there already are the same."""

    options: ClassVar[type[Section]] = AuditorOptions
    formats: ClassVar[tuple[str, ...]] = ("auditor",)
    envelope = None

    def __init__(self, options: AuditorOptions) -> None:
        self._options = options
        self._url = options.url.rstrip("/")
        self._client = Client(self._url, options.tls, options.timeout)

    def send(self, messages: Iterable[Message]) -> Iterator[Receipt | Refusal]:
        """One after the other; see `pub.transports.http`."""
        return one_by_one(messages, self._url, self._exchange, self._client.close, self._options.retry_for)

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    def _exchange(self, message: Message) -> Taken | Refused:
        records = _records(message.payload)
        if records is None:
            return Refused(message.name, "it is no JSON array of records: this transport is for the format auditor")
        if refused := too_large(message, len(message.payload), self._options.max_bytes):
            return refused
        answer = self._client.post(message.payload, HEADERS, "/records")
        if _is_stored(answer):
            return Taken(message.name, f"{self._url} {len(records)} records")
        if _is_known(answer):
            return self._singly(message, records)
        return self._settled(message, answer)

    def _singly(self, message: Message, records: list[Record]) -> Taken | Refused:
        known = 0
        others: list[str] = []
        for record in records:
            answer = self._client.post(json.dumps(record, separators=(",", ":")).encode(), HEADERS, "/record")
            if _is_stored(answer):
                continue
            if not _is_known(answer):
                return self._settled(message, answer)
            record_id = str(record["record_id"])
            there = self._client.get(f"/record/{quote(record_id, safe='')}")
            if there.status == 403:
                return Refused(
                    message.name,
                    f"{self._url}: it has record {record_id} already, and our certificate may not read it, to see if it is the "
                    "same: let it GET /record/*",
                )
            if there.status != 200:
                return self._settled(message, there)
            known += 1
            others += [] if _is_same(record, _read(there.body)) else [record_id]
        if others:
            return Refused(
                message.name,
                f"{self._url}: of {len(records)} records it has {len(others)} with other values, first {others[0]}, and replaces "
                "nothing: once they are deleted in its database, the message can go again. Its other records are there",
            )
        return Taken(message.name, f"{self._url} {len(records)} records, {known} of them there before")

    def _settled(self, message: Message, answer: Answer) -> Refused:
        if answer.status == 200:
            raise Ended(f"{self._url}: answered 200, but not as AUDITOR does: {answer.words}", is_answer=True)
        return settled(self._url, message, answer)


def _records(payload: bytes) -> list[Record] | None:
    """The records of a message; None where it is no array of any."""
    told = _read(payload)
    is_array = isinstance(told, list) and all(isinstance(record, dict) and "record_id" in record for record in told)
    return told if is_array and told else None


def _read(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _is_stored(answer: Answer) -> bool:
    """AUDITOR says nothing more."""
    return answer.status == 200 and not answer.body.strip()


def _is_known(answer: Answer) -> bool:
    """Nothing of the request was stored, as it has a record of it already."""
    if answer.status == 200:
        told = _read(answer.body)
        return isinstance(told, dict) and "warning" in told
    return answer.status == 409 or (answer.status == 500 and _EXISTS.search(answer.words) is not None)


def _is_same(ours: Record, theirs: object) -> bool:
    """Whether two records say the same, in whatever order."""
    try:
        return isinstance(theirs, dict) and _canonical(ours) == _canonical(theirs)
    except (KeyError, TypeError, ValueError, AttributeError):
        return False


def _canonical(record: Record) -> tuple[object, ...]:
    components = sorted(
        (one["name"], int(one["amount"]), sorted((score["name"], float(score["value"])) for score in one["scores"]))
        for one in record["components"]
    )
    meta = {name: sorted(values) for name, values in (record["meta"] or {}).items()}
    times = [None if record[name] is None else dt.datetime.fromisoformat(record[name]) for name in ("start_time", "stop_time")]
    return record["record_id"], meta, components, times
