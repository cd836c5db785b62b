"""Logins: sessions in the memory of this process, tokens that only its own forms have, and guesses slowed down.

A session is known by a random token, of which only a hash is kept; a restart ends all of them.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MOST_SESSIONS = 10_000
MOST_NAMES = 10_000
FREE_GUESSES = 5
LONGEST_PAUSE_S = 300.0
FORGOTTEN_S = 3600.0

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Session:
    """Of a name, for as long as its account has the same `proof` (`Account.proof`), at most `until` the clock says so."""

    name: str
    proof: bytes
    until: float


class Sessions:
    """Who is logged in. For any number of threads."""

    def __init__(self, life_s: float, clock: Clock = time.monotonic) -> None:
        self.life_s, self._clock, self._turn = life_s, clock, threading.Lock()
        self._known: OrderedDict[bytes, Session] = OrderedDict()

    def begin(self, name: str, proof: bytes) -> str:
        """The token of a new session of an account; where there are too many, the oldest one ends."""
        token = secrets.token_urlsafe(32)
        with self._turn:
            self._known[_digest(token)] = Session(name, proof, self._clock() + self.life_s)
            while len(self._known) > MOST_SESSIONS:
                self._known.popitem(last=False)
        return token

    def of(self, token: str) -> Session | None:
        """None if there is no such session, or no longer."""
        with self._turn:
            found = self._known.get(key := _digest(token))
            if found is not None and found.until <= self._clock():
                del self._known[key]
                return None
            return found

    def end(self, token: str) -> None:
        with self._turn:
            self._known.pop(_digest(token), None)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()


class FormTokens:
    """Tokens that bind a form to the browser it was sent to: a form of another site has none."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def of(self, secret: str) -> str:
        """The token for whoever has a cookie with a secret."""
        return hmac.digest(self._key, secret.encode(errors="replace"), "sha256").hex()

    def fits(self, token: str, secret: str) -> bool:
        return bool(secret) and hmac.compare_digest(token.encode(errors="replace"), self.of(secret).encode())


class Guesses:
    """How long somebody has to wait before the next try: after a few wrong ones ever longer, by the name that is tried."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock, self._turn = clock, threading.Lock()
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait_s(self, name: str) -> float:
        """Seconds until the next try is looked at; 0: now, and it counts as wrong until `forget` says otherwise."""
        now = self._clock()
        with self._turn:
            count, last = self._wrong.pop(name, (0, now))
            if now - last > FORGOTTEN_S:
                count = 0
            left = last + _pause_s(count) - now
            self._wrong[name] = (count, last) if left > 0 else (count + 1, now)
            while len(self._wrong) > MOST_NAMES:
                self._wrong.popitem(last=False)
            return max(left, 0.0)

    def forget(self, name: str) -> None:
        with self._turn:
            self._wrong.pop(name, None)


def _pause_s(count: int) -> float:
    return 0.0 if count < FREE_GUESSES else min(2.0 ** (count - FREE_GUESSES), LONGEST_PAUSE_S)
