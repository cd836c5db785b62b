"""`[ship]` in the node's configuration: where the spool is, and which broker its lines go to."""

from __future__ import annotations

import socket
import tomllib
from pathlib import Path

from pydantic import ValidationError, field_validator

from batchacct.brokers.keys import SendingKeys
from batchacct.config_errors import told_errors
from batchacct.errors import ConfigError
from batchacct.sections import Duration, File, key
from procacct.shipping.ranges import is_host_name

DEFAULT_PATH = Path("/etc/batchacct/procacctd.toml")
DEFAULT_SPOOL = Path("/var/spool/batchacct/procacct")


class Ship(SendingKeys):
    """How `procacct ship` sends the spool of this node to the broker from which `procacct receive` takes it."""

    destination: str = key("queue", "/queue/batchacct.processes", pattern=r"^/queue/[^/\s]+$")
    retry_for: Duration = key("connections that fail are made again for so long; then it pauses, and tells", 20)
    spool: File = key("folder of the spool files that procacctd writes", DEFAULT_SPOOL)
    state: File = key("file that says what the broker has", Path("/var/lib/batchacct/procacct-ship.json"))
    host: str | None = key("name of this node at the receiver; default: the host's own", None)
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

    @property
    def node(self) -> str:
        """What this node is called.  Raises: ConfigError if the host's own name cannot be used."""
        name = self.host or socket.gethostname()
        if not is_host_name(name):
            raise ConfigError(f"this host is called {name!r}, which is no host name: set host in [ship]")
        return name


def load_ship(path: Path) -> Ship:
    """`[ship]` of a node's configuration; the other tables are procacctd's.  Raises: ConfigError naming every wrong key."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("ship")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration {path} cannot be read: {error}. --config names another") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"configuration {path} is no TOML: {error}") from error
    if not isinstance(table, dict):
        raise ConfigError(f"configuration {path} has no table [ship]: it says which broker lines are sent to")
    try:
        return Ship.model_validate(table)
    except ValidationError as error:
        raise ConfigError(f"configuration {path}:\n{told_errors(error, Ship, 'ship')}") from error
