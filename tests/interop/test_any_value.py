"""Whatever a record holds that our formats let through, a real APEL loader takes, and keeps as `tests/apel_reader.py` says.

Needs a checkout of apel/apel: see CONTRIBUTING.md. `BATCHACCT_RECORDS=5000` draws so many records a format.
"""

from __future__ import annotations

import os
import time

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pub.formats.apel import APEL_02, APEL_03, APEL_04
from pub.formats.car import CAR_12
from pub.formats.contract import USAGE_RECORD, Format
from tests.apel_reader import Job, as_stored, read_message
from tests.interop.apel import Loader
from tests.pub import test_formats, test_formats_xml
from tests.usage_record_reader import read_as_apel

pytestmark = pytest.mark.usefixtures("apel")

RECORDS = int(os.environ.get("BATCHACCT_RECORDS", "300"))
IN_A_MESSAGE = 20
LOOKED_UP = ("Site", "SubmitHost", "MachineName", "Queue", "GlobalUserName", "VO", "VOGroup", "VORole")


def drawn(strategy: st.SearchStrategy[dict[str, object]]) -> list[dict[str, object]]:
    """Some records, by chance."""
    found: list[dict[str, object]] = []

    @settings(max_examples=RECORDS, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(strategy)
    def collect(record: dict[str, object]) -> None:
        found.append(record)

    collect()
    return found


def alike(text: str) -> str:
    """What the server's tables compare of a text: not its case, and not the blanks after it."""
    return text.lower().rstrip(" ")


def kept(jobs: list[Job]) -> dict[tuple[object, ...], Job]:
    """What is left of jobs by the server's key; a text that is looked up is the first one that is alike."""
    left: dict[tuple[object, ...], Job] = {}
    for job in jobs:
        told = job | {name: alike(str(job[name])) for name in LOOKED_UP}
        left[told["Site"], alike(str(job["LocalJobId"])), job["EndTime"]] = told
    return left


@pytest.mark.parametrize("by", [APEL_02, APEL_03, APEL_04, CAR_12], ids=lambda by: by.name)
def test_it_takes_whatever_is_not_refused(loader: Loader, by: Format) -> None:
    now = int(time.time())
    records = drawn(test_formats_xml.usage_records() if by is CAR_12 else test_formats.usage_records())
    if by is APEL_02:
        records = [
            row | ({"service_level_type": "HEPSPEC"} if row["service_level_type"] == "hepscore23" else {}) for row in records
        ]
    texts = [text for text in by.render(USAGE_RECORD.batch(records), now).records.to_pylist() if text is not None]
    assert len(texts) > RECORDS // 10
    messages = [
        (str(start), by.message(pa.array(texts[start : start + IN_A_MESSAGE], pa.string())))
        for start in range(0, len(texts), IN_A_MESSAGE)
    ]
    loader.load(messages)
    assert loader.spool.rejected == []
    read = [job for _, payload in messages for job in (read_as_apel if by is CAR_12 else read_message)(payload, now=now)]
    rows = loader.rows("VJobRecords")
    assert kept(rows) == kept([as_stored(job) for job in read])
    assert len(rows) == len(kept(rows)), "no two are alike to us that are not to the server"
