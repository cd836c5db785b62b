"""What a parser knows of the health of whatever writes its files, beyond what stands in them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol, runtime_checkable

from batchacct.parsing.contract import Parser, Source


@runtime_checkable
class Watchful(Protocol):
    """A parser whose files may stop growing without a sign in them."""

    def troubles(self, source: Source, paths: Collection[str]) -> list[str]:
        """Whole sentences, one for each reason why what belongs into these files is not written; it looks at the host itself."""


def troubles(parser: Parser, source: Source, paths: Collection[str]) -> list[str]:
    """What a parser has to tell of these files of a source."""
    return parser.troubles(source, paths) if isinstance(parser, Watchful) else []
