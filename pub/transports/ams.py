"""ARGO Messaging (AMS) by its library: where APEL receives messages today, without an SSM sender.

A message is one of AMS, signed (and, if asked for, encrypted) as SSM does it, its bytes in base64 and its name
`<minute>/<element>` as the attribute `empaid`. It has arrived when the answer has its messageId, which says that AMS has stored
it, not that anybody has read it; a receiver that finds fault with it says so to nobody. After a doubt it is sent again, with the
same name and the same bytes.

AMS asks for a token: the first line of `token_file`, or what it gives for our certificate, that of `tls`, which must be
registered there. Where a token is not accepted, it is read or asked for anew, once.

It takes less than 1 MB a message, base64 included: set `bunch = 500`, less for formats in XML or with encryption.

The library waits and tries again by itself only if told to; here it is not, and each request has a deadline.

Never run against a real AMS: tested with a receiver written from its source (ARGOeu/argo-messaging: `handlers/topics.go`,
`handlers/errors.go`, `brokers/kafka.go`), by the library itself (argo-ams-library 1.0.0). Source for the envelope: ssm 4.0.0.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from pydantic import model_validator

from batchacct.brokers.pipeline import Ended, Refused, Taken
from batchacct.config import File, Section
from batchacct.config import key as option
from batchacct.connection import secret_line
from batchacct.errors import ConfigError
from batchacct.tls import Tls, TlsFiles
from pub.signing import Signer, SigningOptions, envelope_of
from pub.transports.contract import Message, Receipt, Refusal, unfit
from pub.transports.http import GRACE_S, Answer, WaitOptions, failed, one_by_one, request_options, settled, too_large, within

try:
    import requests
    from argo_ams_library import AmsException, AmsMessage, ArgoMessagingService
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("the library argo-ams-library is not installed: pip install 'batchacct[ams]'") from error

_NAME = r"^[A-Za-z0-9_.-]+$"
_NOT_ALLOWED = frozenset({401, 403})
_NO_TOKEN = "none yet"  # noqa: S105 - without any the library would ask for one while it is being made, without a deadline


class AmsOptions(SigningOptions, WaitOptions):
    """A topic of ARGO Messaging."""

    host: str = option("its host, also with a port", sample="msg.argo.grnet.gr", pattern=r"^[A-Za-z0-9.-]+(:[0-9]{1,5})?$")
    project: str = option("project", "accounting", pattern=_NAME)
    topic: str = option("topic", sample="gLite-APEL", pattern=_NAME)
    sign: Signer = option("who signs")
    token_file: File | None = option("file with the token in its first line; not readable for everybody", None)
    token_port: int = option("port at which a token is given for our certificate", 8443, ge=1, le=65535)
    max_bytes: int = option("a message that has more in base64 is refused here", 900_000, ge=1000)

    @model_validator(mode="after")
    def _has_token(self) -> AmsOptions:
        if self.token_file is None and (self.tls is None or self.tls.certificate is None):
            raise ValueError("give token_file, or tls with the certificate that a token is asked for with")
        return self


class Ams:
    """Publishes messages to a topic."""

    options: ClassVar[type[Section]] = AmsOptions

    def __init__(self, options: AmsOptions) -> None:
        self.envelope = envelope_of(options)
        self._options = options
        self._tls = TlsFiles(options.tls or Tls())
        self._where = f"https://{options.host}/v1/projects/{options.project}/topics/{options.topic}"
        if options.token_file is not None:
            self._token_of_file()  # for what is wrong with it
        self._service = ArgoMessagingService(endpoint=options.host, token=_NO_TOKEN, project=options.project)

    def send(self, messages: Iterable[Message]) -> Iterator[Receipt | Refusal]:
        """One after the other; see `pub.transports.http`."""
        return one_by_one(messages, self._where, self._exchange, self.close, self._options.retry_for)

    def close(self) -> None:
        """No connection is kept between two messages."""

    def _exchange(self, message: Message) -> Taken | Refused:
        reason = unfit(message.payload)
        if reason is not None:
            return Refused(message.name, reason)
        if refused := too_large(message, (len(message.payload) + 2) // 3 * 4, self._options.max_bytes):
            return refused
        is_new = self._service.token == _NO_TOKEN
        if is_new:
            self._renew_token()
        answer = self._publish(message)
        if answer.status in _NOT_ALLOWED and not is_new and self._renew_token():
            answer = self._publish(message)
        if answer.status != 200:
            return self._settled(message, answer)
        ids = _message_ids(answer.body)
        if len(ids) != 1:
            raise Ended(f"{self._where}: answered 200 without the id of the message: {answer.words}", is_answer=True)
        return Taken(message.name, f"{self._where} message {ids[0]}")

    def _settled(self, message: Message, answer: Answer) -> Refused:
        if answer.status == 500:  # mostly of its store, and to be tried again after a pause
            raise Ended(f"{self._where}: answered 500: {answer.words}")
        return settled(self._where, message, answer)

    def _publish(self, message: Message) -> Answer:
        one = AmsMessage(data=message.payload, attributes={"empaid": message.name})
        return self._answer(self._where, lambda options: self._service.publish(self._options.topic, one, retry=0, **options))

    def _renew_token(self) -> bool:
        """Whether there is another one than before.  Raises: Ended where there is none."""
        before = self._service.token
        try:
            self._service.token = self._token_of_file() if self._options.token_file is not None else self._token_for_certificate()
        except ConfigError as error:
            raise Ended(error.message, for_good=True) from error
        return bool(self._service.token != before)

    def _token_of_file(self) -> str:
        assert self._options.token_file is not None
        token = secret_line(self._options.token_file, "token file")
        if not (token and token.isascii() and token.isprintable()):
            raise ConfigError(f"token file {self._options.token_file} has no token in its first line")
        return token

    def _token_for_certificate(self) -> str:
        host = self._options.host.partition(":")[0]
        url = self._service.routes["auth_x509"][1].format(host, self._options.token_port)
        try:
            answer = self._answer(url, lambda options: self._service.do_get(url, "auth_x509", **options))
        except Ended as end:
            raise Ended(end.why, for_good=end.for_good, is_outage=True) from end
        token = _told(answer.body).get("token")
        if answer.status == 200 and isinstance(token, str) and token:
            return token
        told = f"{url}: gave no token for our certificate: {answer.status}: {answer.words}"
        for_good = answer.status < 500 and answer.status not in {408, 429}
        raise Ended(f"{told}. Is its subject registered there?" if for_good else told, for_good=for_good, is_outage=True)

    def _answer(self, url: str, call: Any) -> Answer:
        """What came back, also where the library makes an error of it, or fails at an error without a text.  Raises: Ended."""
        answers: list[Answer] = []

        def note(response: requests.Response, *_: object, **__: object) -> None:
            answers.append(Answer(response.status_code, response.content, response.headers.get("Location")))

        options = request_options(self._tls, self._options.timeout) | {"hooks": {"response": note}}
        try:
            within(self._options.timeout + GRACE_S, lambda: call(options))
        except (AmsException, KeyError, TypeError, AttributeError, OSError) as error:
            if not answers:
                raise failed(url, error, self._tls, self._options.timeout) from error
        return answers[-1]


def _told(body: bytes) -> dict[str, Any]:
    """A JSON object; an empty one where it is none."""
    try:
        told = json.loads(body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _message_ids(body: bytes) -> list[str]:
    ids = _told(body).get("messageIds")
    return [str(one) for one in ids if one] if isinstance(ids, list) else []
