"""GRAM audit records (`*.gramaudit`): who submitted which batch job, one line a job, complete in itself.

    "https://localhost:49516/15835/1219088898/","15843","/DC=org/CN=A","alice","NULL","Mon Aug 18 19:48:18 UTC 2008", ...

| Field                    | Column                 | Fact                                                           |
|--------------------------|------------------------|----------------------------------------------------------------|
| 1 job_grid_id            | global_job_id          | the job contact                                                |
| 2 local_job_id           | lrms_job_id, join_id   | as in `cecol.gram`; NULL: never submitted, skipped             |
| 3 subject_name           | dn                     | NULL: nobody to account to, skipped                            |
| 4 username               | local_user             |                                                                |
| 6 creation_time          | recorded_at            | where queued_time is NULL                                      |
| 7 queued_time            | recorded_at, time_kind | UTC, and a reject without the word `UTC`; time_kind is submit  |
| 12 resource_manager_type | lrms                   | fork: the id is a process, skipped                             |

There are 15 fields, in GRAM5 16. The others are in `native` and given by `fields`: 5 idempotence_id, 8 to 10 stage-in,
stage-out and clean-up ids, 11 toolkit version, 13 job description, 14 success and 15 finished flag, 16 gateway user. All
are quoted, a quote within one is `&quot;`, NULL is that word. A record is written when the job is done or failed and
deleted once the audit database has it, so it can come after the batch record. There is no FQAN. A failed job's record is
one like the others: whether a batch job stands behind it, the join will find. What these records tell, the job managers'
log (`cecol.gram`) tells too: of one gatekeeper read one of the two, for two identities of the same second are a tie, which
the join holds. Source: globus/globus-toolkit gram/jobmanager/auditing; its test records are in tests/samples/gram.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING

from batchacct.model import IDENTITY, LAST_INSTANT, text_of
from batchacct.parsing.contract import Reject, Skip, UnitParser
from cecol.blah import UNKNOWN_LRMS
from cecol.gram import FORK
from cecol.gram_parts import batch_job, user_of

if TYPE_CHECKING:
    from batchacct.parsing.contract import Outcome, Source

FIELDS = (
    *("job_grid_id", "local_job_id", "subject_name", "username", "idempotence_id", "creation_time", "queued_time"),
    *("stage_in_grid_id", "stage_out_grid_id", "clean_up_grid_id", "globus_toolkit_version", "resource_manager_type"),
    *("job_description", "success_flag", "finished_flag", "gateway_user"),
)
NEVER_SUBMITTED = "never submitted to a batch system"
NO_SUBJECT = "no subject name"

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_TIME = re.compile(r"[A-Z][a-z]{2} ([A-Z][a-z]{2}) ([ 0-3][0-9]) ([0-9]{2}):([0-9]{2}):([0-9]{2}) UTC ([0-9]{4})")
_RECOGNISED = re.compile(
    rb'^"[^"\n]*"(?:,"[^"\n]*"){4},"(?:[A-Z][a-z]{2} ){2}[ 0-3][0-9] [0-9:]{8} (?:UTC )?[0-9]{4}"(?:,"[^"\n]*"){8}', re.MULTILINE
)


def recognise(head: bytes) -> bool:
    """A line of quoted fields with commas between them, the sixth a time `Mon Aug 18 19:48:18 UTC 2008`."""
    return _RECOGNISED.search(head) is not None


def fields(unit: bytes) -> dict[str, str | None]:
    """The fields of a record by name, NULL as None.  Raises: Reject."""
    line = text_of(unit.strip())
    if len(line) < 2 or line[0] != '"' or line[-1] != '"':
        raise Reject("the record does not begin and end with a quote")
    values = line[1:-1].split('","')
    if not len(FIELDS) - 1 <= len(values) <= len(FIELDS):
        raise Reject(f"15 or 16 fields are due, there are {len(values)}")
    if any('"' in value for value in values):
        raise Reject("a quote within a field")
    plain = (None if value == "NULL" else value.replace("&quot;", '"') for value in values)
    return dict(zip(FIELDS, plain, strict=False))


def parse_unit(unit: bytes, source: Source) -> Outcome:
    """One record to who submitted one batch job.  Raises: Reject."""
    values = fields(unit)
    created_at, queued_at = (_instant(name, values[name]) for name in ("creation_time", "queued_time"))
    grid_id, local_id, subject, manager = (
        values[name] for name in ("job_grid_id", "local_job_id", "subject_name", "resource_manager_type")
    )
    for flag in ("success_flag", "finished_flag"):
        if values[flag] not in ("true", "false"):
            raise Reject(f"{flag} is neither true nor false")
    recorded_at = queued_at or created_at
    if not grid_id or not manager or recorded_at is None:
        raise Reject("job_grid_id, resource_manager_type or both times are missing")
    if manager.lower() == "fork":
        return Skip(FORK)
    if not local_id:
        return Skip(NEVER_SUBMITTED)
    if not subject:
        return Skip(NO_SUBJECT)
    cluster = source.cluster_of_ce(None)
    return {
        "record_key": f"gram-audit:{cluster}:{grid_id}:{recorded_at}",
        "cluster": cluster,
        "time_kind": "submit",
        "recorded_at": recorded_at,
        "global_job_id": grid_id,
        "dn": user_of(subject),
        "local_user": values["username"] or None,
        **batch_job(local_id, manager),
    }


def _instant(name: str, text: str | None) -> int | None:
    """Unix seconds of `Mon Aug 18 19:48:18 UTC 2008`; None for NULL.  Raises: Reject."""
    if text is None:
        return None
    match = _TIME.fullmatch(text)
    if not match:
        raise Reject(f"{name} is not a time like Mon Aug 18 19:48:18 UTC 2008")
    month, day, hour, minute, second, year = match.groups()
    try:
        number = _MONTHS.index(month) + 1
        seconds = int(dt.datetime(int(year), number, int(day), int(hour), int(minute), int(second), tzinfo=dt.UTC).timestamp())
    except ValueError as error:
        raise Reject(f"{name} is a time that does not exist") from error
    if not 0 < seconds <= LAST_INSTANT:
        raise Reject(f"{name} is not between 1970 and 2099")
    return seconds


PARSER = UnitParser(
    name="gram-audit",
    record_type=IDENTITY,
    lrms=UNKNOWN_LRMS,
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    recognise=recognise,
)
