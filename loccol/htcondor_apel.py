"""HTCondor jobs as APEL's scripts write them: `accounting.*` of htcondor_acc.sh, `batch-*` of htcondor-ce-apel; one line a job.

    arcce.rl.ac.uk#2376.0#71589|tatls011|287|107|11|1435671643|1435671930|26636|26832|1|1|

| Column | Attribute            | becomes, its unit                                                                             |
|--------|----------------------|-----------------------------------------------------------------------------------------------|
| 1      | GlobalJobId          | lrms_job_id and join_id, as it is: lrmsID of the `blah-*` file beside; submit_host: the schedd's |
| 2      | Owner                | user_name                                                                                     |
| 3      | RemoteWallClockTime  | wall_duration_s, s: all attempts, suspension in it                                            |
| 4, 5   | RemoteUserCpu, -Sys- | cpu_user_s, cpu_system_s and their sum, s: the last attempt alone (what was evicted is lost)   |
| 6      | JobStartDate         | start_at, Unix seconds; 0 is a job that never started                                         |
| 7      | EnteredCurrentStatus | end_at, logged_at, Unix seconds                                                               |
| 8, 9   | ResidentSetSize_RAW, ImageSize_RAW | memory_real_kib, memory_virtual_kib, KiB                                        |
| 10     | RequestCpus          | processors                                                                                    |
| 11     | factor               | host_factor; absent or empty is null                                                          |

A `|` may end the line. APEL multiplies wall and CPU by the factor and cuts them to whole seconds (1.5 x 119 s is 178 s there);
here they stay as they were measured, and the factor stands beside them. `condor_history -format` prints nothing at all for an
attribute that is undefined, not even its `|`: the columns after it shift. So their number must be 10 or 11, and what a shift
within 11 makes of them must be possible: an end before the start, a part of a processor, and without factor an image of less than
a MiB that is smaller than what was resident, are rejects (of a docker job ImageSize_RAW is in MiB: the same as what was
resident). How a job ended is not told (state unknown); nor is a queue, a group or a time of submission, so that it joins by its
end. The same lines come again in each file of two months: they are known by then.

Natural key: cluster, GlobalJobId, the one of parser `htcondor`; of an id that is none (`3099992.0_host`, of the scripts before
2021) with start and end, since such ids come back. Sources: apel/apel scripts/htcondor_acc.sh, apel/parsers/htcondor.py, issue
266; htcondor-ce contrib/apelscripts/condor_batch_blah.py.
"""

from __future__ import annotations

import re
from decimal import Decimal

from batchacct.model import JOB, LAST_INSTANT, Record, text_of
from batchacct.parsing import Outcome, Reject, Source, UnitParser
from loccol.htcondor_ad import KIB_PER_MIB, MOST_SECONDS, half_even
from loccol.htcondor_apel_fast import SMALLEST_IMAGE_KIB, fast_lane

COLUMNS = (
    *("GlobalJobId", "Owner", "RemoteWallClockTime", "RemoteUserCpu", "RemoteSysCpu", "JobStartDate", "EnteredCurrentStatus"),
    *("ResidentSetSize_RAW", "ImageSize_RAW", "RequestCpus"),
)
MOST_COUNT = 2**63 - 1

_NUMBER = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?")
_FACTOR = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?(?:[eE][-+]?[0-9]{1,2})?")
_HEAD = re.compile(rb"[^|\n]+\|[^|\n]*(?:\|[0-9]+(?:\.[0-9]+)?){3}(?:\|[0-9]{1,10}){5}(?:\|[0-9.eE+-]*\|?)?\r?(?:\n|\Z)")


def parse_unit(unit: bytes, source: Source) -> Outcome:
    """One line to one job.  Raises: Reject for another number of columns, and for what cannot be in one."""
    fields = text_of(unit).split("|")
    if len(fields) == len(COLUMNS) + 2 and not fields[-1]:
        fields.pop()
    if len(fields) not in (len(COLUMNS), len(COLUMNS) + 1) or "" in (fields[0], fields[len(COLUMNS) - 1]):
        raise Reject("10 or 11 columns are due: an attribute that is undefined is left out with its column")
    values = dict(zip(COLUMNS, fields, strict=False))
    job_id = values["GlobalJobId"]
    start, end = (_whole(values, name, LAST_INSTANT) for name in ("JobStartDate", "EnteredCurrentStatus"))
    if end == 0:
        raise Reject("EnteredCurrentStatus is 0: the time the job ended is always known")
    if start > end:
        raise Reject("the job ended before it started: or a column is missing before these times")
    record: Record = {
        "record_key": f"htcondor:{source.cluster}:{job_id}" + ("" if job_id.count("#") == 2 else f":{start}:{end}"),
        "lrms_job_id": job_id,
        "join_id": job_id,
        "user_name": values["Owner"] or None,
        "submit_host": _schedd(job_id),
        "start_at": start or None,
        "end_at": end,
        "logged_at": end,
        "state": "unknown",
    }
    factor = _factor(fields[len(COLUMNS) :])
    used = _used(values, may_have_shifted=factor is None) | {"host_factor": factor}
    return record | (used if start else {"state": "never_started"})


def _used(values: dict[str, str], *, may_have_shifted: bool) -> Record:
    wall, user, system = (_seconds(values, name) for name in ("RemoteWallClockTime", "RemoteUserCpu", "RemoteSysCpu"))
    resident, image = (_whole(values, name, MOST_COUNT) for name in ("ResidentSetSize_RAW", "ImageSize_RAW"))
    processors = _whole(values, "RequestCpus", MOST_COUNT)
    if processors == 0:
        raise Reject("RequestCpus is 0")
    if may_have_shifted and image < min(resident, SMALLEST_IMAGE_KIB) and abs(image * KIB_PER_MIB - resident) > KIB_PER_MIB:
        raise Reject("ImageSize_RAW is no size of an image with so much resident: a column before it is missing")
    return {
        "wall_duration_s": half_even(wall),
        "cpu_user_s": float(user),
        "cpu_system_s": float(system),
        "cpu_duration_s": half_even(user + system),
        "processors": processors,
        "memory_real_kib": resident,
        "memory_virtual_kib": image,
    }


def _seconds(values: dict[str, str], name: str) -> Decimal:
    if not _NUMBER.fullmatch(values[name]):
        raise Reject(f"{name} is no number: or a column is missing before it")
    seconds = Decimal(values[name])
    if seconds >= MOST_SECONDS:
        raise Reject(f"{name} is impossible: 2,000,000,000 s and more")
    return seconds


def _whole(values: dict[str, str], name: str, most: int) -> int:
    if not _NUMBER.fullmatch(values[name]) or "." in values[name]:
        raise Reject(f"{name} is no whole number: or a column is missing before it")
    number = int(values[name])
    if number > most:
        raise Reject(f"{name} is impossible: too large")
    return number


def _factor(fields: list[str]) -> float | None:
    """The factor of the eleventh column.  Raises: Reject if there is something else in it."""
    if not fields or not fields[0]:
        return None
    if not _FACTOR.fullmatch(fields[0]) or not float(fields[0]):
        raise Reject("the eleventh column is no factor")
    return float(fields[0])


def _schedd(job_id: str) -> str | None:
    """The schedd's host in a GlobalJobId, `[name@]host#cluster.proc#time`."""
    schedd, mark, _ = job_id.partition("#")
    return (schedd.rpartition("@")[2] or None) if mark else None


PARSER = UnitParser(
    name="htcondor-apel",
    record_type=JOB,
    lrms="HTCondor",
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    fast_lane=fast_lane,
    recognise=lambda head: _HEAD.match(head) is not None,
)
