"""NGS VOMS accounting log, written by an LCAS/LCMAPS plug-in: the VO of a Globus job, one record an authorisation.

    jid:2010-05-30.00:24:11.0000012793.0000000000.jobmanager-pbs dn:"/C=UK/CN=A" uid:618
    vo0:"vomss://voms.ngs.ac.uk:8443/voms/ngs.ac.uk" poolindex:"%2fc%3duk%2fcn%3da"            (on one line)

| Field      | Of the part         | Fact                                                                         |
|------------|---------------------|------------------------------------------------------------------------------|
| jid        | part_key, logged_at | JM id, local time, and the service: `ssh`, or any but a job manager, skipped |
| dn         | dn                  | trailing `/CN=proxy`, `/CN=limited proxy` cut                                |
| uid        | uid                 | that of the job manager's `mapped to`                                        |
| vo0, vo1.. | vos                 | last element of the URL, in their order; the first is the identity's VO      |
| poolindex  |                     | the DN, URL-encoded, in lower case: in `native` only                         |

It names no batch job: its records are parts (kind `voms`) of the identity with this JM id, see `cecol.gram_parts`. There is
no FQAN: the identity has a VO, and neither group nor role. Where one jid is recorded twice, the first counts, as for SAFE.
The writer can lose a newline, so that a record begins wherever `jid:` and a digit stand, or a line does; what lost its end
is a reject. Sources: spbooth/SAFE-ACCOUNTING (VomsAccountingTest), its sample in tests/samples/gram; that there can be
several VOs follows from the name `vo0`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from batchacct.model import IDENTITY, content_hash, text_of
from batchacct.parsing.contract import Reject, Skip, UnitParser
from batchacct.parsing.framing import LINES
from cecol.blah import UNKNOWN_LRMS
from cecol.gram_parts import COMPLETION, JM_ID, connection, part, user_of

if TYPE_CHECKING:
    from batchacct.parsing.contract import Outcome, Source

NO_JOB_MANAGER = "a service that runs no jobs"

_RECORD = re.compile(rb"jid:(?=[0-9])")
_HEAD = re.compile(rf"jid:(?P<jm_id>{JM_ID})\.(?P<service>[^\s\"]+) ")
_FIELD = re.compile(r'([a-z]+[0-9]*):(?:"([^"]*)"|([0-9]{1,10}))(?: +|$)')
_VO = re.compile(r"vo([0-9]{1,3})")
_RECOGNISED = re.compile(rf'^jid:{JM_ID}\.\S+ dn:"'.encode(), re.MULTILINE)


class GluedFraming:
    """Records that begin with `jid:` and a digit; several can stand on a line, and none goes beyond its end."""

    def cut(self, data: bytes, *, final: bool) -> int:
        """All whole lines, and of an unfinished one all records but the last."""
        if final:
            return len(data)
        line = data.rfind(b"\n") + 1
        begins = [match.start() for match in _RECORD.finditer(data, line)]
        return begins[-1] if begins else line

    def spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        for start, end in LINES.spans(data):
            begins = [match.start() for match in _RECORD.finditer(data, start + 1, end)]
            for begin, stop in zip([start, *begins], [*begins, end], strict=True):
                if data[begin:stop].strip():
                    yield begin, stop

    def split_after(self, data: bytes, after: int) -> int:
        return LINES.split_after(data, after)


def recognise(head: bytes) -> bool:
    """A line that begins with a jid and a DN."""
    return _RECOGNISED.search(head) is not None


def parse_unit(unit: bytes, source: Source) -> Outcome:
    """One record to a part of an identity.  Raises: Reject."""
    line = text_of(unit.strip())
    head = _HEAD.match(line)
    if not head:
        raise Reject("a record begins with jid:, a JM id and a service")
    values = _fields(line[head.end() :])
    at = connection(head["jm_id"], source)
    if not head["service"].startswith("jobmanager"):
        return Skip(NO_JOB_MANAGER)
    numbered = sorted((int(match[1]), value) for name, value in values.items() if (match := _VO.fullmatch(name)))
    vos = [value.rstrip("/").rpartition("/")[2] for _, value in numbered]
    if not all(vos):
        raise Reject("a VO has no name")
    told = {"dn": user_of(values["dn"]), "uid": int(values["uid"]), "vos": vos}
    return part(source, "voms", at, told, str(content_hash(unit)))


def _fields(text: str) -> dict[str, str]:
    """Fields by name.  Raises: Reject where one is missing, doubled or not closed."""
    values: dict[str, str] = {}
    at = 0
    while field := _FIELD.match(text, at):
        name, quoted, number = field.groups()
        if name in values:
            raise Reject("a field is there twice")
        values[name] = number if quoted is None else quoted
        at = field.end()
    if at < len(text):
        raise Reject('text that is not name:"value" or name:number')
    for name in ("dn", "uid", "poolindex"):
        if name not in values:
            raise Reject(f"{name} is missing: the record is cut")
    if not values["uid"].isdecimal():
        raise Reject("uid is not a number")
    return values


PARSER = UnitParser(
    name="voms-accounting",
    record_type=IDENTITY,
    lrms=UNKNOWN_LRMS,
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    framing=GluedFraming(),
    recognise=recognise,
    completion=COMPLETION,
)
