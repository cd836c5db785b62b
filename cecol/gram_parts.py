"""What the logs that tell of a Globus (GRAM) job have in common: the job manager's id, and the rule that makes an identity.

A job comes through GRAM in pieces: the gatekeeper knows the distinguished name, LCMAPS the FQANs, the NGS VOMS accounting
log the VO, the job manager the batch job. All of them write the id of the job manager, which is the `part_key`:

    2010-05-30.00:14:02.0000024252.0000000000        local time of the connection, process id, number of the request

| kind       | Written by             | Its `usage`                                                              |
|------------|------------------------|--------------------------------------------------------------------------|
| job        | job manager, `has`     | lrms_job_id, join_id, array_index: an identity of its own, once complete |
| user       | job manager, `for`     | dn, peer                                                                 |
| account    | job manager, `mapped`  | account, uid, gid                                                        |
| connection | gatekeeper log         | dn, peer                                                                 |
| voms       | NGS VOMS accounting    | dn, uid, vos                                                             |
| mapping    | LCMAPS                 | dn, uid: each where stated                                               |
| fork       | job manager, `has`     | (nothing): no batch job, so that the others wait for none                |
| fqan       | LCMAPS                 | fqan; dn and is_first where it is said to be a user's primary one        |

A GRAM5 job manager serves many jobs under the id of the first request, so that a whole makes one identity a `has` line, and
that identity has the key and the time of this line. Without a DN there is none: the parts are held. The DN is the job
manager's, else the gatekeeper's, else that of VOMS or LCMAPS. FQANs come before a bare VO name.
What VOMS and LCMAPS say under another DN or uid is of another user and not taken: within a pilot, glexec maps the payload in
the environment of the pilot, job manager id and all.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from batchacct.model import IDENTITY, Record
from batchacct.parsing.contract import Completed, Completion, Part, Reject, Row, Whole
from batchacct.parsing.local_time import local_seconds
from cecol.blah import UNKNOWN_LRMS, VOMS_COLUMNS, batch_id, voms, who

if TYPE_CHECKING:
    from batchacct.parsing.contract import Source

    Told = dict[str, Any]

JM_ID = r"[0-9]{4}-[0-9]{2}-[0-9]{2}\.[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{1,20}\.[0-9]{1,20}"
SYSLOG = r"(?:[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.+Z-]{8,22}) [^\s\[\]]{1,255} "
"""Time and host of a syslog line; the program follows."""

LONGEST_BATCH_ID = 255

_JM_TIME = slice(0, 19)
_NAMING = ("user", "connection", "voms", "mapping", "fqan")
_NOT_A_DIGIT = re.compile(r"[^0-9]")
_LRMS_OF_MANAGER = {"lsf": "LSF", "pbs": "PBS", "torque": "PBS", "sge": "SGE", "slurm": "Slurm", "condor": "HTCondor"}
_SPELLINGS = (("/email=", "/emailaddress="), ("/e=", "/emailaddress="), ("/userid=", "/uid="))
"""One attribute, two spellings: which one is printed depends on the library (Globus, OpenSSL) and its age."""


class At(NamedTuple):
    """Where a part belongs: to which whole, and when it was written (Unix seconds)."""

    part_key: str
    logged_at: int


def local_time(text: str, what: str, source: Source) -> int:
    """Unix seconds of `YYYY-MM-DD.HH:MM:SS` on the clock of the source's host, whatever stands between its numbers.

    Raises: Reject, in which `what` names the time.
    """
    return local_seconds(map(int, _NOT_A_DIGIT.split(text)), source.zone, what)


def connection(jm_id: str, source: Source) -> At:
    """The whole of a JM id, and when the gatekeeper was asked: ids begin with it.  Raises: Reject."""
    return At(jm_id, local_time(jm_id[_JM_TIME], "the time in the JM id", source))


def part(source: Source, kind: str, at: At, told: Told, distinct: str = "") -> Part:
    """A part of a whole; `distinct` tells apart what one source can say several times in a second.  Raises: Reject."""
    cluster = source.cluster_of_ce(None)
    return Part(
        {
            "record_key": f"gram:{cluster}:{at.part_key}:{kind}:{at.logged_at}{distinct and ':'}{distinct}",
            "cluster": cluster,
            "part_key": at.part_key,
            "kind": kind,
            "logged_at": at.logged_at,
            "usage": json.dumps(told, ensure_ascii=False),
        }
    )


def batch_job(raw: str, manager: str) -> Record:
    """Columns that follow from a batch job id as a GRAM script gives it (`id|stdout|stderr`, id) and the kind of its manager.

    HTCondor's has three digits at least and the processes behind it, `007.000.000,007.001.000`.  Raises: Reject.
    """
    lrms_job_id = raw.partition("|")[0]
    if not lrms_job_id:
        raise Reject("the batch job id is missing")
    if len(lrms_job_id) > LONGEST_BATCH_ID:
        raise Reject(f"the batch job id is longer than {LONGEST_BATCH_ID} characters")
    lrms = _LRMS_OF_MANAGER.get(manager.lower().removeprefix("lcg"), UNKNOWN_LRMS)
    batch = batch_id(lrms_job_id)
    join_id = batch.join_id.lstrip("0") or batch.join_id if lrms == "HTCondor" and not batch.opaque else batch.join_id
    return {"lrms": lrms, "lrms_job_id": batch.lrms_job_id, "join_id": join_id, "array_index": batch.array_index}


def complete(whole: Whole) -> list[Completed]:
    """An identity for each batch job of a job manager whose user is known; see the module."""
    parts = sorted(whole.parts, key=_order)
    told = [(str(row["kind"]), cast("Told", json.loads(str(row["usage"])))) for row in parts]
    dn = next((t["dn"] for source in _NAMING for kind, t in told if kind == source and t.get("dn")), None)
    if dn is None:
        return []
    uid = next((t["uid"] for kind, t in told if kind == "account"), None)
    of_user = {
        "global_job_id": whole.key,
        "time_kind": "submit",
        "dn": dn,
        "local_user": _local_user(told, dn, uid),
        **dict(zip(VOMS_COLUMNS, _voms_columns(told, dn, uid), strict=True)),
    }
    jobs = {str(row["record_key"]): row for row in reversed(parts) if row["kind"] == "job"}
    return [Completed({**of_user, **_of_job(row)}, row) for row in sorted(jobs.values(), key=_order)]


def _order(row: Row) -> tuple[object, ...]:
    """In time; what was written in one second, in the order in which it was."""
    return row["logged_at"], row["source"], row["source_offset"], row["record_key"]


def _of_job(row: Row) -> Record:
    told = cast("Record", json.loads(str(row["usage"])))
    return {"record_key": row["record_key"], "recorded_at": row["logged_at"], **told}


def _local_user(told: list[tuple[str, Told]], dn: str, uid: int | None) -> str | None:
    """The account by its name, else by its number."""
    names = (t["account"] for kind, t in told if kind == "account")
    numbers = (str(t["uid"]) for _, t in told if t.get("uid") is not None and _is_of(t, dn, uid))
    return next(names, None) or next(numbers, None)


def _voms_columns(told: list[tuple[str, Told]], dn: str, uid: int | None) -> tuple[str | None, ...]:
    """The values of VOMS_COLUMNS: FQANs in order, else the first VO that is named."""
    of_lcmaps = [t for kind, t in told if kind in ("mapping", "fqan")]
    if all(_is_of(t, dn, uid) for t in of_lcmaps):
        columns = voms(t["fqan"] for t in sorted(of_lcmaps, key=lambda t: not t.get("is_first")) if "fqan" in t)
        if any(columns):
            return columns
    vos = (vo for kind, t in told if kind == "voms" and _is_of(t, dn, uid) for vo in t["vos"])
    vo = next(vos, None)
    return tuple(vo if name == "vo" else None for name in VOMS_COLUMNS)


def _is_of(told: Told, dn: str, uid: int | None) -> bool:
    """Whether what is said is of this user, as far as it says of whom it is."""
    other_uid = told.get("uid")
    return (told.get("dn") is None or _comparable(told["dn"]) == _comparable(dn)) and (uid is None or other_uid in (None, uid))


def _comparable(dn: str) -> str:
    spelled = dn.casefold()
    for one, other in _SPELLINGS:
        spelled = spelled.replace(one, other)
    return spelled


def user_of(raw: str) -> str | None:
    """The DN without what its proxies add; None for `unknown`.  Raises: Reject for what is no DN."""
    if raw == "unknown":
        return None
    dn = who(raw)[0]
    if dn is None:
        raise Reject("the DN does not begin with `/`")
    return dn


def settled(whole: Whole) -> bool:
    """Whether a job manager is known to have run something on the gatekeeper's own host alone: no batch job comes of it."""
    kinds = {row["kind"] for row in whole.parts}
    return "fork" in kinds and "job" not in kinds


COMPLETION = Completion("gram", IDENTITY, complete, settled=settled)
