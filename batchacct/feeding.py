"""Sources that are asked rather than followed: a program (`sacct`) or another system's database.

A feed answers with bytes, which go through a parser like those of a file. How far it was asked is a cursor, a text of the feed's
own, stored once the whole answer is; an answer that was stored in part is asked for again, and what is known of it is skipped.
So a feed may, and where its system registers things late must, overlap with what it answered before.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

from pydantic import ValidationError

from batchacct.config import Section
from batchacct.errors import ConfigError, SourceError
from batchacct.parsing import Source, registry
from batchacct.parsing.reading import Readable

FEEDS = "batchacct.feeds"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: what was asked (it stands where a file's path does), the bytes, and the cursor once they are stored.

    Leaving `opened` ends the asking.  Raises there: SourceError if the answer was not complete; then the cursor is not stored.
    """

    question: str
    opened: AbstractContextManager[Readable]
    cursor: str


class Feed(Protocol):
    """Anything registered under `batchacct.feeds`, once made with a source's options."""

    def ask(self, cursor: str | None, now: int) -> Iterator[Answer]:
        """What is new since `cursor` (None: never asked), as of `now` (Unix seconds), in one or several answers, oldest first.

        Raises: SourceError if it cannot be asked.
        """


MakeFeed = Callable[[Source, Sequence[str], Mapping[str, str]], Feed]
"""From the source, its paths and its `feed_options`.  Raises: ConfigError naming the option that is wrong, and what is right."""


def cursor_seconds(feed_name: str, cursor: str) -> int:
    """A cursor that is Unix seconds.  Raises: SourceError for another one."""
    if not re.fullmatch(r"[0-9]{1,12}", cursor):
        raise SourceError(
            f"the stored cursor {cursor!r} is not of the feed {feed_name}, whose cursors are Unix seconds: rename the source"
        )
    return int(cursor)


OptionsT = TypeVar("OptionsT", bound=Section)


def checked_options(kind: type[OptionsT], source: Source, options: Mapping[str, str]) -> OptionsT:
    """`feed_options` of a source as a section of the feed's own.  Raises: ConfigError naming everything that is wrong."""
    try:
        return kind.model_validate(dict(options))
    except ValidationError as error:
        told = "; ".join(_told(kind, str(e["loc"][0]), e["type"], e["msg"]) for e in error.errors(include_url=False))
        raise ConfigError(f"source {source.name}, feed_options: {told}") from error


def _told(kind: type[Section], name: str, what: str, message: str) -> str:
    if what == "extra_forbidden":
        near = difflib.get_close_matches(name, kind.model_fields, 1)
        return f"there is no {name}; " + (f"did you mean {near[0]}?" if near else f"there are {', '.join(kind.model_fields)}")
    return f"{name}: {message.removeprefix('Value error, ')}"


def feed(name: str, source: Source, paths: Sequence[str], options: Mapping[str, str]) -> Feed:
    """The feed registered under `name`, made for a source.  Raises: PluginError, ConfigError."""
    return cast("MakeFeed", registry.load(FEEDS, name))(source, paths, options)
