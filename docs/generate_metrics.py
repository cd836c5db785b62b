"""The reference page of metrics and alert rules: those of an empty database, those of procacctd, and the rules."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import yaml
from prometheus_client.parser import text_string_to_metric_families

from batchacct.config import Config
from batchacct.metrics import metrics_text
from batchacct.monitoring import alert_rules
from batchacct.store import Store
from procacct.node.status import MEANINGS

SUFFIXES = {"counter": "_total", "info": "_info"}


def metrics_page(head: str) -> str:
    """docs/reference/metrics.md; `head` says that it is generated."""
    labels = (
        "Sources have the label `source`, clusters `cluster`, destinations `destination`; what is told *by* something has that."
    )
    node = "In `prometheus_file` of [the node's configuration](node-configuration.md); `jobmng status` has the"
    lines = ["# Metrics and alert rules", "", head]
    lines += ["How to have them, and what to do with them: [watch the collector](../how-to/watch-the-collector.md).", ""]
    lines += ["## Of batchacct", "", "`batchacct metrics`, or `[collect] metrics_address`. A value that is not known is absent."]
    lines += [labels, "", *_ours(), "", "## Of procacctd", "", node]
    lines += [
        "same without `procacctd_`. All are gauges, counted since the start of the daemon where they count.",
        "",
        *_of_node(),
        "",
    ]
    lines += ["## Alert rules", "", "`batchacct metrics --alert-rules` prints them, as Prometheus reads them.", "", *_rules(), ""]
    return "\n".join(lines)


def told() -> str:
    """All metrics there are, each with its labels, as Prometheus text: those of an empty database."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/batchacct.db"
        store = Store(url)
        store.create()
        sources = [{"name": "s", "parser": "lsf", "paths": [f"{folder}/none"], "cluster": "c"}]
        config = Config.model_validate({"site": "S", "database": {"url": url}, "source": sources, "cluster": [{"name": "c"}]})
        text = metrics_text(store, config).decode()
        store.close()
    return text


def _ours() -> Iterator[str]:
    yield "| metric | type | meaning |"
    yield "|---|---|---|"
    for family in text_string_to_metric_families(told()):
        suffix = SUFFIXES.get(family.type, "")
        name = family.name if family.name.endswith(suffix) else family.name + suffix
        yield f"| `{name}` | {'gauge' if family.type == 'info' else family.type} | {family.documentation.rstrip('.')} |"


def _of_node() -> Iterator[str]:
    yield "| metric | meaning |"
    yield "|---|---|"
    yield from (f"| `procacctd_{name}` | {meaning} |" for name, meaning in MEANINGS.items())


def _rules() -> Iterator[str]:
    yield "| alert | severity | of | what to do |"
    yield "|---|---|---|---|"
    for group in yaml.safe_load(alert_rules())["groups"]:
        for rule in group["rules"]:
            expression = rule["expr"].replace("|", "\\|").replace("\n", " ")
            yield f"| {rule['alert']} | {rule['labels']['severity']} | `{expression}` | {rule['annotations']['runbook']} |"
