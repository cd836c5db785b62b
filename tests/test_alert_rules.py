"""Each alert, by Prometheus' own `promtool`: when it is quiet, when it fires, and what it tells then."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from batchacct.monitoring import alert_rules
from tests.servers import REQUIRED

DAY = 1440
"""Minutes, as all times here."""
EVERY, SELDOM = 5, 240
"""Samples come, and rules are evaluated, so often; rules of alerts that take a day or more so seldom, as it takes promtool time."""
LSF, APEL, NODE = ({"source": "lsf"}, {"destination": "apel"}, {"instance": "n1"})


@dataclass(frozen=True, slots=True)
class Case:
    """Values of series, a minute at which the alert does not fire, and one at which it does, with labels and summary."""

    alert: str
    series: Mapping[str, str]
    quiet: int
    fires: int | None = None
    summary: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_long(self) -> bool:
        return max(self.quiet, self.fires or 0) >= DAY


def steady(value: int, minutes: int) -> str:
    return f"{value}+0x{minutes // EVERY + 1}"


def steady_case(alert: str, series: str, steadily: tuple[int, int], summary: str, labels: Mapping[str, str]) -> Case:
    """It fires once the value has lasted for so many minutes."""
    value, lasts = steadily
    return Case(alert, {series: steady(value, lasts)}, lasts - (SELDOM if lasts >= DAY else EVERY), lasts, summary, labels)


def sudden_case(alert: str, series: str, values: tuple[int, int], summary: str, labels: Mapping[str, str]) -> Case:
    """It fires as soon as the second value is there, at the third look."""
    return Case(alert, {series: f"{values[0]}+0x1 {values[1]}+0x2"}, EVERY, 2 * EVERY, summary, labels)


COUNTED = f"0+20x{DAY // EVERY}"
"""20 more every five minutes: 240 an hour."""
RECORDS = 'batchacct_publish_records{destination="apel",state="%s"}'
LAST_SUCCESS = 'batchacct_publish_last_success_timestamp_seconds{destination="apel"}'
CASES = (
    Case("BatchacctDown", {'batchacct_up{instance="h"}': "1+0x1 0+0x9"}, 15, 20,
         "batchacct has no database, or nobody serves its metrics", {"instance": "h"}),
    Case("BatchacctDown", {}, 5, 10, "batchacct has no database, or nobody serves its metrics"),
    sudden_case("BatchacctBooksDoNotBalance", "batchacct_books_balanced", (1, 0), "the books of batchacct do not balance", {}),
    steady_case("BatchacctSourceFails", 'batchacct_source_error{source="lsf"}', (1, 30), "source lsf cannot be read", LSF),
    Case("BatchacctSourceNotRead", {'batchacct_source_last_success_timestamp_seconds{source="lsf"}': steady(0, 80)}, 75, 80,
         "source lsf was not read to its end for 1h 20m 0s", LSF),
    steady_case("BatchacctSourceLags", 'batchacct_source_lag_seconds{source="lsf"}', (1000, 10),
                "source lsf has had something unread for 16m 40s", LSF),
    steady_case("BatchacctSourceOdd", 'batchacct_source_warning{source="lsf"}', (1, 60),
                "something odd was seen in source lsf", LSF),
    steady_case("BatchacctSourceSilent", 'batchacct_source_silent{source="lsf"}', (1, 15),
                "source lsf has told of nothing for longer than its rhythm explains", LSF),
    sudden_case("BatchacctBytesLost", 'batchacct_source_lost_bytes_total{source="lsf"}', (0, 500),
                "bytes of source lsf were destroyed before they could be read", LSF),
    Case("BatchacctManyRejects", {'batchacct_source_rejects_total{source="lsf"}': COUNTED}, 5, 60,
         "240 lines of source lsf could not be read in an hour", LSF),
    steady_case("BatchacctRejectsStay", 'batchacct_source_open_rejects{source="lsf"}', (3, 7 * DAY),
                "3 lines of source lsf have been rejects for a week", LSF),
    steady_case("BatchacctJobIdsMissing", 'batchacct_job_id_holes{cluster="c"}', (2, 60),
                "job ids of cluster c are in no log", {"cluster": "c"}),
    Case("BatchacctPartsWait",
         {'batchacct_parts_waiting_oldest_timestamp_seconds{kind="step"}': steady(0, 31 * DAY),
          'batchacct_parts_waiting{kind="step"}': steady(1, 31 * DAY)}, 30 * DAY + SELDOM, 30 * DAY + 2 * SELDOM,
         "parts of records (step) have waited for the rest for 30d 8h 0m 0s", {"kind": "step"}),
    steady_case("BatchacctJobsNotJoined", 'batchacct_jobs{outcome="not joined yet"}', (4, DAY), "4 jobs were not joined for a day",
                {"outcome": "not joined yet"}),
    steady_case("BatchacctNotInMessage", RECORDS % "not in a message yet", (7, DAY),
                "7 records wait to be put into messages to apel", APEL | {"state": "not in a message yet"}),
    steady_case("BatchacctRecordsRefused", RECORDS % "refused", (7, DAY), "7 records do not fit the format of apel",
                APEL | {"state": "refused"}),
    sudden_case("BatchacctMessagesRefused", 'batchacct_publish_refused_messages{destination="apel"}', (0, 2),
                "apel will not take 2 messages", APEL),
    steady_case("BatchacctUnsent", 'batchacct_publish_unsent_messages{destination="apel"}', (2, DAY),
                "messages to apel have not left for a day", APEL),
    Case("BatchacctNothingHandedOver", {LAST_SUCCESS: steady(0, 3 * DAY), RECORDS % "unsent": steady(1, 3 * DAY)},
         2 * DAY + SELDOM, 2 * DAY + 2 * SELDOM,
         "nothing was handed over to apel for 2d 8h 0m 0s, and there is something to send", APEL),
    Case("BatchacctNothingHandedOver", {LAST_SUCCESS: steady(0, 3 * DAY), RECORDS % "unsent": steady(0, 3 * DAY)}, 3 * DAY),
    Case("BatchacctArchiveDue", {"batchacct_archive_months_due": steady(2, 7 * DAY),
                                 "batchacct_archive_last_month_timestamp_seconds": steady(0, 7 * DAY)},
         7 * DAY - SELDOM, 7 * DAY, "2 months should be in the archive"),
    Case("BatchacctArchiveDue", {"batchacct_archive_months_due": steady(2, 7 * DAY)}, 7 * DAY),
    steady_case("BatchacctRetentionOverdue", 'batchacct_retention_overdue_records{what="names"}', (9, 7 * DAY),
                "9 are past [retention]: names", {"what": "names"}),
    Case("BatchacctRetentionOverdue", {'batchacct_retention_overdue_records{what="jobs to archive"}': steady(9, 7 * DAY)}, 7 * DAY),
    steady_case("ProcacctdHearsNothing", 'procacctd_hears_events{instance="n1"}', (0, 30),
                "procacctd on n1 hears no events of the kernel", NODE),
    steady_case("ProcacctdSpoolFails", 'procacctd_spool_failing{instance="n1"}', (1, 10),
                "procacctd on n1 cannot write its spool", NODE),
    Case("ProcacctdRowsDropped", {'procacctd_rows_dropped{instance="n1"}': COUNTED}, 0, 60,
         "procacctd on n1 gave up 240 rows in an hour", NODE),
    Case("ProcacctdEventsLost", {'procacctd_lost_events{instance="n1"}': COUNTED}, 60, 65,
         "procacctd on n1 lost 240 events of the kernel in an hour", NODE),
)  # fmt: skip


def rules() -> dict[str, dict[str, dict[str, str]]]:
    return {rule["alert"]: rule for group in yaml.safe_load(alert_rules())["groups"] for rule in group["rules"]}


@pytest.fixture
def promtool() -> str:
    program = shutil.which("promtool")
    if program is None:
        if REQUIRED:
            pytest.fail("promtool is not installed: apt-get install prometheus")
        pytest.skip("promtool is not installed: apt-get install prometheus")
    return program


def run(promtool: str, folder: Path, cases: Sequence[Case], every: int = EVERY) -> subprocess.CompletedProcess[str]:
    (folder / "alerts.yml").write_text(alert_rules(), encoding="utf-8")
    told = {"rule_files": ["alerts.yml"], "evaluation_interval": f"{every}m", "tests": [as_test(case) for case in cases]}
    (folder / "tests.yml").write_text(yaml.safe_dump(told), encoding="utf-8")
    command = [promtool, "test", "rules", str(folder / "tests.yml")]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)


def as_test(case: Case) -> dict[str, object]:
    """As promtool wants it; the runbook is that of the rule, word for word."""
    rule = rules()[case.alert]
    looks: list[dict[str, object]] = [{"alertname": case.alert, "eval_time": f"{case.quiet}m", "exp_alerts": []}]
    if case.fires is not None:
        alert = {
            "exp_labels": rule["labels"] | dict(case.labels),
            "exp_annotations": {"summary": case.summary, "runbook": rule["annotations"]["runbook"]},
        }
        looks.append({"alertname": case.alert, "eval_time": f"{case.fires}m", "exp_alerts": [alert]})
    series = [{"series": name, "values": values} for name, values in case.series.items()]
    return {"interval": f"{EVERY}m", "input_series": series, "alert_rule_test": looks}


def test_every_alert_has_a_case() -> None:
    assert {case.alert for case in CASES if case.fires is not None} == set(rules())


@pytest.mark.parametrize("every", [EVERY, SELDOM])
def test_each_alert_fires_when_it_should_and_not_before(promtool: str, tmp_path: Path, every: int) -> None:
    done = run(promtool, tmp_path, [case for case in CASES if case.is_long == (every == SELDOM)], every)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_would_tell_of_an_alert_that_does_not_fire(promtool: str, tmp_path: Path) -> None:
    wrong = Case("BatchacctSourceOdd", {'batchacct_source_warning{source="lsf"}': steady(0, 60)}, 55, 60, "something odd", LSF)
    assert run(promtool, tmp_path, [wrong]).returncode != 0
