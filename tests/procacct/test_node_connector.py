"""The kernel's process events: captured ones, losses, nonsense."""

from __future__ import annotations

import csv
import os
import struct
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from procacct.node import connector
from procacct.node.connector import Batch, Event, Losses, comm_of, request

SAMPLES = Path(__file__).parent / "samples"
DATAGRAMS = [bytes.fromhex(line) for line in (SAMPLES / "proc-connector.capture.hex").read_text(encoding="ascii").split()]
with (SAMPLES / "proc-connector.capture.tsv").open(encoding="ascii", newline="") as stream:
    DECODED = list(csv.DictReader(stream, delimiter="\t"))


def events(datagrams: list[bytes]) -> list[Event]:
    batch = Batch(max(len(datagrams), 1))
    count = 0
    for datagram in datagrams:
        length = min(len(datagram), connector.EVENT_BYTES)
        batch.places[count][:length] = datagram[:length]
        if length == connector.EVENT_BYTES or batch.pad(count, length):
            count += 1
    return list(batch.events(count))


def test_captured_events_are_what_they_are() -> None:
    assert len(DATAGRAMS) == len(DECODED) == 29
    for event, expected in zip(events(DATAGRAMS), DECODED, strict=True):
        seq, what, cpu, at, *values = event
        name = {value: name for name, value in vars(connector).items() if name.isupper() and isinstance(value, int)}
        assert (seq, cpu, at) == (int(expected["seq"]), int(expected["cpu"]), int(expected["timestamp_ns"]))
        assert what == getattr(connector, expected["what"]), name
        told = dict(pair.split("=") for pair in expected["event_data"].split())
        if expected["what"] == "COMM":
            assert comm_of(event) == told.pop("comm")
        assert values[: len(told)] == [int(value) for value in told.values()]


def test_the_requests_are_those_that_were_captured() -> None:
    """But for numbers and pid, which are the caller's own."""
    for line in (SAMPLES / "proc-connector.requests.hex").read_text(encoding="ascii").splitlines()[:2]:
        name, captured = line.rsplit(None, 1)
        ours = bytearray(request(getattr(connector, name)))
        ours[12:16] = bytes(4)
        theirs = bytearray.fromhex(captured)
        ours[24:32] = theirs[24:32] = bytes(8)
        assert ours == theirs


def test_nothing_of_the_capture_is_lost_and_the_acknowledgement_is_no_event() -> None:
    losses = Losses()
    told = list(losses.checked(iter(events(DATAGRAMS))))
    assert (len(told), losses.lost) == (28, 0)


def test_each_event_that_is_missing_is_counted_by_its_cpu() -> None:
    for missing in range(2, 28):
        losses = Losses()
        list(losses.checked(iter(events([*DATAGRAMS[:missing], *DATAGRAMS[missing + 1 :]]))))
        later = [row["cpu"] for row in DECODED[missing + 1 :]]
        before = [row["cpu"] for row in DECODED[:missing]]
        cpu = DECODED[missing]["cpu"]
        assert losses.lost == int(cpu in later and cpu in before)


def test_the_sequence_goes_round() -> None:
    first, second = events([sequenced(0xFFFFFFFE), sequenced(1)])
    losses = Losses()
    list(losses.checked(iter([first, second])))
    assert losses.lost == 2


def test_an_acknowledgement_with_the_number_that_was_sent_is_no_step() -> None:
    sent = struct.unpack_from("=I", request(connector.LISTEN), 24)[0]
    ack = struct.pack("=24xI8xIIQ24x", sent, connector.NONE, 0, 1)
    losses = Losses()
    assert len(list(losses.checked(iter(events([sequenced(7), ack, sequenced(8)]))))) == 2
    assert losses.lost == 0


def test_events_of_an_older_kernel_are_shorter() -> None:
    """4.17 and before: an EXIT without the parents, 68 bytes (include/uapi/linux/cn_proc.h)."""
    (event,) = events([DATAGRAMS[3][:68]])
    assert event[4:] == (10390, 10390, 0, 17, 0, 0)


def test_what_an_earlier_event_left_does_not_fill_up_a_short_one() -> None:
    batch = Batch(1)
    batch.places[0][:] = b"\xff" * 76
    batch.places[0][:52] = DATAGRAMS[2][:52]
    assert batch.pad(0, 52)
    assert next(batch.events(1))[4:] == (0,) * 6


@given(st.lists(st.binary(max_size=100), max_size=20))
def test_nonsense_is_events_or_nothing(datagrams: list[bytes]) -> None:
    losses = Losses()
    for event in losses.checked(iter(events(datagrams))):
        comm_of(event)
    assert losses.lost >= 0


def sequenced(seq: int) -> bytes:
    return struct.pack("=24xI8xIIQ6I", seq, connector.EXEC, 0, 1, os.getpid(), os.getpid(), 0, 0, 0, 0)
