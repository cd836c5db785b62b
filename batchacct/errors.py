"""Every error batchacct raises on purpose: what went wrong, where, and what to do about it.

Each class carries the exit status of a command that ends with it; the statuses are unique (tested), so that a cron job or a
unit can tell them apart. `Transient` and `Permanent` are what retry loops look at, and they look at nothing else.
"""

from __future__ import annotations


class Transient:
    """Trying the same thing again later can succeed."""


class Permanent:
    """Trying the same thing again will fail in the same way."""


class BatchacctError(Exception):
    """Base of all of them; `message` is one or more whole sentences for the person who ran the command."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ConfigError(Permanent, BatchacctError):
    """The configuration, or an option, cannot be used as it stands."""

    exit_code = 3


class ParseError(Permanent, BatchacctError):
    """A whole source cannot be parsed (a single unit that cannot be is a reject, and no error)."""

    exit_code = 4

    def __init__(self, parser: str, source: str, offset: int, reason: str) -> None:
        super().__init__(f"{source}, byte {offset}: {reason} (parser {parser})")
        self.parser = parser
        self.source = source
        self.offset = offset
        self.reason = reason


class RecordError(Permanent, BatchacctError):
    """A value does not fit the column of the record type it was given for."""

    exit_code = 5


class CheckpointError(Permanent, BatchacctError):
    """A stored position and the file it belongs to contradict each other; nothing is guessed."""

    exit_code = 6


class StoreError(Transient, BatchacctError):
    """The database could not be reached, or refused what it was asked."""

    exit_code = 7


class SchemaError(Permanent, BatchacctError):
    """The database holds no schema, or one of another version than this program's."""

    exit_code = 8


class PublishError(Transient, BatchacctError):
    """A message could not be handed over; it stays in the outbox, unsent."""

    exit_code = 9


class SourceError(Transient, BatchacctError):
    """A file could not be opened or read."""

    exit_code = 10


class PluginError(Permanent, BatchacctError):
    """A parser, format, transport or command is not installed, or broken."""

    exit_code = 11


class BusyError(Transient, BatchacctError):
    """Another process is doing this very work on this database."""

    exit_code = 12


class IncompleteError(Permanent, BatchacctError):
    """The work was done as far as possible, but not all of it worked; the message says what was left."""

    exit_code = 13


class HorizonError(CheckpointError):
    """Records are of a month that was archived, and may be counted already; they are refused, and the position is not moved."""

    exit_code = 20


class ArchiveError(Permanent, BatchacctError):
    """A file of the archive could not be written, is missing, or is not what was written; nothing is lost from the database."""

    exit_code = 21


class DifferenceError(Permanent, BatchacctError):
    """Two accounts that should say the same do not; which records differ, and in what, was told before."""

    exit_code = 23
