"""A client that pulls: asks by real HTTP, keeps the cursor, and replaces by key what it has."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from batchacct.httpd import Limits, Listener
from pub.pull.endpoint import Endpoint
from tests.apel_reader import Job, read_message
from tests.pub.site import Site


@dataclass(frozen=True, slots=True)
class Got:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def error(self) -> str:
        told = json.loads(self.body)
        assert list(told) == ["error"]
        return str(told["error"])

    def counted(self, name: str) -> int:
        return int(self.headers[f"Batchacct-{name}"])


def get(
    port: int,
    path: str,
    asked_for: Mapping[str, object] | None = None,
    method: str = "GET",
    *,
    context: ssl.SSLContext | None = None,
    headers: Mapping[str, str] | None = None,
) -> Got:
    asked = urlencode(asked_for or {})
    connection = (
        http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        if context is None
        else http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=context)
    )
    with closing(connection):
        connection.request(method, f"{path}?{asked}" if asked else path, headers=dict(headers or {}))
        answer = connection.getresponse()
        return Got(answer.status, dict(answer.headers), answer.read())


@contextmanager
def served(site: Site, token: bytes | None = None, limits: Limits | None = None) -> Iterator[int]:
    """The port at which records of the site are given."""
    endpoint = Endpoint(site.store, site.config, token, lambda: site.clock)
    with closing(Listener("127.0.0.1:0", endpoint.answer, what="records", setting="[serve] address", limits=limits)) as listener:
        yield listener.port


@dataclass
class Puller:
    """`table` is what it has, by LocalJobId; `read` every record it was given, in order."""

    asked: dict[str, object] = field(default_factory=dict)
    after: str | None = None
    table: dict[object, Any] = field(default_factory=dict)
    read: list[Job] = field(default_factory=list)

    def page(self, site: Site, port: int, limit: int = 1000) -> Got:
        """Reads a page."""
        place = {} if self.after is None else {"after": self.after}
        got = get(port, "/v1/records", {"format": "apel-0.3", **self.asked, **place, "limit": limit})
        assert got.status == 200, got.body
        records = read_message(got.body, now=site.clock) if got.body else []
        assert got.counted("Records") == len(records) <= limit
        self.read += records
        self.table |= {record["LocalJobId"]: record for record in records}
        self.after = got.headers["Batchacct-Next"]
        return got

    def read_on(self, site: Site, port: int, limit: int = 1000) -> None:
        """Reads pages until there is no more."""
        while self.page(site, port, limit).headers["Batchacct-More"] == "yes":
            pass
