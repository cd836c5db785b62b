"""Names in what is published: as `batchacct.names` makes them, by a policy whose changes are told."""

from __future__ import annotations

import logging

from sqlalchemy import Connection

from batchacct.config import Config
from batchacct.names_policy import keep_policy

log = logging.getLogger(__name__)


def keep_names_policy(connection: Connection, config: Config, now: int) -> None:
    """Notes by which policy names go out from now on, and warns if it is another one than before.

    Raises: ConfigError for a key that cannot be used.
    """
    told = keep_policy(connection, config, now)
    if told is not None:
        log.warning("%s", told)
