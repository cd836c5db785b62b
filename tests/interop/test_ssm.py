"""A real SSM on a real ActiveMQ: its receiver takes what we send, and its sender what we put into folders for it.

Needs a checkout of apel/ssm: see CONTRIBUTING.md.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.interop.farm import Farm, Messages
from tests.interop.spool import Kept
from tests.interop.ssm import Way, subject_of

pytestmark = pytest.mark.usefixtures("ssm")


@pytest.fixture(scope="module")
def messages(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> Messages:
    """What is to arrive."""
    found = farm.messages(tmp_path_factory.mktemp("expected") / "site", "apel-0.3")
    assert len(found) > 5
    return found


def texts(messages: Messages) -> list[tuple[str, str]]:
    """Ids and texts as a receiver keeps them: without the last end of line."""
    return [(name, payload.decode().removesuffix("\n")) for name, payload in messages]


def assert_arrived(received: list[Kept], messages: Messages, signer: str) -> None:
    """Each once, with its text, under its id."""
    assert Counter((one.empa_id, one.body) for one in received) == Counter(texts(messages))
    assert {one.signer for one in received} == {signer}


@pytest.mark.parametrize(("key", "encrypted"), [("RSA", False), ("RSA", True), ("EC", False), ("EC", True)])
def test_what_we_send_signed(farm: Farm, messages: Messages, way: Way, key: str, encrypted: bool) -> None:
    signer = way.publisher if key == "RSA" else way.broker.authority.issue("publisher-ec")
    farm.published(way.folder / "site", way.lines(signer, encrypted=encrypted))
    receiver = way.receiving(subject_of(signer))
    assert_arrived(receiver.received(), messages, subject_of(signer))
    assert receiver.decrypted == (len(messages) if encrypted else 0)


def test_who_may_not_send(farm: Farm, messages: Messages, way: Way) -> None:
    """What comes of a signature under a name that is not on the list: all is rejected, and nobody tells us."""
    farm.published(way.folder / "site", way.lines(way.publisher))
    receiver = way.receiving("/C=CH/O=Example/CN=somebody else")
    assert receiver.received() == []
    reasons = [one.error for one in receiver.spool.rejected if not one.empa_id.startswith("mark")]
    assert reasons == [f"Signer not in valid DNs list: {subject_of(way.publisher)}"] * len(messages)


@pytest.mark.parametrize(("transport", "path_type"), [("ssm-directory", "dirq"), ("file", "directory")])
def test_what_its_sender_finds(farm: Farm, messages: Messages, way: Way, transport: str, path_type: str) -> None:
    """It arrives, and leaves nothing behind; a plain file has another name than an element of dirq, which it comes under."""
    outgoing = way.folder / "site/outgoing"
    lines = f'format = "apel-0.3"\ntransport = "{transport}"\npath = "{outgoing}"\nbunch = 97\n'
    farm.published(way.folder / "site", lines)
    receiver = way.receiving(subject_of(way.publisher))
    files = {path.name: path.read_text().removesuffix("\n") for path in outgoing.iterdir() if path.is_file()}
    way.send(outgoing, path_type)
    received = receiver.received()
    if transport == "ssm-directory":
        assert_arrived(received, messages, subject_of(way.publisher))
    else:
        assert {one.empa_id: one.body for one in received} == files
        assert sorted(one.body for one in received) == sorted(body for _, body in texts(messages))
    assert not [path for path in outgoing.rglob("*") if path.is_file()]
