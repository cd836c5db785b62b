"""A session with whichever of several brokers answers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from batchacct.addresses import host_and_port
from batchacct.brokers.keys import BrokerKeys
from batchacct.brokers.pipeline import Ended
from batchacct.brokers.stomp_session import Login, Session
from batchacct.connection import secret_line
from batchacct.tls import TlsFiles

SessionT = TypeVar("SessionT", bound=Session)


def login_of(keys: BrokerKeys) -> Login:
    """How to connect, as the keys say.  Raises: ConfigError for files that cannot be used."""
    logging.getLogger("stomp.py").setLevel(logging.CRITICAL)  # with tracebacks, what an Ended says in a sentence
    return Login(
        vhost=keys.vhost,
        user=keys.login,
        passcode=None if keys.passcode_file is None else secret_line(keys.passcode_file, "passcode file"),
        tls=None if keys.tls is None else TlsFiles(keys.tls),
        timeout_s=keys.timeout,
        heart_beat_s=keys.heart_beat,
    )


class Brokers(Generic[SessionT]):
    """The one session there is, with one of the brokers; connects when it is asked for."""

    def __init__(self, keys: BrokerKeys, session: Callable[[str, int, Login], SessionT]) -> None:
        """`session` connects.  Raises: ConfigError for files that cannot be used."""
        self._addresses = [host_and_port(one) for one in keys.brokers]
        self._login = login_of(keys)
        self._connected = session
        self._first = 0
        self._session: SessionT | None = None

    def current(self) -> SessionT:
        """The session there is, or one with the first broker that answers, the one used last coming first.  Raises: Ended."""
        if self._session is not None and self._session.stands:
            return self._session
        self.drop(is_answer=True)
        ends: list[Ended] = []
        for number in range(self._first, self._first + len(self._addresses)):
            try:
                self._session = self._connected(*self._addresses[number % len(self._addresses)], self._login)
            except Ended as end:
                ends.append(end)
            else:
                self._first = number % len(self._addresses)
                return self._session
        raise Ended("; ".join(end.why for end in ends), for_good=all(end.for_good for end in ends))

    def drop(self, *, is_answer: bool) -> None:
        """Leaves the session, and where the broker did not even answer, tries the next one first."""
        if self._session is not None:
            self._session.abandon()
            self._session = None
            if not is_answer:
                self._first += 1

    def close(self) -> None:
        """Says goodbye to the broker."""
        if self._session is not None:
            self._session.close()
            self._session = None
