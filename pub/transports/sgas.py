"""Usage records in XML by HTTPS POST to an SGAS (LUTS), or to another receiver that answers as it does.

For the format `ur-1.0`, which is what SGAS takes; `car-1.2` for a receiver of the same protocol that takes it. The message is the
body of the request, unchanged. It has arrived when the answer is 200 and a JSON object with the recordId of every record in it:
an answer that leaves some out is a failure. SGAS stores all records of a request or none, and a record under its recordId once:
sending a message again is harmless.

403 and 406 are about rights: 403 that our certificate may insert nothing, which ends the run; 406 that it may not insert for a
machine in this message, which is set aside. 500 is all the rest, a faulty record included.

Never run against a real SGAS: tested with a receiver written from its source (sgas/luts3-service: `sgas/generic/insertresource.py`,
`sgas/usagerecord/jobinsertresource.py`, `sgas/database/postgresql/database.py`; nginx in front of it takes 2 MB).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import ClassVar

from batchacct.brokers.pipeline import Ended, Refused, Taken
from batchacct.config import Section
from batchacct.config import key as option
from pub.transports.contract import Message, Receipt, Refusal
from pub.transports.http import Client, Url, WaitOptions, one_by_one, settled, too_large

try:
    from lxml import etree
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("the library lxml is not installed: pip install 'batchacct[http]'") from error

HEADERS = {"Content-Type": "application/xml"}


class SgasOptions(WaitOptions):
    """Usage records by HTTPS POST, as SGAS takes them."""

    url: Url = option("where usage records are posted", sample="https://sgas.example.org:6143/sgas/ur")
    max_bytes: int = option("a larger message is refused here; the receiver's own limit is to be above", 2_000_000, ge=1000)


class Sgas:
    """Posts messages, and looks for each of their records in the answer."""

    options: ClassVar[type[Section]] = SgasOptions
    formats: ClassVar[tuple[str, ...]] = ("ur-1.0", "car-1.2")
    envelope = None

    def __init__(self, options: SgasOptions) -> None:
        self._options = options
        self._client = Client(options.url, options.tls, options.timeout)

    def send(self, messages: Iterable[Message]) -> Iterator[Receipt | Refusal]:
        """One after the other; see `pub.transports.http`."""
        return one_by_one(messages, self._options.url, self._exchange, self._client.close, self._options.retry_for)

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    def _exchange(self, message: Message) -> Taken | Refused:
        record_ids = _record_ids(message.payload)
        if not record_ids:
            return Refused(message.name, "it has no usage records in XML: this transport is for the formats ur-1.0 and car-1.2")
        if refused := too_large(message, len(message.payload), self._options.max_bytes):
            return refused
        url = self._options.url
        answer = self._client.post(message.payload, HEADERS)
        if answer.status != 200:
            return settled(url, message, answer)
        missing = record_ids - _stored(answer.body)
        if missing:
            raise Ended(
                f"{url}: answered 200 without {len(missing)} of {len(record_ids)} recordIds, first {min(missing)}: {answer.words}",
                is_answer=True,
            )
        return Taken(message.name, f"{url} {len(record_ids)} records")


def _record_ids(payload: bytes) -> set[str]:
    """The recordIds in a document, in whatever namespace; none where it is no such document."""
    try:
        root = etree.fromstring(payload, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError:
        return set()
    attributes = root.xpath("//*[local-name() = 'RecordIdentity']/@*[local-name() = 'recordId']")
    return {str(record_id) for record_id in attributes}


def _stored(body: bytes) -> set[str]:
    """The keys of the answer; none where it is no JSON object."""
    try:
        told = json.loads(body)
    except ValueError:
        return set()
    return set(told) if isinstance(told, dict) else set()
