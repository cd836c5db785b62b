"""What the sensor is to record, and what not: the file it reads at the start of each program.

A file of lines, a tab between the fields of a line; the sensor's reader is `sensor/policy.c`, which tells the form. It has to be
root's, and writable for no others; the sensor does nothing under a file that is not, nor under one it cannot read. Without any file
it acts by the defaults below. The sensor reads it in one system call, so that it is limited in size.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from batchacct.errors import ConfigError

POLICY = Path("/run/batchacct/procacct.policy")
SOCKET = Path("/run/batchacct/procacct.sensor")
FIRST_LINE = "batchacct-policy 1"
LARGEST_BYTES = 8191
LONGEST_SOCKET_PATH = 107
LARGEST_SAMPLE = 999_999_999

Action = Literal["keep", "skip", "sample"]
Arguments = Literal["none", "program", "redacted", "all"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of programs whose path fits `program`, and, if `argument` is given, one of whose arguments fits that.

    In a pattern `*` stands for anything, slashes too, and `?` for one byte. one_of: with `sample`, one execution of so many is
    recorded, and stands for so many.
    """

    action: Action
    program: str
    argument: str | None = None
    one_of: int = 1


@dataclass(frozen=True, slots=True)
class Policy:
    """rules: the first that fits a program decides; one that no rule fits is recorded.

    arguments: `program` is the program and the script of an interpreter, `redacted` all but secrets.
    environment: names of variables that may leave a process, or their beginnings with `*` behind; values without secrets.
    secrets: words that make a name that of a secret, besides the built-in ones.
    opt_out: a file by which a user is left out, who has to own it; `%U` in it is the user's number, `%h` the home folder.
    """

    active: bool = True
    socket: Path = SOCKET
    arguments: Arguments = "program"
    objects: bool = True
    rules: tuple[Rule, ...] = ()
    environment: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    opt_out: str | None = None

    def text(self) -> bytes:
        """The file.  Raises: ConfigError for what it cannot say."""
        if self.arguments not in get_args(Arguments):
            raise ConfigError(
                f"Policy of the sensor: arguments is {self.arguments!r}; it is one of {', '.join(get_args(Arguments))}."
            )
        if not 0 < len(os.fsencode(self.socket)) <= LONGEST_SOCKET_PATH:
            raise ConfigError(
                f"Policy of the sensor: socket {self.socket} is too long a path; Unix allows {LONGEST_SOCKET_PATH} bytes."
            )
        lines = [
            ["active", _yes_or_no(self.active)],
            ["socket", os.fsdecode(self.socket)],
            ["arguments", self.arguments],
            ["objects", _yes_or_no(self.objects)],
            *([["opt-out", _opt_out(self.opt_out)]] if self.opt_out is not None else []),
            *map(_rule_fields, self.rules),
            *(["environment", _variable(name)] for name in self.environment),
            *(["secret", word.lower()] for word in self.secrets),
        ]
        fields = [field for line in lines for field in line]
        if unwritable := [field for field in fields if not field or re.search(r"[\t\n\0]", field)]:
            raise ConfigError(f"Policy of the sensor: {unwritable[0]!r} is empty, or has a tab, newline or NUL in it.")
        text = os.fsencode("\n".join([FIRST_LINE, *("\t".join(line) for line in lines), "end", ""]))
        if len(text) > LARGEST_BYTES:
            raise ConfigError(
                f"Policy of the sensor: its rules and names come to {len(text)} bytes, and the sensor reads {LARGEST_BYTES}. "
                "Make patterns of several rules into one."
            )
        return text


def write(path: Path, policy: Policy) -> None:
    """Puts the policy where sensors look for it, all at once, readable for everybody.  Raises: ConfigError, OSError."""
    text = policy.text()
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    with part.open("xb") as file:
        file.write(text)
        os.fchmod(file.fileno(), 0o644)
    part.replace(path)


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"


def _rule_fields(rule: Rule) -> list[str]:
    if rule.action not in get_args(Action):
        raise ConfigError(f"Policy of the sensor: a rule's action is {rule.action!r}; it is one of {', '.join(get_args(Action))}.")
    if not 1 <= rule.one_of <= LARGEST_SAMPLE:
        raise ConfigError(f"Policy of the sensor: rule for {rule.program}: one of {rule.one_of} cannot be drawn.")
    return ["rule", rule.action, str(rule.one_of), rule.program, *([] if rule.argument is None else [rule.argument])]


def _variable(name: str) -> str:
    if not re.fullmatch(r"[^*=]*\*?", name):
        raise ConfigError(
            f"Policy of the sensor: {name!r} is not the name of a variable, nor the beginning of one with * behind it."
        )
    return name


def _opt_out(pattern: str) -> str:
    if re.search(r"%(?![Uh])", pattern) or not pattern.startswith(("/", "%h/")):
        raise ConfigError(f"Policy of the sensor: opt_out {pattern!r} is no full path, or has another % in it than %U and %h.")
    return pattern
