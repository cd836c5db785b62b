"""What was imported from other programs' databases: which sources that made, and what is known of them.

A row of `setting` for each source, `import NAME`, written before the first record of it: appending asks for them, so that no run is
counted twice (`store.twins`), and so does publishing, as what the other program has published is not published again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

import numpy as np
from sqlalchemy import Connection, insert, select, update

from batchacct.store.sent import Numbers
from batchacct.store.tables import ROWS_PER_LOAD_BITS, load, setting, usage_history

_PREFIX = "import "


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

    One that was sent for since, by `republish` or by a correction, has an earlier row in the history, and is no such job.
    """
    by_source = {one.source: one.published_by for one in imports(connection) if one.published_by}
    if not by_source or not len(jobs):
        return {}
    numbers = np.unique(jobs >> ROWS_PER_LOAD_BITS)
    some = load.c.id.between(int(numbers[0]), int(numbers[-1])), load.c.source.in_(sorted(by_source))
    of_load = {row.id: by_source[row.source] for row in connection.execute(select(load.c.id, load.c.source).where(*some))}
    if not of_load:
        return {}
    near = usage_history.c.job_id.between(int(jobs.min()), int(jobs.max()))
    replaced = set(connection.scalars(select(usage_history.c.job_id).where(near)))
    told = {number: of_load.get(number >> ROWS_PER_LOAD_BITS) for number in jobs.tolist()}
    return {number: who for number, who in told.items() if who is not None and number not in replaced}
