"""What was imported from other programs' databases: which sources that made, and what is known of them.

A row of `setting` for each source, `import NAME`, written before the first record of it: appending asks for them, so that no run is
counted twice (`store.twins`), and so does publishing, as what the other program has published is not published again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from sqlalchemy import Connection, insert, select, update

from batchacct.store.sent import Numbers
from batchacct.store.tables import ROWS_PER_LOAD_BITS, load, setting, usage, usage_history

_PREFIX = "import "
JOBS_PER_QUERY = 500
DECIDED_ANEW = "another identity or outcome"
"""Why a row of the ledger was replaced that the join decided anew, unasked."""


@dataclass(frozen=True, slots=True)
class Import:
    """A source of imported records.

    family: the import it is of; `zone` is that of local times, if the database has such; `last_at`: no record of it is of later
    (Unix seconds); `published_by`: who has published the jobs, None if nobody has; `of_jobs`: they are the identities with which
    the other program has joined its jobs, each of the time its job ended.
    """

    source: str
    family: str
    record_type: str
    last_at: int
    zone: str | None = None
    published_by: str | None = None
    of_jobs: bool = False


def note_import(connection: Connection, new: Import, now: int) -> None:
    """Writes it down, or what is new of it."""
    name = _PREFIX + new.source
    known = next((one for one in imports(connection) if one.source == new.source), None)
    value = json.dumps(asdict(replace(new, last_at=max(new.last_at, known.last_at if known else 0))))
    if known is None:
        connection.execute(insert(setting).values(name=name, value=value, since=now))
    else:
        connection.execute(update(setting).where(setting.c.name == name).values(value=value, since=now))


# Built once: every block asks.
_IMPORTS = select(setting.c.value).where(setting.c.name.between(_PREFIX, _PREFIX + "~")).order_by(setting.c.name)


def imports(connection: Connection) -> list[Import]:
    """All of them."""
    return [Import(**json.loads(value)) for value in connection.scalars(_IMPORTS)]


def published_elsewhere(connection: Connection, jobs: Numbers) -> dict[int, str]:
    """Of some jobs in the ledger those that another program has published, and which.

    One that was sent for since, by `republish` or by what came from elsewhere, is no such job. An identity of its own import that
    came after it (the import was interrupted, and something published) changes nothing.
    """
    by_source = {one.source: one for one in imports(connection)}
    if not any(one.published_by for one in by_source.values()) or not len(jobs):
        return {}
    of_load = _imports_of_loads(connection, by_source, np.unique(jobs >> ROWS_PER_LOAD_BITS).tolist())
    told = {number: of_load.get(number >> ROWS_PER_LOAD_BITS) for number in jobs.tolist()}
    held = {number: one for number, one in told.items() if one is not None and one.published_by is not None}
    if not held:
        return {}
    decided = _decided_since(connection, jobs, held.keys())
    loads = {number >> ROWS_PER_LOAD_BITS for some in decided.values() for number in some if number is not None}
    identities = _imports_of_loads(connection, by_source, sorted(loads))
    families = {number: one.family for number, one in identities.items()}
    own = {
        number
        for number, some in decided.items()
        if all(one is not None and families.get(one >> ROWS_PER_LOAD_BITS) == held[number].family for one in some)
    }
    return {number: str(one.published_by) for number, one in held.items() if number not in decided or number in own}


def _imports_of_loads(connection: Connection, by_source: Mapping[str, Import], loads: Sequence[int]) -> dict[int, Import]:
    """Those of some loads (in order) that were imported."""
    if not loads:
        return {}
    some = load.c.id.between(loads[0], loads[-1]), load.c.source.in_(sorted(by_source))
    return {row.id: by_source[row.source] for row in connection.execute(select(load.c.id, load.c.source).where(*some))}


def _decided_since(connection: Connection, jobs: Numbers, held: Collection[int]) -> dict[int, list[int | None]]:
    """For those jobs whose first row was replaced: the identity of each row since, None also for one that was asked for."""
    near = int(jobs.min()), int(jobs.max())
    columns = usage_history.c.job_id, usage_history.c.identity_id, usage_history.c.why
    found: dict[int, list[int | None]] = {}
    asked_for: set[int] = set()
    replaced = select(*columns).where(usage_history.c.job_id.between(*near)).order_by(usage_history.c.id)
    for number, who, why in connection.execute(replaced):
        if number in held:
            found.setdefault(number, []).append(who)
            if why != DECIDED_ANEW:
                asked_for.add(number)
    now: dict[int, int | None] = {}
    numbers = sorted(found)
    for start in range(0, len(numbers), JOBS_PER_QUERY):
        some = select(usage.c.job_id, usage.c.identity_id).where(usage.c.job_id.in_(numbers[start : start + JOBS_PER_QUERY]))
        now |= {row.job_id: row.identity_id for row in connection.execute(some)}
    return {number: [None] if number in asked_for else [*some[1:], now.get(number)] for number, some in found.items()}
