"""LCMAPS (and LCAS) log lines that carry a job manager's id, in a log file or in syslog: FQANs, DN and uid of a Globus job.

    Dec  2 10:12:43 host l_l_gt4[2051]: 2011-12-02.10:06:26.0000002051.0000000000 : LCMAPS CRED FINAL: DN:"/DC=org/CN=A"->...

| Message after the JM id                                       | Part    | Fact                                     |
|---------------------------------------------------------------|---------|------------------------------------------|
| `LCMAPS CRED FINAL: DN:"dn"->mapped uid:'n',pgid:'n',...`     | mapping | dn, uid; some sites leave out `DN:"dn"->` |
| `LCMAPS CRED FINAL: FQAN:"fqan"->mapped group:n(name)`        | fqan    | one a line, in order                     |
| `...: User "dn" with first FQAN "fqan" Permitted at endpoint` | fqan    | of the SCAS client: the primary FQAN     |
| any other                                                     | skipped |                                          |

Heads: `LCMAPS 5: ` (1.4, where the JM id stands in the place of time and process), `lcmaps[n]   LOG_NOTICE: time Z: ` (1.6),
and syslog with any program, followed in 1.6 by `lcmaps: `. After it come the JM id and ` : ` or `: `. The local time in the
JM id is the part's: syslog has no year, and the stamps of 1.4 turn from local to GMT within a file. A line without a JM id
says who was mapped to which account and nothing of a job; it is skipped, for accounts are lent to one after the other. The
parts and what becomes of them: `cecol.gram_parts`.

Not read: glexec, which maps the payload within a pilot (`glexec`, `glexec.mon`, `glemon`, `glegumsi`).
The batch job is the pilot's, and so is its identity; a payload's lines are skipped, the pilot's JM id or not.

The JM id comes from the environment of LCMAPS: LCMAPS_LOG_STRING, of older ones JOB_REPOSITORY_ID or GATEKEEPER_JM_ID.

Sources: documentation of OSG, 2010 to 2012, and GridPP (samples in tests/samples/gram). A real line with both a JM id and a
final message was not found; the tests put the two together.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from batchacct.model import IDENTITY, content_hash, text_of
from batchacct.parsing.contract import Reject, Skip, UnitParser
from cecol.blah import UNKNOWN_LRMS
from cecol.gram_parts import COMPLETION, JM_ID, SYSLOG, At, connection, part, user_of

if TYPE_CHECKING:
    from batchacct.parsing.contract import Outcome, Source

NO_JM_ID = "no JM id, so that nothing joins it"
GLEXEC = "glexec: the payload of a pilot, whose job is the pilot's"
MESSAGE = "another message"

_HEAD = re.compile(
    rf"(?:{SYSLOG}(?P<program>[^\s:\[\]]{{1,64}})(?:\[[0-9#]{{1,21}}\])?: +(?:lcmaps: +)?"
    r"|LC(?:AS|MAPS) +[0-9]: "
    r"|(?:[^\s\[\]]{1,64}:)?lcmaps\[[0-9]{1,10}\] +LOG_[A-Z]+: [0-9]{4}-[0-9]{2}-[0-9]{2}\.[0-9:]{8}Z: )"
)
_OF_GLEXEC = re.compile(rb"gle(?:xec|mon|gumsi)[^\s\[]{0,16}\[")
_JM_ID = re.compile(rf"(?P<jm_id>{JM_ID}) ?: +")
_FINAL = "LCMAPS CRED FINAL:"
_MAPPED = re.compile(r"(?:DN:\"(?P<dn>[^\"]*)\"->)?mapped uid:'(?P<uid>[0-9]{1,10})'(?:,(?:pgid|sgid):'[0-9]{1,10}')*+")
_FQAN = re.compile(r"FQAN:\"(?P<fqan>[^\"]*)\"->mapped group:[0-9]{1,10}(?:\([^()]*\))?")
_FIRST = re.compile(r"User \"(?P<dn>[^\"]*)\" with first FQAN \"(?P<fqan>[^\"]*)\" Permitted at ")
_RECOGNISED = re.compile(
    rf"^(?:LC(?:AS|MAPS) +[0-9]: |(?:[^\s\[\]]{{1,64}}:)?lcmaps\[[0-9]+\] +LOG_[A-Z]+: "
    rf"|{SYSLOG}(?:l_l_gt4|\S+\]: lcmaps: |\S+\]: {JM_ID} : ))".encode(),
    re.MULTILINE,
)


def recognise(head: bytes) -> bool:
    """A line with a head of LCMAPS, in its own log or in syslog."""
    return _RECOGNISED.search(head) is not None


def parse_unit(unit: bytes, source: Source) -> Outcome:
    """One line to a part of an identity, if it is of a job.  Raises: Reject."""
    line = text_of(unit)
    head = _HEAD.match(line)
    if _OF_GLEXEC.match(unit) or (head and (head["program"] or "").startswith("glexec")):
        return Skip(GLEXEC)
    job_manager = _JM_ID.match(line, head.end()) if head else None
    if not job_manager:
        return Skip(NO_JM_ID)
    at = connection(job_manager["jm_id"], source)
    said = line[job_manager.end() :].strip()
    distinct = str(content_hash(unit))
    if said.startswith(_FINAL):
        return _of_final(said.removeprefix(_FINAL).strip(), at, distinct, source)
    if first := _FIRST.search(said):
        told = {"dn": user_of(first["dn"]), "fqan": _fqan(first["fqan"]), "is_first": True}
        return part(source, "fqan", at, told, distinct)
    return Skip(MESSAGE)


def _of_final(said: str, at: At, distinct: str, source: Source) -> Outcome:
    """What is said at the end of a mapping.  Raises: Reject where DN, uid or FQAN are not as they should be."""
    if mapped := _MAPPED.fullmatch(said):
        dn = mapped["dn"] and user_of(mapped["dn"])
        return part(source, "mapping", at, {"dn": dn or None, "uid": int(mapped["uid"])}, distinct)
    if fqan := _FQAN.fullmatch(said):
        return part(source, "fqan", at, {"fqan": _fqan(fqan["fqan"])}, distinct)
    if said.startswith("POOL_INDEX:"):
        return Skip(MESSAGE)
    raise Reject("a final message that is neither of a uid nor of an FQAN: the line is cut")


def _fqan(text: str) -> str:
    if not text.startswith("/"):
        raise Reject("the FQAN does not begin with `/`")
    return text


PARSER = UnitParser(
    name="lcmaps",
    record_type=IDENTITY,
    lrms=UNKNOWN_LRMS,
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    recognise=recognise,
    completion=COMPLETION,
)
