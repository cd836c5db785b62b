"""The alert rules and the dashboard that are shipped: of the metrics there are, and each alert says what to do."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from batchacct.metrics import metrics_text
from batchacct.monitoring import alert_rules, dashboard
from batchacct.store.sent import KINDS
from procacct.node import status
from tests.archive.farms import archive
from tests.archive.test_purge import JULY, site_of
from tests.cli.runner import batchacct
from tests.pristine import with_schema

WITHOUT_ALERT = {
    "build_info": "says which program",
    "database_size_bytes": "how much room there is nobody but its server knows",
    "source_lag_bytes": "for how long is what matters",
    "source_lag_files": "for how long is what matters",
    "source_unfinished_bytes": "waits for its rest, and is told as silence",
    "source_last_record_timestamp_seconds": "silence is judged by the rhythm of the source",
    "source_silent_seconds": "silence is judged by the rhythm of the source",
    "source_silence_allowed_seconds": "silence is judged by the rhythm of the source",
    "source_units_total": "counts",
    "source_records_total": "counts",
    "source_parts_total": "counts",
    "source_skipped_total": "counts",
    "job_ids_missing": "told with the holes",
}
"""Metrics that nobody has to be told of by themselves."""


def _values(node: Any) -> Iterator[Any]:
    for name in ("lhs", "rhs", "expr", "param", "vector_selector"):
        if (value := getattr(node, name, None)) is not None:
            yield value
    yield from getattr(node, "args", None) or []


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    """The vectors of an expression.  Raises: ValueError if it is no PromQL."""

    def walk(node: Any) -> Iterator[promql_parser.VectorSelector]:
        if isinstance(node, promql_parser.VectorSelector):
            yield node
        else:
            for value in _values(node):
                yield from walk(value)

    return list(walk(promql_parser.parse(expression)))


def rules(group: str = "") -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(alert_rules())["groups"]
    return {rule["alert"]: rule for one in groups if group in ("", one["name"]) for rule in one["rules"]}


def expressions() -> dict[str, str]:
    """Of every rule and of every panel of the dashboard."""
    of_panels = {
        f"panel {panel['id']}{target['refId']}": target["expr"]
        for panel in json.loads(dashboard())["panels"]
        for target in panel.get("targets", [])
    }
    return {name: rule["expr"] for name, rule in rules("batchacct").items()} | of_panels


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The metrics of a site that has archived, and the labels that each may have: of empty ones the name alone is told."""
    folder = tmp_path_factory.mktemp("metrics")
    store = with_schema(f"sqlite:///{folder}/batchacct.db")
    site = site_of(store, folder, keep="30d", personal_data="60d")
    archive(site, JULY)
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics_text(store, site.config).decode()):
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        name = family.name if family.name.endswith(suffix) else family.name + suffix
        found[name] = {label for sample in family.samples for label in sample.labels}
    store.close()
    return found


def test_every_expression_is_of_metrics_that_there_are(printed: dict[str, set[str]]) -> None:
    for where, expression in expressions().items():
        used = selectors(expression)
        assert used, where
        for one in used:
            assert one.name in printed, f"{where}: {one.name}"
            labels = {matcher.name for matcher in one.matchers.matchers} - {"instance"}
            assert labels <= {"source", "destination", "state", "outcome", "what"}, where
            if printed[one.name]:
                assert labels <= printed[one.name], f"{where}: {one.name} has the labels {printed[one.name]}"


def test_every_metric_that_matters_has_an_alert(printed: dict[str, set[str]]) -> None:
    alerted = {one.name for rule in rules("batchacct").values() for one in selectors(rule["expr"])}
    without = {name.removeprefix("batchacct_") for name in printed if name not in alerted}
    assert without == set(WITHOUT_ALERT)


def test_every_alert_says_what_to_do() -> None:
    for name, rule in rules().items():
        assert re.fullmatch(r"(Batchacct|Procacctd)[A-Z]\w+", name)
        assert rule["labels"]["severity"] in {"page", "ticket"}, name
        told = rule["annotations"]
        assert set(told) == {"summary", "runbook"}, name
        assert re.match(r"[A-Z].{30,}\.$", told["runbook"], re.DOTALL), f"{name}: a runbook is a sentence, and says what to do"
        assert not re.search(r"\{\{", told["runbook"])
        promql_parser.parse(rule["expr"])


def test_every_figure_of_a_node_has_a_meaning_and_rules_name_no_other() -> None:
    (told,) = (
        node
        for node in ast.walk(ast.parse(inspect.getsource(status)))
        if isinstance(node, ast.FunctionDef) and node.name == "as_dict"
    )
    (figures,) = (node for node in ast.walk(told) if isinstance(node, ast.Dict))
    assert [ast.literal_eval(name) for name in figures.keys if name] == list(status.MEANINGS)
    named = {one.name for rule in rules("procacctd").values() for one in selectors(rule["expr"])}
    assert named <= {f"procacctd_{name}" for name in status.MEANINGS}


def test_states_that_are_named_exist() -> None:
    """A state that is spelled wrong would never be alerted on."""
    states = {"confirmed", "unsent", "not in a message yet", *KINDS}
    named = [
        m.value for text in expressions().values() for one in selectors(text) for m in one.matchers.matchers if m.name == "state"
    ]
    assert named
    assert {state for value in named for state in value.split("|")} <= states


def test_the_dashboard_is_laid_out() -> None:
    board = json.loads(dashboard())
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = {
        (x, y): panel["title"]
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    }
    assert len(taken) == sum(panel["gridPos"]["w"] * panel["gridPos"]["h"] for panel in panels), "no two lie over each other"
    assert max(x for x, _ in taken) == 23
    variables = {one["name"] for one in board["templating"]["list"]}
    assert set(re.findall(r"\$(\w+)", " ".join(expressions().values()))) <= variables


def test_the_command_prints_them_without_a_configuration(tmp_path: Path) -> None:
    env = {"BATCHACCT_CONFIG": str(tmp_path / "none.toml")}
    assert batchacct("metrics", "--alert-rules", env=env).out == alert_rules()
    assert batchacct("metrics", "--dashboard", env=env).out == dashboard()
