"""What `doctor` says of a node: the daemon's own answer, the spool, the sensor."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchacct.doctor import Level
from procacct import checks
from procacct.checks import node_findings
from procacct.sensor.building import NAME
from tests.procacct.node_daemon import Node, running
from tests.procacct.open_folder import open_folder
from tests.test_monitoring import rules, selectors

SMALL_SPOOL = '[spool]\npath = "{}"\nrotate_bytes = 4096\nmost_bytes = 8192'


def levels(config: Path) -> dict[str, Level]:
    return {one.subject: one.level for one in node_findings(config)}


def test_a_host_without_a_node_daemon(tmp_path: Path) -> None:
    assert levels(tmp_path / "procacctd.toml") == {"node daemon": Level.NOT_APPLICABLE}


def test_a_configuration_that_is_wrong(tmp_path: Path) -> None:
    config = tmp_path / "procacctd.toml"
    config.write_text("hots = 'node1'\n")
    (told,) = node_findings(config)
    assert told.level is Level.ERROR
    assert "did you mean host?" in told.found


def test_a_daemon_that_is_away(tmp_path: Path) -> None:
    found = list(node_findings(Node(tmp_path).config))
    assert found[0].level is Level.ERROR
    assert "procacctd does not answer" in found[0].found
    assert found[0].todo is not None


def test_a_spool_that_nobody_collects(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    node = Node(tmp_path / "node", SMALL_SPOOL.format(spool))
    assert levels(node.config)["spool"] is Level.OK
    (spool / "processes-00000000-000001.jsonl").write_bytes(b" " * 8000)
    assert levels(node.config)["spool"] is Level.WARNING


def test_a_daemon_that_runs_and_the_sensor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checks, "FOLDERS", (tmp_path,))
    with open_folder() as folder, running(folder / "node", '[events]\nuse = "auto"') as node:
        told = levels(node.config)
        named = {one.name for rule in rules("procacctd").values() for one in selectors(rule["expr"])}
        assert named <= {f"procacctd_{name}" for name in node.status()}, "alerts are of metrics that there are"
        assert told["node daemon"] in {Level.OK, Level.WARNING}, "it may hear no events of the kernel here"
        assert told["sensor"] is Level.NOT_APPLICABLE
        (tmp_path / NAME).touch()
        assert levels(node.config)["sensor"] is Level.OK
        (node.folder / "policy").unlink()
        assert levels(node.config)["sensor"] is Level.WARNING


@pytest.mark.parametrize(
    ("what", "value", "told"),
    [
        ("hears_events", False, "hears no events"),
        ("spool_failing", "no space", "cannot be written"),
        ("rows_dropped", 3, "3 rows were given up"),
        ("lost_events", 1000, "1,000 events of the kernel were lost"),
    ],
)
def test_what_a_daemon_says_of_itself(what: str, value: object, told: str) -> None:
    sound = {"hears_events": True, "spool_failing": None, "rows_dropped": 0, "rows_waiting": 0, "lost_events": 0}
    assert list(checks._wrong(sound)) == []
    (sentence,) = checks._wrong({**sound, what: value})
    assert told in sentence
