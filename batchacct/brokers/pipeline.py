"""Sending ahead of the receipts, and what becomes of messages when a connection ends under them.

So many messages as the window holds are sent before the first of them has its receipt. Receipts are told in the order of the
messages, whatever order they come in. Whatever ends a connection (an error, a loss, a deadline), all messages from the first
without a receipt on are sent again over a new one, in their order, also those that have theirs: a correction must not come before
the record it takes the place of. Each is sent alone this time, as one of them may be what the receiver did not take. What fails
alone three times is set aside, and is refused as soon as another message has got its receipt after it; if none does, it is the
receiver that is in trouble, and nothing is refused. A receiver that says of a message by its name that it will not take it is
believed at once.

What ended for good (a login that is not accepted, say), or has ended again and again for `patience_s` without a receipt, is a
PublishError.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from batchacct.errors import PublishError

log = logging.getLogger(__name__)

ALONE = 3
"""So many times a message may fail alone."""
MOST_ASIDE = 5
"""With so many set aside one after the other, or as many as the window holds, it is the receiver that is in trouble."""
LONGEST_PAUSE_S = 10.0


class Sendable(Protocol):
    """What a pipeline carries: it has a number, and a name that is the same on every attempt and no other's."""

    @property
    def id(self) -> int: ...
    @property
    def name(self) -> str: ...


MessageT = TypeVar("MessageT", bound=Sendable)
_SentT_contra = TypeVar("_SentT_contra", bound=Sendable, contravariant=True)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The receiver has the message of that number; `receipt` is by what it can be found there."""

    message_id: int
    receipt: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """The receiver will not take the message of that number, for a reason that is the message's own; others may go on."""

    message_id: int
    reason: str


class Ended(Exception):  # noqa: N818 - not always an error
    """A connection ended, or could not be made.

    `is_answer`: the receiver is there, and said so; `for_good`: it will again; `is_outage`: no message can be the reason.
    """

    def __init__(self, why: str, *, is_answer: bool = False, for_good: bool = False, is_outage: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.is_answer = is_answer
        self.for_good = for_good
        self.is_outage = is_outage


@dataclass(frozen=True, slots=True)
class Taken:
    """The receiver has the message of that name; `receipt` is by what it can be found there."""

    name: str
    receipt: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The receiver says that it will not take the message of that name, for a reason that is the message's own."""

    name: str
    reason: str


class Link(Protocol[_SentT_contra]):
    """One connection to a receiver."""

    @property
    def receiver(self) -> str:
        """Which of several it is."""

    @property
    def stands(self) -> bool:
        """Whether its end was not heard of yet."""

    def send(self, message: _SentT_contra) -> None:
        """Sends without waiting. Where that fails, it stands no more, and `answer` tells."""

    def answer(self) -> Taken | Refused:
        """Waits for the next answer.

        Raises: Ended once all answers are told that came before the end, and where there is none in time.
        """


class Links(Protocol[_SentT_contra]):
    """Where connections come from."""

    def current(self) -> Link[_SentT_contra]:
        """The connection there is, if it stands, or a new one.  Raises: Ended where none can be made."""

    def drop(self, *, is_answer: bool) -> None:
        """The current connection is of no use any more; where the receiver did not answer, another may be better."""


class Pipeline(Generic[MessageT]):
    """One run of messages through connections."""

    def __init__(self, links: Links[MessageT], messages: Iterable[MessageT], window: int, patience_s: float) -> None:
        self._links = links
        self._link: Link[MessageT] | None = None
        self._source = iter(messages)
        self._window = window
        self._patience_s = patience_s
        self._hindrance: PublishError | None = None
        self._waiting: deque[MessageT] = deque()
        self._flying: dict[str, MessageT] = {}
        self._answers: dict[str, Taken | Refused] = {}
        self._suspects: set[int] = set()
        self._strikes: Counter[int] = Counter()
        self._aside: list[Refusal] = []
        self._failing_since: float | None = None
        self._ends = 0

    def outcomes(self) -> Iterator[Receipt | Refusal]:
        """Sends all messages, and tells what became of them.  Raises: PublishError when nothing goes any more."""
        while self._may_send() or self._flying:
            try:
                while self._may_send():
                    self._send()
                outcomes = self._received()
            except Ended as end:
                self._recover(end)
            else:
                yield from outcomes
        if self._hindrance is not None:
            raise self._hindrance
        if self._aside:
            raise PublishError(f"{self._aside[0].reason} (message {self._aside[0].message_id}, and nothing was taken after it)")

    def _may_send(self) -> bool:
        if not self._waiting:
            self._draw()
        if not self._waiting:
            return False
        if not self._flying:
            return True
        if self._link is None or not self._link.stands:
            return False
        one_by_one = not self._suspects.isdisjoint((self._waiting[0].id, next(iter(self._flying.values())).id))
        return not one_by_one and len(self._flying) < self._window

    def _draw(self) -> None:
        """One more message, if there is one; what hinders the source is told once all is settled that came before."""
        if self._hindrance is None:
            try:
                drawn = next(self._source, None)
            except PublishError as error:
                self._hindrance = error
            else:
                self._waiting.extend([] if drawn is None else [drawn])

    def _send(self) -> None:
        if self._link is None or not self._flying:
            self._link = self._links.current()
        message = self._waiting.popleft()
        self._flying[message.name] = message
        self._link.send(message)

    def _received(self) -> list[Receipt | Refusal]:
        link = self._link
        assert link is not None
        answer = link.answer()
        if answer.name not in self._flying or answer.name in self._answers:
            log.warning("receiver=%s gave a receipt for %s, which is no message that waits for one", link.receiver, answer.name)
            return []
        self._answers[answer.name] = answer
        self._failing_since, self._ends = None, 0
        settled = list(self._in_order())
        if any(isinstance(one, Receipt) for one in settled):
            settled += self._aside
            self._aside = []
        return settled

    def _in_order(self) -> Iterator[Receipt | Refusal]:
        """The answers before which none is missing."""
        while self._flying and (answer := self._answers.pop(next(iter(self._flying)), None)):
            message = self._flying.pop(answer.name)
            self._suspects.discard(message.id)
            yield Receipt(message.id, answer.receipt) if isinstance(answer, Taken) else Refusal(message.id, answer.reason)

    def _recover(self, end: Ended) -> None:
        """All from the first without a receipt on waits again.  Raises: PublishError if there is no use in it."""
        self._links.drop(is_answer=end.is_answer)
        self._link = None
        self._failing_since = self._failing_since or time.monotonic()
        self._ends += 1
        unsettled = list(self._flying.values())
        self._flying.clear()
        self._answers.clear()
        self._waiting.extendleft(reversed(unsettled))
        log.warning("%s; messages without a receipt: %d", end.why, len(unsettled))
        if not end.is_outage:
            if len(unsettled) == 1 and unsettled[0].id in self._suspects:
                self._strike(unsettled[0], end)
            self._suspects.update(message.id for message in unsettled)
        left_s = self._failing_since + self._patience_s - time.monotonic()
        if end.for_good or len(self._aside) >= max(self._window, MOST_ASIDE) or left_s < 0:
            raise PublishError(end.why)
        if not end.is_answer:
            _pause(min(0.25 * 2**self._ends, LONGEST_PAUSE_S, left_s))

    def _strike(self, message: MessageT, end: Ended) -> None:
        self._strikes[message.id] += 1
        if self._strikes[message.id] >= ALONE:
            self._waiting.popleft()
            self._suspects.discard(message.id)
            self._aside.append(Refusal(message.id, end.why))


def _pause(longest_s: float) -> None:
    """Never the same: others may come back to a receiver at the same moment."""
    time.sleep(longest_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
