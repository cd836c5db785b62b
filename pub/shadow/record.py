"""A job record of either side as the receiver would keep it, so that what it takes for the same is the same.

Texts by the labels of messages; what is not there is the text `None`, as the receiver writes it.
"""

from __future__ import annotations

from collections.abc import Mapping

from batchacct.fqan import parse_fqan
from pub.formats.apel import FIELDS

Record = dict[str, str]

NOTHING = "None"
LABELS = tuple(field.label for field in FIELDS)
KEY = ("Site", "LocalJobId", "EndTime")
"""What the receiver knows a record by; MachineName stands beside it in a client's database."""

_COUNTS = ("Processors", "NodeCount")
_KINDS = {"hepscore23": "HEPscore23", "hepspec": "HEPSPEC", "si2k": "Si2k"}


def as_kept(values: Mapping[str, object]) -> Record:
    """VO, group and role follow from an FQAN, counts that are not known are 0, figures have three decimals."""
    record = {label: _text(values.get(label)) for label in LABELS}
    if record["FQAN"] != NOTHING:
        told = parse_fqan(record["FQAN"])
        record |= {"VO": told.vo or NOTHING, "VOGroup": told.group or NOTHING, "VORole": told.role or NOTHING}
    record |= {label: "0" for label in _COUNTS if record[label] == NOTHING}
    kind, figure = record["ServiceLevelType"], record["ServiceLevel"]
    record["ServiceLevelType"] = _KINDS.get(kind.lower(), kind)
    if figure != NOTHING:
        record["ServiceLevel"] = f"{float(figure):.3f}".rstrip("0").rstrip(".")
    return record


def _text(value: object) -> str:
    text = "" if value is None else str(value).strip()
    return NOTHING if text.lower() in {"", "none", "null"} else text


def key_of(record: Mapping[str, str]) -> str:
    """The receiver's key as one text; the site is looked up whatever its case."""
    site, job_id, end = (record[label] for label in KEY)
    return f"{site.lower()}\n{job_id}\n{end}"
