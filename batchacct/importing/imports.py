"""The two imports there are: of which steps each consists, and how the totals of its two sides are found."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, ClassVar, Protocol

from batchacct.config import Config
from batchacct.errors import ConfigError
from batchacct.fqan import parse_fqan
from batchacct.importing import layout_2012, layout_apel
from batchacct.importing.feed import values_of
from batchacct.importing.foreign import Foreign, Question
from batchacct.importing.layout_apel import ApelClient
from batchacct.importing.running import Step
from batchacct.importing.totals import Key, Sums, Totals, add, identities_here, jobs_here, month_of
from batchacct.parsing import Reject, Source
from batchacct.parsing.rows import RowValues
from batchacct.store import Store

MARKED, ALL, NONE = "marked", "all", "none"
"""Which jobs the other program has published: those it has marked so, all, or none."""

UNREADABLE = "no time"
"""The month of a row that has none, which is a reject."""


class Importing(Protocol):
    """One import of one database."""

    labels: ClassVar[tuple[str, ...]]
    """What tells the cells of its totals apart beside the month; a table shows the first."""

    @property
    def steps(self) -> list[Step]:
        """Identities first: no job is ever here without its own."""

    def there(self) -> Totals:
        """What the jobs come to by the foreign database."""

    def here(self, store: Store) -> Totals:
        """What those come to that were imported."""

    def identities(self, store: Store) -> tuple[Totals, Totals] | None:
        """The identities there and here, where the layout has any of their own."""


def _steps_of_jobs(step: Step, published: str, by: str, questions: dict[bool | None, Question]) -> Iterator[Step]:
    """The jobs in the one source or in two, apart by whether they were published."""
    name = step.source.name
    if published != ALL:
        yield replace(step, question=questions[False if published == MARKED else None])
    if published != NONE:
        source = replace(step.source, name=f"{name}-published")
        yield replace(step, source=source, question=questions[True if published == MARKED else None], published_by=by)


@dataclass(frozen=True, slots=True)
class Import2012:
    """Of a database of the 2012 batchacct; `zone` is that of the host which wrote it."""

    foreign: Foreign
    config: Config
    name: str
    cluster: str
    zone: str
    published: str = MARKED
    jobs_table: str = layout_2012.JOBS
    identities_table: str | None = layout_2012.IDENTITIES
    labels: ClassVar[tuple[str, ...]] = ("group",)

    @property
    def steps(self) -> list[Step]:
        """Raises: ConfigError if a table is not there, or of another layout; SourceError."""
        zone = zoneinfo.ZoneInfo(self.zone)
        source = Source(self.name, self.config.site, self.cluster, zone, tuple(self.config.ce.items()))
        kinds = {one: layout_2012.jobs(self.foreign, self.jobs_table, published=one) for one in (None, False, True)}
        step = Step(self.name, source, "loc-2012", kinds[None], self._cell, zone=self.zone)
        steps = list(_steps_of_jobs(step, self.published, layout_2012.PUBLISHED_BY, kinds))
        if self.identities_table:
            question = layout_2012.identities(self.foreign, self.identities_table)
            steps.insert(0, Step(self.name, replace(source, name=f"{self.name}-ce"), "ce-2012", question, _cell_of_ce))
        return steps

    def _ran(self, row: RowValues) -> tuple[int | None, int | None]:
        """When a job started and ended.  Raises: Reject."""
        zone = zoneinfo.ZoneInfo(self.zone)
        submit = row.instant("submitTime", zone)
        start = row.instant("startTime", zone, after=submit)
        return start, row.instant("eventTime", zone, after=start or submit)

    def _cell(self, row: RowValues) -> Key:
        try:
            _, end = self._ran(row)
        except Reject:
            end = None
        return _cell_of_loc(row, end)

    def there(self) -> Totals:
        """Each row's times are converted and its CPU time is rounded one by one, as SQL would do otherwise on each database."""
        found = Totals()
        for row in values_of(self.foreign, layout_2012.figures(self.foreign, self.jobs_table)):
            try:
                start, end = self._ran(row)
                used = [row.number("ru_utime"), row.number("ru_stime")]
            except Reject:
                start = end = None
                used = []
            known = [seconds for seconds in used if seconds is not None and seconds >= 0]
            cpu = int(sum(known, Decimal()).to_integral_value(ROUND_HALF_EVEN)) if len(known) == 2 else 0
            add(found, _cell_of_loc(row, end), Sums(1, end - start if start is not None and end is not None else 0, cpu))
        return found

    def here(self, store: Store) -> Totals:
        sources = (self.name, f"{self.name}-published")
        return jobs_here(store, sources, lambda month, told: (month, told[0] or "-"), "group_name")

    def identities(self, store: Store) -> tuple[Totals, Totals] | None:
        if not self.identities_table:
            return None
        there = Totals()
        for row in values_of(self.foreign, layout_2012.identities(self.foreign, self.identities_table)):
            add(there, _cell_of_ce(row), Sums(1, 0, 0))
        return there, identities_here(store, f"{self.name}-ce", lambda month, told: (month, told[0] or "-"), "vo")


def _cell_of_loc(row: RowValues, end: int | None) -> Key:
    group = (row.text("chargedSAAP") or "").removeprefix("/").partition("/")[0] or "-"
    return (UNREADABLE if end is None else month_of(end), group)


def _cell_of_ce(row: RowValues) -> Key:
    try:
        at = row.instant("timestamp", zoneinfo.ZoneInfo("UTC"))
    except Reject:
        at = None
    return (UNREADABLE if at is None else month_of(at), parse_fqan(row.text("userFQAN") or "").vo or "-")


@dataclass(frozen=True, slots=True)
class ImportApel:
    """Of the database of an APEL client."""

    foreign: Foreign
    config: Config
    name: str
    published: str = MARKED
    labels: ClassVar[tuple[str, ...]] = ("VO", "submit host")

    @property
    def steps(self) -> list[Step]:
        """Raises: ConfigError if a table is not there, a batch system is not configured, or what was published is not known."""
        client = ApelClient(self.foreign)
        machines = self._clusters(client.machines())
        kinds = {one: client.joined(published=one) for one in (None, False, True)}
        if self.published == MARKED and not client.has_sent():
            raise ConfigError(
                f"{self.foreign.shown_url} does not say which records were sent (a client that sends summaries does not note it): "
                "say --published all if the client has published all of them, --published none if it has published nothing"
            )
        source = Source(self.name, self.config.site, None, ce_clusters=machines)
        step = Step(self.name, source, "apel-jobs", kinds[None], _cell_of_apel)
        steps = list(_steps_of_jobs(step, self.published, layout_apel.PUBLISHED_BY, kinds))
        events = replace(step, source=replace(source, name=f"{self.name}-events"), question=client.unjoined())
        only = machines[0][1] if len(machines) == 1 else None
        by_ce = replace(source, name=f"{self.name}-blah", cluster=only, ce_clusters=tuple(self.config.ce.items()))
        of_jobs = replace(source, name=f"{self.name}-who")
        return [
            Step(self.name, by_ce, "apel-identities", client.identities(), _cell_of_apel),
            Step(self.name, of_jobs, "apel-identities", client.identities_of_jobs(), _cell_of_apel, of_jobs=True),
            *steps,
            events,
        ]

    def _clusters(self, machines: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """The clusters whose LRMS servers these are.  Raises: ConfigError naming those that are none's."""
        known = {one.machine_name or one.name: one.name for one in self.config.cluster}
        if missing := sorted(set(machines) - set(known)):
            raise ConfigError(
                f"{self.foreign.shown_url} has jobs of {', '.join(missing)}: add a [[cluster]] with that machine_name for each"
            )
        return tuple((machine, known[machine]) for machine in sorted(set(machines)))

    def there(self) -> Totals:
        return ApelClient(self.foreign).summed()

    def here(self, store: Store) -> Totals:
        events = f"{self.name}-events"

        def label(month: str, told: tuple[Any, ...]) -> Key:
            source, group, vo, ce_id, who = told
            if source == events:
                return layout_apel.key_of(month, None, None, None)
            return layout_apel.key_of(month, layout_apel.LOCAL if who is None else None, group if who is None else vo, ce_id)

        sources = (self.name, f"{self.name}-published", events)
        return jobs_here(store, sources, label, "source", "group_name", with_identities=True)

    def identities(self, store: Store) -> tuple[Totals, Totals] | None:
        del store
        return None


def _cell_of_apel(row: RowValues) -> Key:
    try:
        end = row.instant("EndTime", zoneinfo.ZoneInfo("UTC"))
    except Reject:
        end = None
    month = UNREADABLE if end is None else month_of(end)
    if row.table == layout_apel.EVENTS:
        return layout_apel.key_of(month, None, None, None)
    return layout_apel.key_of(month, row.text("InfrastructureType"), row.text("VO"), row.text("SubmitHost"))
