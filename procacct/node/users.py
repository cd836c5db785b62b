"""Names of users, asked of the host in a thread of its own: where LDAP is ill the daemon does not wait for it."""

from __future__ import annotations

import pwd
import queue
import threading
import time

KEPT_S = 3600.0
WAIT_S = 0.2
"""Someone who is seen for the first time is waited for so long; rows after that have the name once it is known."""


class UserNames:
    def __init__(self) -> None:
        self._names: dict[int, str | None] = {0: "root"}
        self._asked: dict[int, float] = {}
        self._answered = threading.Event()
        self._questions: queue.SimpleQueue[int] = queue.SimpleQueue()
        threading.Thread(target=self._answer, name="user-names", daemon=True).start()

    def name_of(self, user_id: int) -> str | None:
        """None for who has none, or is not known yet."""
        known = self._names.get(user_id)
        if known is not None:
            return known
        now = time.monotonic()
        asked_at = self._asked.get(user_id)
        if asked_at is None or now - asked_at > KEPT_S:
            self._asked[user_id] = now
            self._answered.clear()
            self._questions.put(user_id)
            until = now + WAIT_S
            while user_id not in self._names and (left := until - time.monotonic()) > 0:
                self._answered.wait(left)
                self._answered.clear()
        return self._names.get(user_id)

    def _answer(self) -> None:
        while True:
            user_id = self._questions.get()
            try:
                name: str | None = pwd.getpwuid(user_id).pw_name
            except (KeyError, OSError):
                name = None
            self._names[user_id] = name
            self._answered.set()
