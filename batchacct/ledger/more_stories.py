"""What else there is to tell of a job: rooms and plug-ins tell it, under the entry point group `batchacct.stories`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from sqlalchemy import Connection, Row

from batchacct.errors import PluginError
from batchacct.parsing import registry

STORIES = "batchacct.stories"


@dataclass(frozen=True, slots=True)
class AskedJob:
    """The job a story is told of: as both sides of a join spell it, and its run, a row of `job`; None: no run of it is recorded.

    `array_index` is None for a job that is no array element, and, where there is no run, also if none was asked for.
    """

    join_id: str
    array_index: int | None
    run: Row[Any] | None


class MoreOfJob(Protocol):
    """Anything registered under `STORIES`."""

    def __call__(self, connection: Connection, asked: AskedJob) -> Iterator[str]:
        """Lines about a job, or a run of it, each beginning with two blanks if it is of a run; none if there is nothing to tell."""


def registered() -> list[MoreOfJob]:
    """Those there are, by name; in the place of a broken one something that tells so."""
    return [_loaded(name) for name in registry.names(STORIES)]


def _loaded(name: str) -> MoreOfJob:
    try:
        return cast("MoreOfJob", registry.load(STORIES, name))
    except PluginError as error:
        message = error.message

        def tell(connection: Connection, asked: AskedJob) -> Iterator[str]:
            del connection, asked
            yield f"  {message}"

        return tell


def told_more(connection: Connection, tellers: Sequence[MoreOfJob], asked: AskedJob) -> Iterator[str]:
    for tell in tellers:
        yield from tell(connection, asked)
