"""Who looks, and what they may see.

A user sees the own jobs: those of the accounts, and of the grid identities (DNs, or `issuer/subject` of tokens), that are theirs.
An accounting officer sees all figures, and people only where `[portal] names` says so. An administrator sees everything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from cpuhours.question import NAMED

_PERSONAL = frozenset({"user", "group"})
"""Dimensions whose names are those of people: many systems give each user a group of the same name."""
_NAME = re.compile(r"(?=.*[A-Za-z_])[A-Za-z0-9._@+-]{1,100}")


class Role(StrEnum):
    USER = "user"
    OFFICER = "officer"
    ADMINISTRATOR = "administrator"


@dataclass(frozen=True, slots=True)
class Viewer:
    """Somebody who has shown who they are. `accounts` and `identities` are whose jobs are theirs, of importance for users alone."""

    name: str
    role: Role
    accounts: tuple[str, ...] = ()
    identities: tuple[str, ...] = ()
    sees_names: bool = False

    @property
    def own_only(self) -> bool:
        return self.role is Role.USER

    @property
    def sees_people(self) -> bool:
        """Whether accounts, DNs and what may contain them can be shown: of users, all that they see is their own."""
        return self.role is not Role.OFFICER or self.sees_names

    @property
    def sees_texts(self) -> bool:
        """Whether texts that programs wrote (errors, warnings, addresses of receivers) can be shown."""
        return self.role is Role.ADMINISTRATOR

    @property
    def dimensions(self) -> Mapping[str, str]:
        """What figures can be grouped by, and restricted to: name -> what it is called."""
        return {name: one for name, (one, _) in NAMED.items() if self.sees_people or name not in _PERSONAL}

    @property
    def key(self) -> tuple[object, ...]:
        """Two viewers with the same key are shown the same."""
        own = (self.accounts, self.identities) if self.own_only else ()
        return (self.role, self.sees_people, *own)


def is_name(text: str) -> bool:
    """Whether a text can be the name of an account: others, `%` or a number, may mean more than one, or another."""
    return _NAME.fullmatch(text) is not None


def is_identity(text: str) -> bool:
    """Whether a text can be a grid identity: `%` would stand for any text."""
    return 0 < len(text) <= 1000 and text.isprintable() and "%" not in text and ("/" in text)
