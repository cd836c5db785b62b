"""The VO of a job by the rules of a site: of odd FQANs, of tokens that name no group, of local jobs.

A job of which an FQAN is told has the VO of that, unless a rule with `fqan` matches. A job of which no VO is told has that of its
token's issuer, else by the rules for local jobs, a `vos` file, the default. An issuer stands for one VO, except where several share
it (WLCG profile; `https://cilogon.org/fermilab`): then the subject tells.

The `vos` file is that of 2012: a local group, blanks, a VO a line (jeromebelleman/batchacct:pub/vos). Blank lines and lines that
begin with `#` are passed over.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from batchacct.config_mapping import LOCAL, TokenIssuer, Vo, VoRule
from batchacct.errors import ConfigError
from batchacct.store.vos import DEFAULT_RULE


class Asked(NamedTuple):
    """What a VO can follow from; an empty text stands for what is not known, or what no rule asks for.

    `issuer` and `subject` are of a token that tells no VO; `fqan` is the primary one, where the pattern of a rule matches it.
    """

    user_name: str
    group_name: str
    project: str
    issuer: str
    subject: str
    queue: str = ""
    fqan: str = ""


class Answer(NamedTuple):
    """The VO, its FQAN, and the rule that decided, for people."""

    vo: str
    fqan: str
    rule: str


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

    @property
    def asks_queue(self) -> bool:
        return any(rule.queue is not None for rule in self.rules)

    @property
    def fqan_patterns(self) -> tuple[str, ...]:
        return tuple(rule.fqan for rule in self.rules if rule.fqan is not None)

    def answer(self, asked: Asked) -> Answer:
        """Which VO, and what says so."""
        if asked.fqan:
            decided = self._first_rule(asked, with_fqan=True)
            if decided is not None:
                number, rule = decided
                return Answer(rule.vo, rule.publish_fqan or f"/{rule.vo}", f"rule {number}")
        token = self.of_token(asked.issuer, asked.subject)
        if token is not None:
            entry, why = token
            return Answer(entry.vo, entry.fqan or f"/{entry.vo}", why)
        vo, why = self._of_local(asked)
        return Answer(LOCAL + vo, f"/{LOCAL}{vo}", why)

    def _of_local(self, asked: Asked) -> tuple[str, str]:
        decided = self._first_rule(asked, with_fqan=False)
        if decided is not None:
            number, rule = decided
            return rule.vo, f"rule {number}"
        for name, vo in self.groups:
            if name == asked.group_name:
                return vo, f"group {name}"
        return self.default, DEFAULT_RULE

    def _first_rule(self, asked: Asked, *, with_fqan: bool) -> tuple[int, VoRule] | None:
        for number, rule in enumerate(self.rules, 1):
            patterns = (
                (rule.user, asked.user_name),
                (rule.group, asked.group_name),
                (rule.project, asked.project),
                (rule.queue, asked.queue),
                (rule.fqan, asked.fqan),
            )
            all_match = all(pattern is None or (value and matches(value, pattern)) for pattern, value in patterns)
            if all_match and (rule.fqan is not None) == with_fqan:
                return number, rule
        return None


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


def patterns_matching(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """Those of `names` that match at least one pattern with `*` and `?`."""
    patterns = list(patterns)
    return [name for name in names if any(matches(name, pattern) for pattern in patterns)]


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern with `*` and `?` matches the whole name; a bracket is a bracket."""
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))
