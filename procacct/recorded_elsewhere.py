"""What the parsers of other systems' records (OGRT, XALT, app-accounting) have in common."""

from __future__ import annotations

import json
import math
import re

from batchacct.model import LAST_INSTANT, Record, text_of
from batchacct.parsing import Reject

NANOSECONDS = 1_000_000_000
UNKNOWN = frozenset({"", "unknown", "UNKNOWN"})
"""What OGRT and XALT write for what they do not know."""
SEEN_BY = '["sensor"]'
_JOB_ID = re.compile(r"(?P<number>[0-9]+)(?:\[(?P<index>[0-9]{1,18})\])?(?P<server>\.[A-Za-z][^\s\[\]]*)?\Z")


def job_columns(job_id: str | None) -> Record:
    """The columns of a job id as a batch system puts it into the environment: `4711`, `4711.server`, `4711[2].server`."""
    if job_id is None or job_id in UNKNOWN:
        return {}
    columns: Record = {"lrms_job_id": job_id, "join_id": job_id, "job_from": "environment"}
    match = _JOB_ID.match(job_id)
    if match:
        columns |= {"lrms_job_id": match["number"] + (match["server"] or ""), "join_id": match["number"]}
        columns |= {"array_index": int(match["index"])} if match["index"] else {}
    return columns


def json_text(value: object) -> str:
    """JSON without blanks; text that is no valid Unicode as escapes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"))
    return text


def text_at(found: dict[str, object], key: str, *, required: bool = False) -> str | None:
    """Valid text; None where it is absent, null or empty.  Raises: Reject."""
    value = found.get(key)
    if value is None or value == "":
        if required:
            raise Reject(f"{key}: it is missing")
        return None
    if not isinstance(value, str):
        raise Reject(f"{key}: a text is due")
    return valid_text(value)


def valid_text(text: str) -> str:
    """Text that every database keeps."""
    try:
        return text_of(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return text_of(text.encode("utf-8", "backslashreplace"))


def whole_at(found: dict[str, object], key: str) -> int | None:
    """A whole number from 0; None where it is absent or null.  Raises: Reject."""
    value = found.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise Reject(f"{key}: a whole number is due")
    return value


def number_at(found: dict[str, object], key: str, absent: float | None = None) -> float:
    """A number from 0.  Raises: Reject."""
    value = found.get(key, absent)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
        raise Reject(f"{key}: a number is due")
    return float(value)


def texts_at(found: dict[str, object], key: str) -> list[str] | None:
    """A list of texts; None where it is absent or null.  Raises: Reject."""
    value = found.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise Reject(f"{key}: a list of texts is due")
    return value


def instant(seconds: float, what: str) -> int:
    """Whole Unix seconds.  Raises: Reject for a time before 1970 or after 2099."""
    if not 0 < seconds <= LAST_INSTANT:
        raise Reject(f"{what}: it is not between 1970 and 2099")
    return int(seconds)


def names_and_values(pairs: list[str]) -> dict[str, str]:
    """`NAME=VALUE` texts as an object; the first of a name counts."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        found.setdefault(name, value)
    return found
