"""`[ship]` in the node's configuration: which broker the lines of the spool go to."""

from __future__ import annotations

from pathlib import Path

from pydantic import field_validator

from batchacct.brokers.keys import SendingKeys
from batchacct.sections import Duration, File, key
from procacct.shipping.ranges import is_host_name


class Ship(SendingKeys):
    """How `procacct ship` sends the spool of this node to the broker from which `procacct receive` takes it."""

    destination: str = key("queue", "/queue/batchacct.processes", pattern=r"^/queue/[^/\s]+$")
    retry_for: Duration = key("connections that fail are made again for so long; then it pauses, and tells", 20)
    state: File = key("file that says what the broker has", Path("/var/lib/batchacct/procacct-ship.json"))
    host: str | None = key("name of this node at the receiver, by [receive] rows there; default: that of the rows", None)
    user_id: str | None = key("user that messages say they are of, which RabbitMQ checks; default: login", None)
    message_bytes: int = key("bytes of lines a message holds at most, before they are compressed", 262_144, ge=1024, le=16 << 20)
    wait: Duration = key("so long lines wait for others to go with them, if they do not fill a message", 5, le=3600)
    remove: bool = key("a spool file is deleted once the broker has all of it and procacctd writes to the next one", True)

    @field_validator("host")
    @classmethod
    def _is_name(cls, value: str | None) -> str | None:
        if value is not None and not is_host_name(value):
            raise ValueError("is no host name: letters, digits, hyphens and dots")
        return value
