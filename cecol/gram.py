"""Globus job manager accounting (JMA), by itself, in syslog, or mixed into the gatekeeper log: who submitted which batch job.

    JMA 2010/05/30 00:14:04 GATEKEEPER_JM_ID 2010-05-30.00:14:02.0000024252.0000000000 has GRAM_SCRIPT_JOB_ID 695392.sdb
    manager type pbs                                                                          (on one line)

A line is a unit. Three lines of a job are written together when its batch id is known, in local time. They, and lines of
other sources with the same JM id, are parts of one identity a `has` line; `cecol.gram_parts` has the rule.

| After the JM id                      | Part    | Fact                                                                       |
|--------------------------------------|---------|----------------------------------------------------------------------------|
| `for DN on peer`                     | user    | cut at the last ` on `; a DN `unknown` is skipped                          |
| `mapped to account (uid, gid)`       | account | local_user                                                                 |
| `has GRAM_SCRIPT_JOB_ID id manager   | job     | lrms_job_id, join_id; lrms by the type; its time is recorded_at, time_kind |
| type t`                              |         | submit                                                                     |
| `JM exiting`, `summary:`, any other  | skipped | `JM exiting` is not the end of the job                                     |

The id is cut at the first `|` (SGE: `id|stdout|stderr`), join_id is without server suffix. A `fork` job is a process: a part
that says so, for the others of its JM id to wait no longer. With JM id `none` the batch job is held (it has no DN), the other
lines are skipped. A `has` line that a restarted job manager repeats later is one more identity of the same job and says the
same; the join takes the nearest. The peer address is in the part's `usage` and `native`; global_job_id is the JM id; ce_id is
null, as no line names the gatekeeper.

Gatekeeper log: a message is two lines, `TIME: ...` and ` PID: n -- Notice: 5: ...`, and a failure goes on over more. Of all
that, one line is taken: `GATEKEEPER_JM_ID id for DN on peer` (part `connection`), which serves where the job manager's
`for` line is missing; its time is that in the JM id, so that the TIME line is not needed. A ping or a failure after it
leaves such a part without a job.

What begins as JMA or GATEKEEPER_JM_ID and is cut or damaged is a reject; any other line is skipped, its kind being the
reason. Sources: gridcf/gct gram/gatekeeper/source/globus_gatekeeper.c and gram/jobmanager/source; spbooth/SAFE-ACCOUNTING;
documentation of OSG, 2006 to 2011; samples of all in tests/samples/gram. A real JMA line of GRAM5 was not found.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from batchacct.model import IDENTITY, text_of
from batchacct.parsing.contract import Part, Reject, Skip, UnitParser
from cecol.blah import UNKNOWN_LRMS
from cecol.gram_fast import FastLane
from cecol.gram_parts import COMPLETION, JM_ID, SYSLOG, At, batch_job, connection, local_time, part, user_of

if TYPE_CHECKING:
    from batchacct.parsing.contract import Outcome, Source

NO_JM_ID = "no JM id, so that nothing joins it"
NO_USER = "the user is unknown to the job manager"
FORK = "manager type fork: a process, not a batch job"
EXITING = "the job manager exits"
SUMMARY = "summary of a job manager"
UNKNOWN_VERB = "another message of the job manager"
TIME = "time of the next message"
FAILURE = "failure of the gatekeeper"
NOTICE = "another message of the gatekeeper"
TEXT = "text without a head"

_IDENT = r"[^\s:\[\]]{1,64}(?:\[[0-9]{1,10}\])?: "
_TIME = r"[0-9]{4}/[0-9]{2}/[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}"
_HEAD = rf"(?:{SYSLOG}{_IDENT})?"
_JMA_HEAD = re.compile(rf"{_HEAD}JMA ".encode())
_JMA = re.compile(
    rf"{_HEAD}JMA (?P<time>{_TIME}) GATEKEEPER_JM_ID (?P<rest>.*)".encode(),
    re.DOTALL,
)
_MESSAGE = re.compile(rf" ?PID: [0-9]{{1,10}} -- |{SYSLOG}(?:globus-)?gatekeeper(?:\[[0-9]{{1,10}}\])?: ".encode())
_NOTICE = re.compile(rb"Notice: [0-9]{1,2}: +")
_JM_ID = re.compile(JM_ID)
_MAPPED = re.compile(r"mapped to (\S+) \(([0-9]{1,10}), ?([0-9]{1,10})\)")
_VERBS = ("for ", "mapped to ", "has GRAM_SCRIPT_JOB_ID ", "JM exiting")
_RECOGNISED = re.compile(
    rf"^{_HEAD}JMA {_TIME} GATEKEEPER_JM_ID |^ ?PID: [0-9]+ -- (?:Notice: [0-9]|Failure:)".encode(), re.MULTILINE
)


def recognise(head: bytes) -> bool:
    """A JMA line, or a gatekeeper's ` PID: n -- Notice: 5: ...`."""
    return _RECOGNISED.search(head) is not None


def parse_unit(unit: bytes, source: Source) -> Outcome:
    """One line to a part of an identity.  Raises: Reject."""
    if jma := _JMA.match(unit):
        return _of_job_manager(jma, source)
    if head := _JMA_HEAD.match(unit):
        if unit[head.end() :].startswith(b"-- end of summary"):
            return Skip(SUMMARY)
        raise Reject("a JMA line without time and GATEKEEPER_JM_ID")
    message = _MESSAGE.match(unit)
    return _of_gatekeeper(unit[message.end() if message else 0 :], source, has_head=message is not None)


def _of_job_manager(jma: re.Match[bytes], source: Source) -> Outcome:
    at = local_time(text_of(jma["time"]), "the time", source)
    jm_id, _, said = text_of(jma["rest"]).rstrip().partition(" ")
    known = _is_known(jm_id)
    if said.startswith("has GRAM_SCRIPT_JOB_ID "):
        return _job(jm_id, said.removeprefix("has GRAM_SCRIPT_JOB_ID "), at, source)
    if said.startswith(("for ", "mapped to ")):
        return _of_user(said, At(jm_id, at), source) if known else Skip(NO_JM_ID)
    if said == "JM exiting":
        return Skip(EXITING)
    if any(verb.startswith(said) for verb in _VERBS):
        raise Reject("the line is cut before it says anything of the job")
    return Skip(SUMMARY if said == "summary:" else UNKNOWN_VERB)


def _is_known(jm_id: str) -> bool:
    """Whether there is a JM id; `none` stands for none.  Raises: Reject for what is neither."""
    if jm_id != "none" and not _JM_ID.fullmatch(jm_id):
        raise Reject("GATEKEEPER_JM_ID is not YYYY-MM-DD.HH:MM:SS.process.request")
    return jm_id != "none"


def _job(jm_id: str, said: str, at: int, source: Source) -> Outcome:
    raw, named, manager = said.rpartition(" manager type ")
    if not named or not manager:
        raise Reject("the manager type is missing: the line is cut")
    columns = batch_job(raw, manager)
    if manager == "fork":
        return part(source, "fork", At(jm_id, at), {}) if jm_id != "none" else Skip(FORK)
    lrms, lrms_job_id = columns.pop("lrms"), columns["lrms_job_id"]
    if re.search(r"\s", str(lrms_job_id)):
        raise Reject("the batch job id holds a blank")
    key = jm_id if jm_id != "none" else f"none:{at}:{lrms_job_id}"
    made = part(source, "job", At(key, at), columns, str(lrms_job_id))
    return Part({**made.record, "lrms": lrms})


def _of_user(said: str, at: At, source: Source) -> Outcome:
    if said.startswith("for "):
        return _user("user", at, said.removeprefix("for "), source)
    mapped = _MAPPED.fullmatch(said)
    if not mapped:
        raise Reject("mapped to is not followed by account (uid, gid)")
    account, uid, gid = mapped.groups()
    return part(source, "account", at, {"account": account, "uid": int(uid), "gid": int(gid)})


def _user(kind: str, at: At, said: str, source: Source) -> Outcome:
    raw, named, peer = said.rpartition(" on ")
    if not named or not _is_address(peer):
        raise Reject("the address of the peer is missing: the line is cut")
    dn = user_of(raw)
    return part(source, kind, at, {"dn": dn, "peer": peer}) if dn else Skip(NO_USER)


def _is_address(peer: str) -> bool:
    if peer == "unknown":
        return True
    try:
        ipaddress.ip_address(peer)
    except ValueError:
        return False
    return True


def _of_gatekeeper(message: bytes, source: Source, *, has_head: bool) -> Outcome:
    notice = _NOTICE.match(message)
    said = message[notice.end() if notice else 0 :]
    if said.startswith(b"GATEKEEPER_JM_ID "):
        jm_id, _, rest = text_of(said).rstrip().removeprefix("GATEKEEPER_JM_ID ").partition(" ")
        if not rest.startswith("for "):
            raise Reject("GATEKEEPER_JM_ID without its user: the line is cut")
        if not _is_known(jm_id):
            return Skip(NO_JM_ID)
        return _user("connection", connection(jm_id, source), rest.removeprefix("for "), source)
    if said.startswith(b"Failure: "):
        return Skip(FAILURE)
    if notice or has_head:
        return Skip(NOTICE)
    return Skip(TIME if said.startswith(b"TIME: ") else TEXT)


PARSER = UnitParser(
    name="gram",
    record_type=IDENTITY,
    lrms=UNKNOWN_LRMS,
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    fast_lane=FastLane(lambda said, source: _of_user(said, At("", 0), source), exiting=EXITING),
    recognise=recognise,
    completion=COMPLETION,
)
