"""HTCondor-CE: who submitted which batch job, from the history ads of jobs that came by it; `time_kind` is `end`.

    GlobalJobId = "ce.example.org#660818.0#1455209949"               orig_AuthTokenIssuer = "https://atlas-auth.cern.ch/"
    RoutedFromJobId = "660817.0"                                     orig_AuthTokenSubject = "7dee38a3-6ab8-4fe2-9e4c-58039c21d817"
    GridJobId = "batch pbs ce_9619_ce#660817.0#1455209943 pbs/20160211/3857720"

It reads what parser `htcondor` reads (`htcondor-ce-json`: what `htcondor-json` reads), and is never guessed, since such a file is
first of all one of jobs: name it in the configuration. Which history to give it:

- of an HTCondor batch system: that of the batch schedd, the very files of parser `htcondor`. The routed copy of a CE's job is
  there, with the identity; it joins to its job for certain, both being one ad.
- of any other batch system: that of the CE (`condor_ce_history`, /var/lib/condor-ce/spool/history); GridJobId is the batch job.

| column               | attribute                                                                                           |
|----------------------|-----------------------------------------------------------------------------------------------------|
| recorded_at          | CompletionDate where above 0, else EnteredCurrentStatus; Unix seconds; as the job's end               |
| lrms_job_id, join_id | GridJobId's last word: after its last `/`, as in a BLAH line (`pbs/20160211/3857720` is 3857720); of    |
|                      | type condor `ClusterId.ProcId`. Without GridJobId as parser `htcondor` has them: GlobalJobId; it with   |
|                      | RoutedFromJobId, else ClusterId (proc 0) or `ClusterId.ProcId`                                        |
| lrms                 | the type in GridJobId; HTCondor without                                                               |
| ce_id                | of a routed job `host:9619/host-lrms`, as htcondor-ce-apel writes it; host is the schedd's in GlobalJobId |
| global_job_id        | RoutedFromJobId, the CE's job id; else GlobalJobId where there is a GridJobId                         |
| dn                   | x509userproxysubject, without `/CN=proxy`, `/CN=limited proxy` at its end                             |
| token_issuer, -subject | orig_AuthTokenIssuer, orig_AuthTokenSubject; in ads that were not routed AuthTokenIssuer, -Subject   |
| fqan, fqans, vo, vo_group, vo_role | x509UserProxyFirstFQAN and those of x509UserProxyFQAN (`DN,FQAN,...`, with `&comma;` and  |
|                      | `&amp;`); without any, the groups of the token (orig_AuthTokenGroups, AuthTokenGroups), first = primary; |
|                      | without those, vo is x509UserProxyVOName, or null: then it is the issuer that says it, by configuration |
| local_user           | Owner                                                                                               |

A job may have a proxy and a token; then both are told, and the FQANs are the proxy's. Skipped: a CE's original of a routed job
(RoutedToJobId), whose copy tells the same; ads without identity, which are of local jobs; grid jobs that never reached a batch
system, or went to another site; jobs in the queue, on the submit host, and single attempts (as in parser `htcondor`).

Natural key: cluster, GlobalJobId. Sources: htcondor-ce router transforms and contrib/apelscripts/condor_batch_blah.py, gratia-probe
common/gratia/common/condor_ce.py; samples in tests/samples/htcondor-ce.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from batchacct.classad import Ad, json_ad
from batchacct.fqan import parse_fqan
from batchacct.model import IDENTITY, LAST_INSTANT, Record
from batchacct.parsing import Outcome, Reject, Skip, Source, UnitParser
from batchacct.parsing.ad_framing import AdFraming, history_ad
from batchacct.parsing.json_framing import Frame, JsonElements, element
from cecol.blah import UNKNOWN_LRMS, batch_id, who

HTCONDOR = "HTCondor"
FINISHED = (3, 4)
SUBMIT_HOST_UNIVERSES = (7, 12)
GRID_UNIVERSE = 9
BATCH_TYPES = frozenset({"batch", "pbs", "lsf", "sge", "slurm", "nqs"})
"""First word of a GridJobId whose last is a BLAH id."""
CE_PORT = 9619

_CONDOR_ID = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,18}))?")
_SHORT_NAMES = {HTCONDOR: "condor", "PBS": "pbs", "LSF": "lsf", "SGE": "sge", "Slurm": "slurm", UNKNOWN_LRMS: "batch"}


@dataclass(frozen=True, slots=True)
class BatchJob:
    """The batch job that an ad stands for: its id as the CE has it, the id that joins, its index, its batch system."""

    lrms_job_id: str
    join_id: str
    array_index: int | None
    lrms: str


def parse_unit(unit: bytes, source: Source) -> Outcome:
    """One ad in long form to who submitted its batch job.  Raises: Reject."""
    ad = history_ad(unit)
    return ad if isinstance(ad, Skip) else identity_of_ad(ad, source)


def parse_json_unit(unit: bytes, source: Source) -> Outcome:
    """The same of a JSON object.  Raises: Reject."""
    found = element(unit)
    return found.skip if isinstance(found, Frame) else identity_of_ad(json_ad(found), source)


def identity_of_ad(ad: Ad, source: Source) -> Outcome:
    """Who submitted the batch job of an ad; ads without either are skipped.  Raises: Reject."""
    reason = _why_not(ad)
    if reason:
        return Skip(reason)
    identity = _identity(ad)
    if not identity:
        return Skip("no identity: a local job")
    global_id = ad.text("GlobalJobId")
    if global_id is None:
        raise Reject("GlobalJobId is missing")
    batch = _batch_job(ad, global_id)
    if isinstance(batch, Skip):
        return batch
    routed_from = ad.text("RoutedFromJobId")
    ce_id = _ce_id(global_id, batch.lrms) if routed_from else None
    cluster = source.cluster_of_ce(ce_id)
    return identity | {
        "record_key": f"htcondor-ce:{cluster}:{global_id}",
        "cluster": cluster,
        "lrms": batch.lrms,
        "time_kind": "end",
        "recorded_at": _end(ad),
        "ce_id": ce_id,
        "lrms_job_id": batch.lrms_job_id,
        "array_index": batch.array_index,
        "join_id": batch.join_id,
        "global_job_id": routed_from or (global_id if "GridJobId" in ad else None),
        "local_user": ad.text("Owner"),
    }


def _why_not(ad: Ad) -> str | None:
    """Why an ad tells no identity of a batch job, if it does not.  Raises: Reject."""
    status = ad.integer("JobStatus")
    if status is None:
        raise Reject("JobStatus is missing")
    if status not in FINISHED:
        return "still in the queue"
    if ad.integer("JobUniverse") in SUBMIT_HOST_UNIVERSES:
        return "it ran on the submit host"
    if ad.get("RoutedToJobId") is not None:
        return "routed: its copy names identity and batch job"
    return None


def _identity(ad: Ad) -> Record:
    """The columns of the identity; empty if the ad has none."""
    dn = who(ad.text("x509userproxysubject") or "")[0]
    issuer, subject = (ad.text(f"orig_AuthToken{claim}") or ad.text(f"AuthToken{claim}") for claim in ("Issuer", "Subject"))
    fqans = _proxy_fqans(ad) or _groups(ad)
    vo = ad.text("x509UserProxyVOName")
    if not (dn or issuer or subject or fqans or vo):
        return {}
    record: Record = {"dn": dn, "token_issuer": issuer, "token_subject": subject, "vo": vo}
    if fqans:
        primary = parse_fqan(fqans[0])
        record |= {"fqan": fqans[0], "fqans": json.dumps(fqans, ensure_ascii=False)}
        record |= {"vo": primary.vo, "vo_group": primary.group, "vo_role": primary.role}
    return record


def _proxy_fqans(ad: Ad) -> list[str]:
    """The FQANs of the proxy, the primary first, each once."""
    _, *listed = (ad.text("x509UserProxyFQAN") or "").split(",")
    unescaped = [fqan.replace("&comma;", ",").replace("&amp;", "&") for fqan in listed]
    return [fqan for fqan in dict.fromkeys([ad.text("x509UserProxyFirstFQAN") or "", *unescaped]) if fqan]


def _groups(ad: Ad) -> list[str]:
    groups = ad.text("orig_AuthTokenGroups") or ad.text("AuthTokenGroups") or ""
    return [group for group in dict.fromkeys(part.strip() for part in groups.split(",")) if group]


def _batch_job(ad: Ad, global_id: str) -> BatchJob | Skip:
    """Raises: Reject for a GridJobId or ids of the ad that cannot be read."""
    words = (ad.text("GridJobId") or "").split()
    if words:
        return _grid_job(words)
    if ad.integer("JobUniverse") == GRID_UNIVERSE:
        return Skip("it never reached the batch system")
    number, proc = ad.integer("ClusterId"), ad.integer("ProcId")
    if number is None or proc is None:
        raise Reject("ClusterId or ProcId is missing")
    routed = ad.get("RoutedFromJobId") is not None
    return BatchJob(global_id, global_id if routed else _joined(number, proc), None, HTCONDOR)


def _grid_job(words: list[str]) -> BatchJob | Skip:
    """The batch job of a GridJobId in words: `batch pbs <job> pbs/20160211/3857720`, `condor <schedd> <pool> 128.0`."""
    kind = words[0].lower()
    if kind == "condor":
        match = _CONDOR_ID.fullmatch(words[-1])
        if not match:
            raise Reject("GridJobId of type condor does not end in cluster.proc")
        return BatchJob(words[-1], _joined(int(match[1]), int(match[2] or 0)), None, HTCONDOR)
    if kind not in BATCH_TYPES:
        return Skip("a grid job of another kind than batch")
    if "/" not in words[-1]:
        return Skip("it never reached the batch system")
    found = batch_id(words[-1])
    return BatchJob(found.lrms_job_id, found.join_id, found.array_index, found.lrms or UNKNOWN_LRMS)


def _joined(number: int, proc: int) -> str:
    """As parser `htcondor` spells a job that was not routed: BLAH knows the cluster alone, and means proc 0."""
    return f"{number}.{proc}" if proc else str(number)


def _ce_id(global_id: str, lrms: str) -> str | None:
    host = global_id.partition("#")[0].rpartition("@")[2]
    return f"{host}:{CE_PORT}/{host}-{_SHORT_NAMES.get(lrms, lrms.lower())}" if host else None


def _end(ad: Ad) -> int:
    """Unix seconds.  Raises: Reject where neither attribute is a time."""
    for name in ("CompletionDate", "EnteredCurrentStatus"):
        number = ad.number(name)
        if number:
            if not 0 < number <= LAST_INSTANT:
                raise Reject(f"{name} is impossible: before 1970 or after 2099")
            return int(number)
    raise Reject("neither CompletionDate nor EnteredCurrentStatus says when it ended")


PARSER = UnitParser(
    name="htcondor-ce",
    record_type=IDENTITY,
    lrms=HTCONDOR,
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    framing=AdFraming(),
)

JSON = UnitParser(
    name="htcondor-ce-json",
    record_type=IDENTITY,
    lrms=HTCONDOR,
    version=1,
    parse_unit=parse_json_unit,
    doc="HTCondor-CE history as JSON (`condor_ce_history -json`, `-jsonl`): the same ads as those of parser `htcondor-ce`.",
    framing=JsonElements(),
)
