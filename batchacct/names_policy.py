"""Whose names are published, and whether as themselves or as keyed hashes: the key, and which policy was in force when.

A summary is known to the receiver by the name in it, among others. So a policy stays as it is for a published period: what was
sent by another one stays at the receiver beside what is sent now. The policies that messages were built under are in the table
`setting`, a key by its fingerprint alone.
"""

from __future__ import annotations

import hmac
import json
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, insert, select, update

from batchacct.clock import shown
from batchacct.config import Config
from batchacct.errors import ConfigError
from batchacct.store.tables import message, setting

SETTING = "names_policy"
LEAST_BYTES = 32


@dataclass(frozen=True, slots=True)
class Policy:
    """`personal` of the configuration, and the fingerprint of the key of pseudonyms, if there is one."""

    personal: str
    key: str | None

    @classmethod
    def of(cls, config: Config) -> Policy:
        """Raises: ConfigError for a key that cannot be used."""
        path, personal = config.publish.pseudonym_key, config.publish.personal
        key = None if path is None else read_key(path)
        return cls(personal, None if key is None or personal == "none" else fingerprint(key))

    def __str__(self) -> str:
        return f"personal = {json.dumps(self.personal)}" + ("" if self.key is None else f" under the key {self.key}")


@dataclass(frozen=True, slots=True)
class InForce:
    """A policy, and since when (Unix seconds)."""

    policy: Policy
    since: int


def read_key(path: Path) -> bytes:
    """The secret in a file, without the end of its line.

    Raises: ConfigError if it cannot be read, is readable for everybody, or is too short to be a secret.
    """
    try:
        if path.stat().st_mode & stat.S_IROTH:
            raise ConfigError(f"pseudonym_key {path} may be read by everybody: run `chmod o-r {path}`")
        key = path.read_bytes().rstrip(b"\r\n")
    except PermissionError as error:
        raise ConfigError(
            f"pseudonym_key {path} may not be read by this user: let the group batchacct read it (chgrp, chmod 640)"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"pseudonym_key {path} cannot be read: {error.strerror}; `openssl rand -hex 32` makes a key, once for all time"
        ) from error
    if len(key) < LEAST_BYTES:
        raise ConfigError(
            f"pseudonym_key {path} has {len(key)} bytes, which can be guessed: {LEAST_BYTES} are due; "
            "`openssl rand -hex 32` makes a key"
        )
    return key


def fingerprint(key: bytes) -> str:
    """What tells keys apart without being one."""
    return hmac.digest(key, b"fingerprint", "sha256").hex()[:16]


def policies(connection: Connection) -> list[InForce]:
    """Those that messages were built under, oldest first."""
    kept = connection.scalar(select(setting.c.value).where(setting.c.name == SETTING))
    return [InForce(Policy(one["personal"], one["key"]), one["since"]) for one in json.loads(kept or "[]")]


def keep_policy(connection: Connection, config: Config, now: int) -> str | None:
    """Notes the policy that messages are built under from now on; what there is to say if it is another one than before."""
    there, policy = policies(connection), Policy.of(config)
    if there and there[-1].policy == policy:
        return None
    if connection.scalar(select(message.c.id).limit(1)) is None:
        there = []
    told = _told(there[-1].policy, policy) if there else None
    there.append(InForce(policy, now))
    value = json.dumps([{"personal": one.policy.personal, "key": one.policy.key, "since": one.since} for one in there])
    if not connection.execute(update(setting).where(setting.c.name == SETTING).values(value=value, since=now)).rowcount:
        connection.execute(insert(setting).values(name=SETTING, value=value, since=now))
    return told


def change_ahead(connection: Connection, config: Config) -> str | None:
    """What there is to say if the next messages are built under another policy than the last ones."""
    there, policy = policies(connection), Policy.of(config)
    return _told(there[-1].policy, policy) if there and there[-1].policy != policy else None


def _told(old: Policy, new: Policy) -> str:
    return (
        f"names go out by another policy than before ({old}; now {new}). Records keep their keys, but summaries of months that "
        "were sent before become other cells, and the old ones stay at the receiver until they are deleted there"
    )


def months_of_another_policy(connection: Connection, config: Config, months: Sequence[int]) -> dict[int, str]:
    """Those months (each the Unix second it begins at) of which summaries may have been sent by another policy, and a sentence."""
    there, policy = policies(connection), Policy.of(config)
    ends = [*(one.since for one in there[1:]), None]
    found: dict[int, str] = {}
    for one, end in zip(there, ends, strict=True) if there else ():
        if one.policy != policy:
            until = "until now" if end is None else f"until {shown(end)}"
            why = f"summaries sent {until} are by another policy of names ({one.policy}; now {policy}): ask for these to be deleted"
            found |= {month: why for month in months if end is None or end > month}
    return found
