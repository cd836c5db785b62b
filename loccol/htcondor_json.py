r"""HTCondor history as JSON: `condor_history -json` (one array) or `-jsonl` (an ad a line), and `condor_q -json`.

    [
    {
      "ClusterId": 3472942,
      "CPUsUsage": 0.9974730512006985,
      "GlobalJobId": "scosg16.jlab.org#3472942.81#1616890323",
      "MemoryUsage": "\/Expr(((ResidentSetSize + 1023) \/ 1024))\/",
      "RemoteWallClockTime": 37327.0
    }
    ]                                                                             (JLab, HTCondor 8.8.10, shortened)

An object is an ad: the same attributes, rules, records and natural key as those of `loccol.htcondor`, so that a job read in both
forms is one record. An expression is a string, `/Expr(...)/`, and null like there; undefined attributes are absent. The
brackets around the array are units of their own, and skipped.
"""

from __future__ import annotations

import re

from batchacct.classad import json_ad
from batchacct.model import JOB
from batchacct.parsing import Outcome, Source, UnitParser
from batchacct.parsing.json_framing import Frame, JsonElements, element
from loccol.htcondor_ad import job_of_ad

_OF_A_JOB = re.compile(rb'"(?:GlobalJobId"[ \t]*:[ \t]*"[^"#\n]*#[0-9]+\.[0-9]+#|ClusterId"[ \t]*:[ \t]*[0-9])')


def parse_unit(unit: bytes, source: Source) -> Outcome:
    """One object to a job.  Raises: Reject for what is no JSON, and see `job_of_ad`."""
    found = element(unit)
    return found.skip if isinstance(found, Frame) else job_of_ad(json_ad(found), source)


def recognise(head: bytes) -> bool:
    """It begins as an array or an object, and a member names an HTCondor job."""
    return head.lstrip()[:1] in (b"[", b"{") and _OF_A_JOB.search(head) is not None


PARSER = UnitParser(
    name="htcondor-json",
    record_type=JOB,
    lrms="HTCondor",
    version=1,
    parse_unit=parse_unit,
    doc=__doc__ or "",
    framing=JsonElements(),
    recognise=recognise,
)
