"""On which hosts jobs ran: which lists of host patterns they match, for benchmarks that are of some hosts alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, and_, insert, select

from batchacct.store.spans import Span
from batchacct.store.tables import job
from pub.scratch import on_hosts, todo
from pub.vo_map import matches

JOBS_AT_ONCE = 20_000
"""Of so many jobs the lists of hosts, which may be long, are in memory at once."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """Lists of patterns, by the JSON text they are kept as; a host is looked at once."""

    lists: Mapping[str, tuple[str, ...]]
    _of_host: dict[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, texts: Iterable[str | None]) -> Hosts:
        return cls({text: tuple(json.loads(text)) for text in texts if text is not None})

    def matching(self, exec_hosts: str | None) -> frozenset[str]:
        """The lists of which each host of a job matches a pattern; none where its hosts are not known."""
        names = host_names(exec_hosts)
        return frozenset.intersection(*map(self._matching_one, names)) if names else frozenset()

    def _matching_one(self, name: str) -> frozenset[str]:
        found = self._of_host.get(name)
        if found is None:
            found = frozenset(text for text, patterns in self.lists.items() if any(matches(name, p) for p in patterns))
            self._of_host[name] = found
        return found


def host_names(exec_hosts: str | None) -> frozenset[str]:
    """The hosts of a job record, `["8*n1","n2"]`; none where that is no list of names."""
    try:
        listed = json.loads(exec_hosts or "[]")
    except ValueError:
        return frozenset()
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        return frozenset()
    return frozenset(name if star and slots.isdecimal() else one for one in listed for slots, star, name in [one.partition("*")])


def note_hosts(connection: Connection, hosts: Hosts, logged: Span) -> Mapping[frozenset[str], int]:
    """Fills `on_hosts` for the jobs of `todo`, logged in that span, that match something: which lists a `kind` stands for."""
    kinds: dict[frozenset[str], int] = {}
    if not hosts.lists:
        return kinds
    of_job = and_(job.c.id == todo.c.job_id, job.c.logged_at == todo.c.logged_at, logged.has(job.c.logged_at))
    known = select(todo.c.job_id, job.c.exec_hosts).select_from(todo.join(job, of_job)).where(job.c.exec_hosts.is_not(None))
    after = -1
    while rows := connection.execute(known.where(todo.c.job_id > after).order_by(todo.c.job_id).limit(JOBS_AT_ONCE)).all():
        after = rows[-1].job_id
        found = [(row.job_id, lists) for row in rows if (lists := hosts.matching(row.exec_hosts))]
        if found:
            noted = [{"job_id": number, "kind": kinds.setdefault(lists, len(kinds))} for number, lists in found]
            connection.execute(insert(on_hosts), noted)
    return kinds
