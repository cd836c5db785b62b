"""What usage can be grouped by, and restricted to: the texts a job has, and those its identity and the ledger add."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from sqlalchemy import Column, ColumnElement, String, and_, case, cast, func, literal, or_

from batchacct.errors import ConfigError
from batchacct.ledger.whose import NOT_JOINED, UNKNOWN, VO_OF_JOB
from batchacct.store.tables import identity, job, usage

NO_CE = "(no CE)"
NO_IDENTITY = "(no grid identity)"
SEVERAL_HOSTS = "(several hosts)"
_LONGEST_HOSTS = 4000
"""Characters of a list of hosts that are looked at; a longer one is of several."""


def _or_unknown(column: Column[Any]) -> ColumnElement[str]:
    return func.coalesce(column, UNKNOWN)


def _text(column: Column[Any]) -> ColumnElement[str]:
    return cast(column, String(20))


_EXIT = case(
    (job.c.exit_signal.is_not(None), literal("signal ") + _text(job.c.exit_signal)),
    (job.c.exit_code == 0, "0"),
    (job.c.exit_code.is_not(None), literal("exit ") + _text(job.c.exit_code)),
    else_=UNKNOWN,
)
_HOSTS = case(
    (job.c.exec_hosts.is_(None), UNKNOWN),
    (job.c.exec_hosts.like('%","%'), SEVERAL_HOSTS),
    else_=cast(job.c.exec_hosts, String(_LONGEST_HOSTS)),
)
"""The list of one host as it stands, `["8*n1"]`: `named` takes the name out of it."""

_TOKEN = identity.c.token_issuer + "/" + identity.c.token_subject

DIMENSIONS: Mapping[str, ColumnElement[Any]] = {
    "vo": VO_OF_JOB,
    "queue": _or_unknown(job.c.queue),
    "user": _or_unknown(job.c.user_name),
    "cluster": _or_unknown(job.c.cluster),
    "group": _or_unknown(job.c.group_name),
    "project": _or_unknown(job.c.project),
    "outcome": case((usage.c.job_id.is_(None), NOT_JOINED), else_=usage.c.outcome),
    "site": _or_unknown(job.c.site),
    "ce": case((usage.c.identity_id.is_(None), NO_CE), else_=_or_unknown(identity.c.ce_id)),
    "submit_host": _or_unknown(job.c.submit_host),
    "state": job.c.state,
    "exit": _EXIT,
    "host": _HOSTS,
    "identity": case((usage.c.identity_id.is_(None), NO_IDENTITY), else_=func.coalesce(identity.c.dn, _TOKEN, UNKNOWN)),
}
"""Each a text that is never null. `ce` is the computing element of the identity a job was joined with; `exit` is `0`, `exit 1` or
`signal 9`; `host` is where a job ran, `SEVERAL_HOSTS` if there were several; `identity` is the DN, or issuer/subject of the
token, of whoever sent it through a computing element (not known of what is archived)."""

OF_LEDGER = frozenset(("vo", "outcome", "ce", "identity"))
"""Those that the ledger is needed for."""


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame of groups as the database gave them, with the names of hosts."""
    if "host" not in frame.columns:
        return frame
    names = {text: _host(text) for text in frame["host"].unique()}
    return frame.assign(host=frame["host"].map(names))


def _host(text: str) -> str:
    if text in {UNKNOWN, SEVERAL_HOSTS}:
        return text
    try:
        (one,) = json.loads(text)
    except ValueError:  # it was cut, or is of several
        return SEVERAL_HOSTS
    return str(one).partition("*")[2] or str(one)


@dataclass(frozen=True, slots=True)
class Where:
    """Which jobs are meant: a dimension and the names it may have. `%` in one stands for any text, `_` for itself.

    The names of one dimension are alternatives, and all dimensions are required; one without names is not asked for.
    Raises: ConfigError for what is no dimension.
    """

    of: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if wrong := [name for name in self.of if name not in DIMENSIONS]:
            raise ConfigError(f"usage cannot be restricted by {', '.join(wrong)}: use {', '.join(DIMENSIONS)}")

    @property
    def dimensions(self) -> list[str]:
        return [name for name, names in self.of.items() if names]

    @property
    def inexact(self) -> list[str]:
        """Dimensions that the database cannot decide alone: databases differ in what LIKE takes for the same letter."""
        return [name for name in self.dimensions if name == "host" or any("%" in text for text in self.of[name])]

    def conditions(self, named: Mapping[str, ColumnElement[Any]] = DIMENSIONS) -> list[ColumnElement[bool]]:
        """What the database can say: never too little, and too much of the `inexact` ones alone.

        `named`: what the dimensions are in the place of `DIMENSIONS`, where something else is asked than the tables.
        """
        return [_like(named[name], self.of[name]) for name in self.dimensions if name != "host"]

    def keep(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows of a frame, with the `inexact` dimensions as columns, that are meant."""
        for name in self.inexact:
            meant = meant_by(self.of[name])
            fits = {text: meant(text) for text in frame[name].unique()}
            frame = frame[frame[name].map(fits).astype(bool)]
        return frame


def meant_by(names: Iterable[str]) -> Callable[[str], bool]:
    """Whether a text is one of the names, of which there is at least one; `%` in them stands for any text.

    In time that is about linear in pattern and text: patterns are strangers', and expressions that try again could take hours.
    """
    exact: set[str] = set()
    patterns: list[list[str]] = []
    for name in names:
        first, *more = name.split("%")
        if more:
            patterns.append([first, *filter(None, more[:-1]), more[-1]])
        else:
            exact.add(first)
    return lambda text: text in exact or any(_fits(pieces, text) for pieces in patterns)


def _fits(pieces: Sequence[str], text: str) -> bool:
    """Whether a text begins with the first piece, ends with the last, and has the others between them in their order."""
    first, *inner, last = pieces
    place, end = len(first), len(text) - len(last)
    if end < place or not (text.startswith(first) and text.endswith(last)):
        return False
    for piece in inner:  # the earliest place leaves most room for the rest
        if (found := text.find(piece, place, end)) < 0:
            return False
        place = found + len(piece)
    return True


def _like(dimension: ColumnElement[Any], names: Sequence[str]) -> ColumnElement[bool]:
    exact = [name for name in names if "%" not in name]
    patterns = [re.sub("%+", "%", name).replace("!", "!!").replace("_", "!_") for name in names if "%" in name]
    return or_(and_(dimension.in_(exact)), *(dimension.like(pattern, escape="!") for pattern in patterns))
