"""What goes with the metrics: alert rules for Prometheus, a dashboard for Grafana. Each rule says what to do."""

from __future__ import annotations

from importlib.resources import files


def alert_rules() -> str:
    """The rules, as a file that `rule_files` of Prometheus names."""
    return _text("alerts.yml")


def dashboard() -> str:
    """The dashboard, as Grafana imports it."""
    return _text("dashboard.json")


def _text(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")
