"""Groups made by rule: `[[group]]` of procacctd.toml, and which processes they take.

A rule looks at a process when it executes a program, and at those that run already when the daemon starts. What the environment
says is what its user wants it to say: a rule by environment groups, and proves nothing.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pydantic import model_validator

from batchacct.sections import Section, key
from procacct.node.group_processes import Facts

NAME = r"^[A-Za-z0-9_.:@+-]{1,64}$"
"""What a group may be called: it stands in one column of the job file."""


class GroupRule(Section):
    """Processes that are a group by what they are; their children belong to it as well. All that is given has to fit."""

    name: str = key("name of the group", sample="sshd", pattern=NAME)
    user: list[str] = key("names (patterns with * ? [ ]) or numbers of users, one of which runs it", [])
    program: list[str] = key("patterns of the resolved path of the program, one of which fits", [], sample=["/usr/sbin/sshd"])
    cgroup: list[str] = key("patterns of a path in /proc/PID/cgroup, one of which fits", [])
    environment: dict[str, str] = key("variables, each with the pattern its value fits; users set them as they like", {})
    each: bool = key("a group of its own for each process that fits and is not in one already (a login, a pilot's payload)", False)

    @model_validator(mode="after")
    def _something_to_look_at(self) -> GroupRule:
        if not (self.user or self.program or self.cgroup or self.environment):
            raise ValueError("give user, program, cgroup or environment: this rule would take every process")
        return self


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, ready to be asked."""

    name: str
    each: bool
    needs_environment: bool
    needs_facts: bool
    _program: re.Pattern[str] | None
    _cgroup: re.Pattern[str] | None
    _environment: tuple[tuple[str, re.Pattern[str]], ...]
    _user: re.Pattern[str] | None
    _user_ids: frozenset[int]

    @property
    def made_by(self) -> str:
        """What its groups are told to be made by."""
        return f"rule:{self.name}"

    def may_take(self, program: str | None) -> bool:
        """Whether a process of this program can be one of it at all."""
        return self._program is None or (program is not None and self._program.match(program) is not None)

    def takes(self, facts: Facts, user_name: Callable[[int], str | None]) -> bool:
        """Whether the process is one of it, as far as `may_take` does not say."""
        return self._takes_user(facts.user_id, user_name) and self._takes_cgroup(facts) and self._takes_environment(facts)

    def _takes_user(self, user_id: int, user_name: Callable[[int], str | None]) -> bool:
        if user_id in self._user_ids or (self._user is None and not self._user_ids):
            return True
        return self._user is not None and self._user.match(user_name(user_id) or "") is not None

    def _takes_cgroup(self, facts: Facts) -> bool:
        return self._cgroup is None or any(self._cgroup.match(path) for path in facts.cgroups)

    def _takes_environment(self, facts: Facts) -> bool:
        return all(
            any(name == given and fits.match(value) for given, value in facts.environment) for name, fits in self._environment
        )


def ready(rule: GroupRule) -> Rule:
    """The rule of a section of the configuration."""
    numbers = [one for one in rule.user if one.isdigit()]
    return Rule(
        rule.name,
        rule.each,
        bool(rule.environment),
        bool(rule.user or rule.cgroup or rule.environment),
        _one_of(rule.program),
        _one_of(rule.cgroup),
        tuple((name, re.compile(fnmatch.translate(pattern))) for name, pattern in sorted(rule.environment.items())),
        _one_of(one for one in rule.user if not one.isdigit()),
        frozenset(map(int, numbers)),
    )


def _one_of(patterns: Iterable[str]) -> re.Pattern[str] | None:
    translated = [fnmatch.translate(one) for one in patterns]
    return re.compile("|".join(translated)) if translated else None
