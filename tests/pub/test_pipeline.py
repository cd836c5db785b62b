"""The pipeline against receivers that fail in every way there is, at random: what it may and may not say of a message."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchacct.brokers import pipeline
from batchacct.brokers.pipeline import MOST_ASIDE, Ended, Pipeline, Refused, Taken
from batchacct.errors import PublishError
from pub.transports.contract import Message, Receipt, Refusal

WINDOW = 4


class Receiver:
    """Takes messages but those in `poison`; breaks off before and after it has taken one, as the random numbers will have it.

    Of those in `declined` it says that it will not take them. `swaps`: how often a receipt comes before an earlier one, as RabbitMQ
    gives them for messages of different sizes.
    """

    receiver = "receiver"

    def __init__(
        self, seed: int, poison: set[int], breaks: float, declined: frozenset[int] = frozenset(), swaps: float = 0.0
    ) -> None:
        self._random = random.Random(seed)
        self._poison = poison
        self._declined = declined
        self._breaks = breaks
        self._swaps = swaps
        self.taken: list[int] = []
        self._receipts: list[Taken | Refused] = []
        self._poisoned = False
        self.stands = True
        self.most_ahead = 0

    def current(self) -> Receiver:
        if self._random.random() < self._breaks / 2:
            raise Ended("nobody is there")
        return self

    def drop(self, *, is_answer: bool) -> None:
        self._receipts, self._poisoned, self.stands = [], False, True

    def send(self, message: Message) -> None:
        assert self.stands
        if self._random.random() < self._breaks:
            self.stands = False
        elif message.id in self._poison:
            self._poisoned = True
        elif not self._poisoned:
            is_declined = message.id in self._declined
            self.taken += [] if is_declined else [message.id]
            self._receipts.append(Refused(message.name, "no") if is_declined else Taken(message.name, f"receipt {message.id}"))
            self.most_ahead = max(self.most_ahead, len(self._receipts))

    def answer(self) -> Taken | Refused:
        if self._receipts and self._random.random() >= self._breaks:
            return self._receipts.pop(-1 if self._random.random() < self._swaps else 0)
        if self._receipts or not self.stands:
            raise Ended("the connection was closed")
        raise Ended("ERROR", is_answer=True)


def messages(count: int) -> list[Message]:
    return [Message(n, 1_700_000_000 + n, b"x") for n in range(1, count + 1)]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_pause", lambda longest_s: None)


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(0, 25),
    poison=st.sets(st.integers(1, 25), max_size=6),
    breaks=st.sampled_from([0.0, 0.02, 0.15]),
    declined=st.frozensets(st.integers(1, 25), max_size=4),
    swaps=st.sampled_from([0.0, 0.3]),
)
def test_every_message_is_taken_or_refused_or_waits(
    seed: int, count: int, poison: set[int], breaks: float, *, declined: frozenset[int], swaps: float
) -> None:
    declined -= poison
    receiver = Receiver(seed, poison, breaks, declined, swaps)
    receipts: list[int] = []
    refusals: list[int] = []
    is_through = True
    try:
        for outcome in Pipeline(receiver, messages(count), WINDOW, 60).outcomes():
            (receipts if isinstance(outcome, Receipt) else refusals).append(outcome.message_id)
    except PublishError:
        is_through = False
    assert set(receipts) <= set(receiver.taken)
    assert len(set(receipts + refusals)) == len(receipts + refusals)
    assert receiver.most_ahead <= WINDOW
    assert receipts == sorted(receipts)
    last = {number: at for at, number in enumerate(receiver.taken)}
    assert sorted(receipts, key=last.__getitem__) == receipts, "a record's versions have changed places"
    unsettled = set(range(1, count + 1)) - {*receipts, *refusals}
    assert max(receipts, default=0) < min(unsettled, default=count + 1), "what is sent again would come after a later version"
    if breaks == 0.0:
        assert set(refusals) <= poison | declined
    if is_through:
        assert set(receipts + refusals) == set(range(1, count + 1))
    if breaks == 0.0 and count and count not in poison | declined and len(poison) < WINDOW:
        assert is_through
        assert set(refusals) == (poison | declined) & set(range(1, count + 1))


def test_a_receiver_that_never_answers_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    times: Iterator[float] = iter(range(1000))
    monkeypatch.setattr("batchacct.brokers.pipeline.time.monotonic", lambda: next(times))
    with pytest.raises(PublishError, match=r"nobody is there|was closed"):
        list(Pipeline(Receiver(1, set(), 2.0), messages(3), WINDOW, 10).outcomes())


def test_one_that_fails_is_found_with_no_window_too() -> None:
    """And as many in a row as may be: more are the receiver's trouble."""
    for poisoned in (1, MOST_ASIDE - 1):
        outcomes = list(Pipeline(Receiver(1, set(range(1, poisoned + 1)), 0.0), messages(10), 1, 60).outcomes())
        assert [outcome.message_id for outcome in outcomes if isinstance(outcome, Refusal)] == list(range(1, poisoned + 1))
    with pytest.raises(PublishError, match="ERROR"):
        list(Pipeline(Receiver(1, set(range(1, MOST_ASIDE + 1)), 0.0), messages(10), 1, 60).outcomes())


def test_what_hinders_the_source_is_told_once_the_others_are_settled() -> None:
    def source() -> Iterator[Message]:
        yield from messages(3)
        raise PublishError("message 4 is damaged")

    outcomes: list[Receipt | Refusal] = []
    with pytest.raises(PublishError, match="message 4 is damaged"):
        for outcome in Pipeline(Receiver(1, set(), 0.0), source(), WINDOW, 10).outcomes():
            outcomes.append(outcome)  # noqa: PERF402 - what came before the error is wanted
    assert [outcome.message_id for outcome in outcomes] == [1, 2, 3]


@pytest.mark.parametrize("swaps", [0.0, 0.5])
def test_the_order_of_those_that_are_sent_again(swaps: float) -> None:
    """A record's versions: the later one must come last."""
    receiver = Receiver(5, set(), 0.1, swaps=swaps)
    list(Pipeline(receiver, messages(30), WINDOW, 60).outcomes())
    last = {number: at for at, number in enumerate(receiver.taken)}
    assert sorted(last, key=last.__getitem__) == list(range(1, 31))
    assert len(receiver.taken) > 30
