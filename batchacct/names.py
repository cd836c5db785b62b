"""What is published for a name: that of the person it is one of, or a keyed hash of it.

The hash is HMAC-SHA-256 of the field's name, NUL and the name, under the key of `[publish] pseudonym_key`: the first 32 hexadecimal
digits, for GlobalUserName as a DN, `/CN=...`. Under one key a name has the same hash on every host, in every run, in records and in
summaries; without the key nobody can tell whose it is by trying names, as with a hash that has none.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from batchacct.config import Config
from batchacct.config_mapping import Person
from batchacct.names_policy import read_key

DIGITS = 32


@dataclass(frozen=True, slots=True)
class Names:
    """Which names are one person's, and the key under which names go out as hashes."""

    person: Mapping[str, str]
    key: bytes | None

    @classmethod
    def of(cls, config: Config) -> Names:
        """Raises: ConfigError for a key that cannot be used."""
        path = config.publish.pseudonym_key
        return cls(_person_names(config.person), None if path is None else read_key(path))

    def of_person(self, name: str) -> str:
        """GlobalUserName for a DN, or for a token's `issuer/subject`."""
        known = self.person.get(name, name)
        return known if self.key is None else f"/CN={_hash(self.key, 'GlobalUserName', known)}"

    def of_account(self, name: str) -> str:
        """LocalUserId for an account."""
        return name if self.key is None else _hash(self.key, "LocalUserId", name)


def _hash(key: bytes, field: str, name: str) -> str:
    return hmac.digest(key, f"{field}\0{name}".encode(), "sha256").hex()[:DIGITS]


def _person_names(people: Sequence[Person]) -> Mapping[str, str]:
    """For each of the other names of people the one that is published.

    The subject alone (HTCondor-CE's files keep no issuer) stands for the token whose subject it is, if that is one person's only.
    """
    names: dict[str, str] = {}
    subjects: dict[str, set[str]] = {}
    for person in people:
        for other in person.also:
            issuer, slash, subject = other.rpartition("/")
            is_token = "://" in other
            names[f"{issuer.rstrip('/')}{slash}{subject}" if is_token else other] = person.name
            if is_token:
                subjects.setdefault(subject, set()).add(person.name)
    return names | {subject: next(iter(of)) for subject, of in subjects.items() if len(of) == 1 and subject not in names}
