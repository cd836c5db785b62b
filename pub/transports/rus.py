"""Insertion into a Resource Usage Service (RUS) by SOAP 1.1 and HTTPS, for the format `urwg-11`.

The message, without its XML declaration, is what the element `insertUsageRecords` of the SOAP body holds. RUS never became a
standard: of its drafts the types are public, the names of operation, namespace and SOAPAction are not, so that these are options.

Records are taken or not one by one, and counted in the answer (`OperationResult`, in whatever namespace):

| answer | what becomes of the message |
|---|---|
| `Processed` and `Duplicate` are all there is | it is there |
| all are `PermissionDenied` | the run ends: our certificate may not insert |
| some are `Invalid`, `NonExistent` or `PermissionDenied` | refused, with the counts; the others are there |
| `Status` true without counters; no `OperationResult`, and no fault, in an answer of 200 | it is there |
| a fault, anything else | tried again, then set aside |

A service keeps the record it has: a `Duplicate` may be what an attempt without an answer has left there, or an earlier version of a
record that was corrected, which then stays as it was. So duplicates are logged, and counted in the receipt.

Never run against a real RUS: tested with a receiver written from the drafts (GWD-R draft-ggf-wsi-rus-15 to -19 and their types).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from batchacct.brokers.pipeline import Ended, Refused, Taken
from batchacct.config import Section
from batchacct.config import key as option
from pub.transports.contract import Message, Receipt, Refusal
from pub.transports.http import Answer, Client, Url, WaitOptions, one_by_one, settled, too_large

try:
    from lxml import etree
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("the library lxml is not installed: pip install 'batchacct[http]'") from error

log = logging.getLogger(__name__)

SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
TYPES = "http://www.gridforum.org/2005/rus-wg/types"
_COUNTERS = ("Processed", "PermissionDenied", "NonExistent", "Invalid", "Duplicate")


class RusOptions(WaitOptions):
    """`insertUsageRecords` of a RUS, by SOAP 1.1."""

    url: Url = option("the service", sample="https://rus.example.org:8443/rus/services/ResourceUsageService")
    namespace: str = option("namespace of the operation", TYPES, min_length=1)
    operation: str = option("its element", "insertUsageRecords", pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")
    soap_action: str = option("the header SOAPAction", "", pattern=r'^[^"\s]*$')
    max_bytes: int = option("a larger message is refused here; the receiver's own limit is to be above", 2_000_000, ge=1000)


@dataclass(frozen=True, slots=True)
class _Result:
    """An OperationResult; a counter that is not there is 0, and `is_counted` whether any is there."""

    is_success: bool
    counters: dict[str, int]

    @property
    def is_counted(self) -> bool:
        return any(self.counters.values())

    def __str__(self) -> str:
        return ", ".join(f"{name} {count}" for name, count in self.counters.items() if count) or "no counters"


class Rus:
    """Inserts messages, and reads what became of their records."""

    options: ClassVar[type[Section]] = RusOptions
    formats: ClassVar[tuple[str, ...]] = ("urwg-11",)
    envelope = None

    def __init__(self, options: RusOptions) -> None:
        self._options = options
        self._client = Client(options.url, options.tls, options.timeout)
        self._headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": f'"{options.soap_action}"'}

    def send(self, messages: Iterable[Message]) -> Iterator[Receipt | Refusal]:
        """One after the other; see `pub.transports.http`."""
        return one_by_one(messages, self._options.url, self._exchange, self._client.close, self._options.retry_for)

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    def _exchange(self, message: Message) -> Taken | Refused:
        document = _document(message.payload)
        records = 0 if document is None else len(document)
        if not records:
            return Refused(message.name, "it has no usage records in XML: this transport is for the format urwg-11")
        request = self._request(document)
        if refused := too_large(message, len(request), self._options.max_bytes):
            return refused
        answer = self._client.post(request, self._headers)
        told = _document(answer.body)
        if answer.status in {200, 500} and told is not None and (fault := _found(told, "Fault")) is not None:
            raise Ended(f"{self._options.url}: answered {answer.status} with a fault: {_words(fault)}", is_answer=True)
        if not 200 <= answer.status < 300:
            return settled(self._options.url, message, answer)
        return self._judged(message, records, answer, told)

    def _judged(self, message: Message, records: int, answer: Answer, told: Any) -> Taken | Refused:
        url = self._options.url
        result = None if told is None else _result(told)
        if result is None:
            if told is not None and told.tag == f"{{{SOAP}}}Envelope":
                return Taken(message.name, f"{url} {records} records, no OperationResult")
            raise Ended(f"{url}: answered {answer.status} with what is no SOAP: {answer.words}", is_answer=True)
        there = result.counters["Processed"] + result.counters["Duplicate"]
        if result.counters["PermissionDenied"] == records:
            raise Ended(f"{url}: {result}. May our certificate insert records there?", is_answer=True, for_good=True)
        if there == records or (result.is_success and not result.is_counted):
            if known := result.counters["Duplicate"]:
                log.warning("receiver=%s message=%d: records it had already, and keeps as they were: %d", url, message.id, known)
            return Taken(message.name, f"{url} {records} records, {result}")
        if not result.is_counted or there + sum(result.counters[name] for name in _COUNTERS[1:4]) != records:
            status = "true" if result.is_success else "false"
            raise Ended(f"{url}: Status {status}, {result}, for {records} records", is_answer=True)
        return Refused(
            message.name, f"{url}: of {records} records {result}; those that are not Processed or Duplicate are not there"
        )

    def _request(self, document: Any) -> bytes:
        envelope = etree.Element(f"{{{SOAP}}}Envelope", nsmap={"soap": SOAP})
        body = etree.SubElement(envelope, f"{{{SOAP}}}Body")
        namespace = self._options.namespace
        operation = etree.SubElement(body, f"{{{namespace}}}{self._options.operation}", nsmap={"rus": namespace})
        operation.append(document)
        request: bytes = etree.tostring(envelope, xml_declaration=True, encoding="UTF-8")
        return request


def _document(text: bytes) -> Any:
    """Its root element; None where it is no XML."""
    try:
        return etree.fromstring(text, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError:
        return None


def _found(root: Any, name: str) -> Any:
    """The first element of that name, in whatever namespace."""
    return next(iter(root.xpath("descendant-or-self::*[local-name() = $name]", name=name)), None)


def _result(root: Any) -> _Result | None:
    """Its OperationResult, if there is one that can be read."""
    element = _found(root, "OperationResult")
    if element is None:
        return None
    texts = {etree.QName(child).localname: (child.text or "").strip() for child in element.iterchildren("{*}*")}
    counts = {name: texts.get(name, "0") for name in _COUNTERS}
    if texts.get("Status") not in {"true", "1", "false", "0"} or not all(
        text.isascii() and text.isdigit() for text in counts.values()
    ):
        return None
    return _Result(texts["Status"] in {"true", "1"}, {name: int(text) for name, text in counts.items()})


def _words(element: Any) -> str:
    return " ".join(" ".join(element.itertext()).split())[:500] or "without a text"
