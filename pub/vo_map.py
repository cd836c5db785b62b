"""The VO of a job whose identity names none: that of its token's issuer, else by rules for local jobs, a `vos` file, the default.

An issuer stands for one VO, except where several share it (WLCG profile; `https://cilogon.org/fermilab`): then the subject tells.

The `vos` file is that of 2012: a local group, blanks, a VO a line (jeromebelleman/batchacct:pub/vos). Blank lines and lines that
begin with `#` are passed over.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Select, insert, select

from batchacct.config import TokenIssuer, Vo, VoRule
from batchacct.errors import ConfigError
from batchacct.store.columns import hash_of
from batchacct.store.tables import vo_mapping

LOCAL = "local-"
"""Local VOs are published under a name of their own, so that a portal can tell them from the grid's (2012, EGI)."""


@dataclass(frozen=True, slots=True)
class VoMap:
    """Every rule in force; `rules_hash` names this very set of them in the ledger."""

    issuers: tuple[TokenIssuer, ...]
    rules: tuple[VoRule, ...]
    groups: tuple[tuple[str, str], ...]
    default: str

    @property
    def rules_hash(self) -> str:
        return hashlib.sha256(repr((self.issuers, self.rules, self.groups, self.default)).encode()).hexdigest()[:16]

    def of_token(self, issuer: str, subject: str) -> tuple[TokenIssuer, str] | None:
        """The entry that stands for a token, and its number for people; None if none does."""
        for number, entry in enumerate(self.issuers, 1):
            if issuer and entry.issuer.rstrip("/") == issuer.rstrip("/") and matches(subject, entry.subject):
                return entry, f"token issuer {number}"
        return None

    def vo_of(self, user: str, group: str, project: str) -> tuple[str, str]:
        """(VO, the rule that decided); an empty text stands for what is not known."""
        for number, rule in enumerate(self.rules, 1):
            asked = ((rule.user, user), (rule.group, group), (rule.project, project))
            if all(pattern is None or (value and matches(value, pattern)) for pattern, value in asked):
                return rule.vo, f"rule {number}"
        for name, vo in self.groups:
            if name == group:
                return vo, f"group {name}"
        return self.default, "default"


def vo_map(settings: Vo) -> VoMap:
    """The rules of a configuration.  Raises: ConfigError for a `vos` file that cannot be read."""
    groups = read_vos(settings.file) if settings.file else ()
    return VoMap(tuple(settings.issuer), tuple(settings.rule), groups, settings.default)


def read_vos(path: Path) -> tuple[tuple[str, str], ...]:
    """(group, VO) a line.  Raises: ConfigError naming the line that has not two words."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"vos file {path} cannot be read: {error}") from error
    pairs = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2:
            raise ConfigError(f"vos file {path}, line {number}: a line is a local group, blanks and a VO, not {line!r}")
        pairs.append((words[0], words[1]))
    return tuple(pairs)


_ASKED = ("user_name", "group_name", "project", "issuer", "subject")


def store_mappings(connection: Connection, rules: VoMap, accounts: Select[str, str, str, str, str]) -> None:
    """Writes the VO of everything in `accounts` (user, group, project, issuer, subject) that has none under these rules yet."""
    wanted = {tuple(row) for row in connection.execute(accounts)}
    stored = select(*(vo_mapping.c[name] for name in _ASKED)).where(vo_mapping.c.rules_hash == rules.rules_hash)
    known = {tuple(row) for row in connection.execute(stored)}
    rows = [_mapping(rules, dict(zip(_ASKED, account, strict=True))) for account in sorted(wanted - known)]
    if rows:
        connection.execute(insert(vo_mapping), rows)


def _mapping(rules: VoMap, asked: dict[str, str]) -> dict[str, str]:
    row = {"rules_hash": rules.rules_hash, **asked}
    row["asked_hash"] = hash_of(*row.values())
    token = rules.of_token(asked["issuer"], asked["subject"])
    if token is not None:
        entry, rule = token
        return row | {"vo": entry.vo, "fqan": entry.fqan or f"/{entry.vo}", "rule": rule}
    vo, rule = rules.vo_of(asked["user_name"], asked["group_name"], asked["project"])
    return row | {"vo": LOCAL + vo, "fqan": f"/{LOCAL}{vo}", "rule": rule}


def patterns_matching(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """Those of `names` that match at least one pattern with `*` and `?`."""
    patterns = list(patterns)
    return [name for name in names if any(matches(name, pattern) for pattern in patterns)]


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern with `*` and `?` matches the whole name; a bracket is a bracket."""
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))
