"""The tables of the 2012 batchacct: `loc`, the jobs of LSF, and `ce`, the identities of BLAH.

What one of its `published` says is that the job id was in a message at that time: it marked by job id alone, so that elements of an
array, and an id that came again, have it of each other. Nothing in the tables tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, select

from batchacct.errors import ConfigError
from batchacct.importing.foreign import Foreign, Question

JOBS, IDENTITIES = "loc", "ce"
PUBLISHED_BY = "published by the 2012 batchacct"
OLDER_LAYOUT = "event_time"

_NEEDED = (
    "eventTime",
    "jobId",
    "idx",
    "userName",
    "jStatus",
    "submitTime",
    "startTime",
    "queue",
    "ru_utime",
    "ru_stime",
    "published",
)
_OPTIONAL = (
    *("eventType", "version", "userId", "options", "numProcessors", "beginTime", "termTime", "resReq", "fromHost", "numAskedHosts"),
    *("askedHosts", "hostFactor", "numExHosts", "execHosts", "jobName", "command", "ru_minflt", "ru_majflt", "ru_nswap"),
    *("dependCond", "mailUser", "projectName", "exitStatus", "maxNumProcessors", "loginShell", "maxRMem", "maxRSwap", "exitInfo"),
    *("chargedSAAP", "app", "runtimeEstimation"),
)
_OF_IDENTITY = ("timestamp", "ceID", "lrmsID", "userFQAN")
_NEVER = "1970-01-03 00:00:00"
"""`published` of what was not is 1970-01-01 in the zone of the program."""


def figures(foreign: Foreign, table: str) -> Question:
    """What the totals are made of, of all rows of `loc`.  Raises: ConfigError, SourceError."""
    needed = ("eventTime", "jobId", "idx", "submitTime", "startTime", "ru_utime", "ru_stime")
    loc = foreign.table(table, needed, ("chargedSAAP",))
    return Question(JOBS, select(*loc.named("jobId", "idx")), loc["eventTime"], (loc["jobId"], loc["idx"]), table)


def jobs(foreign: Foreign, table: str, *, published: bool | None) -> Question:
    """The rows of `loc` that were published, those that were not, or all.  Raises: ConfigError, SourceError."""
    refuse_older(foreign, table)
    loc = foreign.table(table, _NEEDED, _OPTIONAL)
    never = foreign.instant(_NEVER)
    which: dict[bool | None, Sequence[ColumnElement[Any]]] = {
        None: (),
        True: (loc["published"] >= never,),
        False: ((loc["published"] < never) | loc["published"].is_(None),),
    }
    query = select(*loc.named("published")).where(*which[published])
    return Question(JOBS, query, loc["eventTime"], (loc["jobId"], loc["idx"]), table)


def identities(foreign: Foreign, table: str) -> Question:
    """The rows of `ce`.  Raises: ConfigError, SourceError."""
    ce = foreign.table(table, _OF_IDENTITY)
    return Question(IDENTITIES, select(*ce.named()), ce["timestamp"], (ce["lrmsID"],), table)


def refuse_older(foreign: Foreign, table: str) -> None:
    """Raises: ConfigError for a table of the layout before that, whose times are an hour or two off."""
    try:
        foreign.table(table, (OLDER_LAYOUT,))
    except ConfigError:
        return
    raise ConfigError(
        f"{foreign.shown_url}: the table {table} is of the layout before 2012's (`lsf_acc`), whose times are an hour or two off "
        "and whose hosts are cut: read the logs it came from instead, with `batchacct backfill`"
    )
