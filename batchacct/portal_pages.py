"""What rooms and plug-ins show in the portal: tables, which it draws, guards and gives to download.

Under the entry point group `batchacct.portal_pages` a page of a period, under `batchacct.portal_job_sheets` tables of one job. They
give values, never markup. Whoever asks may be kept to the own accounts: what is of others must then be in no row and no note.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Connection, Row

from batchacct.config import Config
from batchacct.store import Store

PAGES = "batchacct.portal_pages"
JOB_SHEETS = "batchacct.portal_job_sheets"

Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table: what it shows, rows for people under their `columns`, the same rows as values for programs, and notes."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    values: Sequence[Mapping[str, Cell]]
    notes: Sequence[str] = ()
    more_rows: int = 0
    """So many rows are left out."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Something to choose: its name in addresses, what is written beside it, and name -> text of what there is to choose from.

    Without `options` it is any text.
    """

    name: str
    label: str
    options: Mapping[str, str] = field(default_factory=dict)
    default: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A period in Unix seconds, its end exclusive; what was chosen, by names; and at most how many rows are shown.

    `accounts`: the only ones whose processes may be told of; None: everybody's.
    """

    begin: int
    end: int
    chosen: Mapping[str, str]
    limit: int
    accounts: tuple[str, ...] | None = None


class Page(Protocol):
    """Anything registered under `PAGES`."""

    title: str
    doc: str
    """One sentence below the title."""

    def choices(self, accounts: tuple[str, ...] | None) -> Sequence[Choice]:
        """What there is to choose for somebody who sees the processes of these accounts alone; None: everybody's."""

    def sheet(self, store: Store, config: Config, asked: Asked) -> Sheet:
        """Raises: ConfigError, IncompleteError if there is nothing to tell, StoreError, ArchiveError."""


class JobSheets(Protocol):
    """Anything registered under `JOB_SHEETS`."""

    def __call__(
        self, connection: Connection, run: Row[Any], limit: int, accounts: tuple[str, ...] | None = None
    ) -> Iterator[Sheet]:
        """Tables of a run of a job, a row of `job`, of at most so many rows each; none if there is nothing to tell.

        `accounts`: the only ones of whose processes more than the number may be told; None: everybody's.
        """
