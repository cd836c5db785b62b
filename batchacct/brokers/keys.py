"""The keys of the configuration that say how a broker is reached."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, field_validator

from batchacct.addresses import host_and_port
from batchacct.sections import Duration, File, Section, key
from batchacct.tls import Tls


def _broker(value: str) -> str:
    host_and_port(value)
    return value


class BrokerKeys(Section):
    """STOMP 1.2 to a queue of a broker, or of several that stand in for each other."""

    brokers: list[Annotated[str, AfterValidator(_broker)]] = key(
        "brokers as host:port; the first that answers is used, the next when it fails",
        sample=["mq1.example.org:61614"],
        min_length=1,
    )
    destination: str = key("queue", sample="/queue/global.accounting.cpu.central", pattern=r"^/queue/[^/\s]+$")
    vhost: str = key("virtual host, of RabbitMQ; ActiveMQ takes no notice", "/")
    login: str | None = key("user, for a broker that asks for one", None)
    passcode_file: File | None = key("file with the password in its first line; not readable for everybody", None)
    tls: Tls | None = key("TLS; without it passwords and messages can be read on their way", None)
    timeout: Duration = key("longest wait for a connection, for sending a message, for the next receipt", 30, ge=1, le=3600)
    heart_beat: Duration = key("time between heart-beats; 0 for none", 10, le=3600)


class SendingKeys(BrokerKeys):
    """STOMP 1.2 to a queue of a broker, each message persistent and with a receipt."""

    window: int = key("messages sent ahead of their receipts", 50, ge=1, le=1000)
    retry_for: Duration = key("connections that fail are made again for so long; then the run ends", 60)


class Receive(BrokerKeys):
    """What `procacct receive` on the central host takes of what `procacct ship` sends from the nodes, and where it puts it."""

    brokers: list[Annotated[str, AfterValidator(_broker)]] = key(
        "brokers as host:port, all of them: what nodes sent to one while another was away is there",
        sample=["mq1.example.org:61614"],
        min_length=1,
    )
    destination: str = key("queue", "/queue/batchacct.processes", pattern=r"^/queue/[^/\s]+$")
    heart_beat: Duration = key("time between heart-beats", 10, ge=1, le=3600)
    folder: File = key(
        "spool files of the nodes are HOST/FILE in it; the paths of sources name them", Path("/var/lib/batchacct/processes")
    )
    hosts: list[str] = key("nodes (with * and ?) that may send", ["*"], sample=["*.example.org"], min_length=1)
    sender_header: str | None = key(
        "header by which the broker vouches for the user who sent: JMSXUserID of ActiveMQ, user-id of RabbitMQ; default: unasked",
        None,
    )
    sender: str = key(
        "what that header says of a node (with * and ?): {host} is its name, {short} that up to the first dot", "{host}"
    )
    rows: str = key("what the rows of a node may call their host (with * and ?), as in sender; others are refused", "{host}")
    prefetch: int = key("messages taken ahead of those that are on the disk, of each broker", 100, ge=1, le=10_000)
    ahead_bytes: int = key("of a node, kept on disk until what stands before it has come", 1 << 30, ge=1 << 20)

    @field_validator("sender", "rows")
    @classmethod
    def _names_what_there_is(cls, value: str) -> str:
        try:
            value.format(host="", short="")
        except (LookupError, ValueError) as error:
            raise ValueError("names {host} and {short}, and nothing else in braces") from error
        return value
