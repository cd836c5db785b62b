"""A receiver's folder of messages, incoming, accepted, rejected (dirq's Queue): SSM's receiver fills it, APEL's loader reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dirq.queue import Queue

_SCHEMA = {"body": "string", "signer": "string", "empaid": "string?"}


@dataclass(frozen=True, slots=True)
class Kept:
    """A message as a receiver keeps it: the text without the ends of lines after it, who signed it, under which id it came."""

    body: str
    signer: str
    empa_id: str
    error: str = ""


class Spool:
    """The folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, body: str, signer: str, empa_id: str) -> None:
        """Puts a message among the incoming ones, as SSM's receiver does."""
        Queue(str(self.path / "incoming"), schema=_SCHEMA).add({"body": body, "signer": signer, "empaid": empa_id})

    @property
    def is_empty(self) -> bool:
        """Whether nothing is incoming any more."""
        return not self._elements("incoming")

    @property
    def incoming(self) -> list[Kept]:
        return self._kept("incoming")

    @property
    def accepted(self) -> list[Kept]:
        return self._kept("accept")

    @property
    def rejected(self) -> list[Kept]:
        return self._kept("reject")

    def _kept(self, name: str) -> list[Kept]:
        """Those of a queue, in order; each is a folder that is put there whole."""
        return [_message(element) for element in self._elements(name)]

    def _elements(self, name: str) -> list[Path]:
        return sorted((self.path / name).glob(f"{'[0-9a-f]' * 8}/{'[0-9a-f]' * 14}"))


def _message(element: Path) -> Kept:
    files = {file.name: file.read_text() for file in element.iterdir() if file.is_file()}
    return Kept(files["body"], files["signer"], files["empaid"], files.get("error", ""))
