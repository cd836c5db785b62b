"""What the pages show is so: configurations are taken, keys, statuses, plug-ins and options exist, figures were measured."""

from __future__ import annotations

import ast
import configparser
import importlib.metadata
import json
import re
import shlex
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
import pytest
from pydantic import BaseModel

from batchacct.config import Config
from batchacct.config_sample import sections_within
from batchacct.errors import BatchacctError
from batchacct.feeding import FEEDS
from batchacct.options import transport_options
from batchacct.parsing import Block, Source, registry
from docs.build import ROOT
from docs.generate_programs import programs
from loccol.slurm_sacct_layout import RECOMMENDED, header_of
from procacct.node.config import NodeConfig, sample
from pub.transports.contract import Message
from tests.test_docs import PAGES
from tools.packages.layout import ROOMS
from tools.packages.pages import command_of, root_context

SAMPLES = ROOT / "tests" / "samples"
HOW_TO = ROOT / "docs" / "how-to"
PROGRAMS = programs()
SHOWN = {
    "lsf.md": {"lsf": "lsf/apel-tests.acct"},
    "pbs.md": {"pbs": "pbs/apel-tests.log"},
    "sge.md": {"sge": "sge/apel-tests.acct", "sge-json": "sge/ocs90.jsonl"},
    "slurm.md": {"slurm": "slurm/apel-tests.sacct"},
    "htcondor.md": {"htcondor": "htcondor/synthetic.history"},
    "cream.md": {"blah": "blah/blahp.log-20110203"},
    "arc.md": {"arc-db": "arc/feed.jsonl", "arc-joblog": "arc/gm-jobs.log.2006"},
    "htcondor-ce.md": {
        "slurm": "slurm/apel-tests.sacct",
        "htcondor-ce": "htcondor/synthetic.history",
        "htcondor-ce-audit": "htcondor-ce/AuditLog",
    },
    "globus.md": {
        "gram": "globus-site/accounting.log",
        "voms-accounting": "globus-site/voms.log",
        "lcmaps": "globus-site/messages",
    },
}
"""What the sources of the pages on batch systems and computing elements read: parser, and a sample of such a log."""
NOT_OF_A_LOG = {"apel-identities", "apel-jobs", "ce-2012", "loc-2012"}
"""Parsers of what `batchacct import` hands out."""


def tables(page: Path) -> Iterator[dict[str, Any]]:
    """Every configuration that a page shows."""
    for _, block in re.findall(r"^( *)```toml\n(.*?)^\1```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        yield tomllib.loads(textwrap.dedent(block))


def is_of_node(values: Mapping[str, Any]) -> bool:
    return set(values) <= set(NodeConfig.model_fields)


def completed(values: dict[str, Any]) -> Config:
    """A part of a configuration, with what it goes by and does not show."""
    named = {one["cluster"] for name in ("source", "benchmark", "capacity") for one in values.get(name, ()) if "cluster" in one}
    named |= set(values.get("ce", {}).values())
    shown = values.get("cluster", [])
    others = [{"name": name} for name in sorted(named - {one["name"] for one in shown} - {"*"})]
    base = {"site": "S", "database": {"url": "sqlite:////nowhere"}}
    return Config.model_validate(base | values | {"cluster": [*shown, *others]})


def test_configurations_that_are_shown_are_taken() -> None:
    for page in PAGES:
        for values in tables(page):
            if is_of_node(values):
                NodeConfig.model_validate(values)
                continue
            config = completed(values)
            assert all(one.feed is None or one.feed in registry.names(FEEDS) for one in config.source)
            for destination in config.destinations:
                if destination.transport in registry.names(registry.TRANSPORTS):
                    transport_options(config, destination)
                else:
                    assert page.name in {"write-a-transport.md", "write-a-format.md"}, destination.transport


def _keys(section: type[BaseModel], path: str = "") -> Iterator[tuple[str, str]]:
    for name in section.model_fields:
        yield path, name
    for name, within in sections_within(section):
        yield from _keys(within, f"{path}.{name}".lstrip("."))


KEYS = {*_keys(Config), *_keys(NodeConfig)}
TABLES = {path for path, _ in KEYS} | {f"{path}.{name}".lstrip(".") for path, name in KEYS if name in {"ce", "options"}}


def test_keys_that_are_named_exist() -> None:
    for page in PAGES:
        extras = set(importlib.metadata.metadata("batchacct").get_all("Provides-Extra") or ())
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for table, key in re.findall(r"`\[\[?([a-z][a-z_.0-9]*)\]\]?(?: ([a-z_.]+))?(?: = [^`]*)?`", text):
            assert (table, key) in KEYS if key else table in TABLES | extras | {"publish.options.tls"}, f"{page}: [{table}] {key}"


def _statuses(kind: type[BatchacctError] = BatchacctError) -> set[int]:
    return {kind.exit_code}.union(*(_statuses(child) for child in kind.__subclasses__()))


def test_exit_statuses_that_are_told_exist() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        told = {int(number) for number in re.findall(r"(?:exit status|ends? with(?: status)?|with status) (\d{1,2})\b", text)}
        assert told <= _statuses() | {0, 2, 65}, page


def test_entry_points_that_are_named_exist() -> None:
    for page in PAGES:
        groups = {point.group for point in importlib.metadata.distribution("batchacct").entry_points}
        packages = {path.stem for path in (ROOT / "batchacct").iterdir()} | {"insert", "toml", "db", "pth", "org"}
        named = set(re.findall(r"`batchacct\.([a-z_]+)`", page.read_text(encoding="utf-8")))
        assert {name for name in named if name not in packages} <= {group.partition(".")[2] for group in groups}, page


def _setup() -> configparser.ConfigParser:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return setup


def test_the_architecture_names_every_group_of_entry_points() -> None:
    page = (ROOT / "docs/explanation/architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`(batchacct\.[a-z_]+)`", "".join(re.findall(r"^\| `batchacct\..*", page, re.MULTILINE)))
    assert sorted(named) == sorted(name for name in _setup()["options.entry_points"] if name.startswith("batchacct."))


def test_extras_are_installed_from_a_checkout_or_come_with_the_packages() -> None:
    extras = set(_setup()["options.extras_require"])
    shown = {one for page in PAGES for one in re.findall(r"pip install '([^']*\[[^']*)'", page.read_text(encoding="utf-8"))}
    named = {name for one in shown for name in one.removeprefix(".[").removesuffix("]").split(",")}
    assert {"postgres", "portal", "spark"} <= named <= extras
    packed = {extra for room in ROOMS for extra in room.extras}
    assert extras - packed == {"spark", "cx_oracle", "test", "docs", "dev"}, "docs/how-to/install.md names the first two"


def test_every_key_of_a_node_is_on_its_page_and_no_other() -> None:
    page = (ROOT / "docs/reference/node-configuration.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE)
    assert listed == re.findall(r"^# ([a-z_]+) = ", sample(), re.MULTILINE)


def test_every_error_is_on_its_page_and_no_other() -> None:
    page = (ROOT / "docs/reference/exit-statuses.md").read_text(encoding="utf-8")
    listed = {(name, int(status)) for status, name in re.findall(r"^\| (\d+) \| (\w+) \|", page, re.MULTILINE)}
    defined = {
        (node.name, ast.literal_eval(line.value))
        for room in ROOMS
        for path in (ROOT / room.module).rglob("*.py")
        if b"exit_code = " in path.read_bytes()
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.ClassDef)
        for line in node.body
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "exit_code"
    }
    assert listed == defined - {("BatchacctError", 1)}


def _program_lines(page: Path) -> Iterator[list[str]]:
    """Every command line of a program but `batchacct` in a code block, as words."""
    for block in re.findall(r"```(?:\w*)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        for line in block.splitlines():
            words = re.split(r"  #|\s&&?(?:\s|$)|\s\|\s|\s>\s|;", line.strip().replace("...", ""))[0]
            if words.partition(" ")[0] in PROGRAMS:
                yield shlex.split(words, comments=True)


def test_programs_that_are_shown_take_their_options() -> None:
    assert {words[0] for page in PAGES for words in _program_lines(page)} >= set(PROGRAMS) - {"acc_bash"}
    for page in PAGES:
        for name, *words in _program_lines(page):
            command = command_of(name, PROGRAMS[name])
            if command is None:
                continue
            context = root_context(command, name)
            if isinstance(command, click.Group) and words and not words[0].startswith("-"):
                found = command.get_command(context, words[0])
                assert found is not None, f"{page}: {name} {words}"
                command, context = found, click.Context(found, parent=context)
            known = {option for parameter in command.get_params(context) for option in (*parameter.opts, *parameter.secondary_opts)}
            unknown = {word.partition("=")[0] for word in words if word.startswith("--") and word != "--"} - known
            assert not unknown, f"{page}: {name} {words}"


@pytest.mark.parametrize("name", SHOWN)
def test_sources_that_are_shown_read_such_logs(name: str) -> None:
    sources = [source for values in tables(HOW_TO / name) for source in completed(values).source]
    assert {source.parser for source in sources} == set(SHOWN[name])
    for source in sources:
        data = (SAMPLES / SHOWN[name][source.parser]).read_bytes()
        parser = registry.parser(source.parser)
        parsed = list(parser.parse([Block(data, 0)], Source(source.name, "S", source.cluster or "c", zone=ZoneInfo(source.zone))))
        assert sum(one.records.num_rows + len(one.parts) for one in parsed) > 0, source.name


def test_what_pages_of_logs_show_can_be_put_together() -> None:
    """A source and a cluster are shown once, but for the complete file of a site, which has nothing that is not on the pages."""
    shown = [values for name in SHOWN for values in tables(HOW_TO / name)]
    for kind in ("source", "cluster"):
        parts = [one for values in shown if "site" not in values for one in values.get(kind, [])]
        assert len({one["name"] for one in parts}) == len(parts)
        (complete,) = (values for values in shown if "site" in values)
        assert all(one in parts for one in complete[kind])
    used = {source["cluster"] for values in shown for source in values["source"] if "cluster" in source}
    assert used == {one["name"] for values in shown for one in values.get("cluster", [])}


def test_the_sacct_that_is_shown_asks_for_what_is_known_without_a_header() -> None:
    page = (HOW_TO / "slurm.md").read_text(encoding="utf-8").replace("\\\n", "")
    (line,) = re.findall(r"^TZ=UTC .* sacct .*$", page, re.MULTILINE)
    assert f"--format={RECOMMENDED} >" in line
    suggested = re.search(r"^ +(TZ=UTC .*? )-M CLUSTER", registry.parser("slurm").doc, re.MULTILINE)
    assert suggested is not None
    assert line.startswith(suggested[1])
    for source in (source for values in tables(HOW_TO / "slurm.md") for source in values["source"] if "header" in source):
        layout = header_of(source["header"].encode())
        assert layout is not None
        assert "partition" in layout.names, "grid_queues would match nothing"


def test_every_parser_of_a_log_is_on_a_page_and_no_other() -> None:
    page = (HOW_TO / "batch-systems.md").read_text(encoding="utf-8")
    rows = "\n".join(line for line in page.splitlines() if re.match(r"\| .*\(\S+\.md\)", line))
    named = set(re.findall(r"`([a-z-]+)`", "\n".join(row.split("|")[2] for row in rows.splitlines())))
    rooms = importlib.metadata.entry_points(group=registry.PARSERS)
    assert named == {point.name for point in rooms if point.module.partition(".")[0] in {"loccol", "cecol"}} - NOT_OF_A_LOG
    for link in re.findall(r"\((\S+\.md)\)", rows):
        assert link in SHOWN or link in {"write-a-parser.md"}


@pytest.mark.parametrize(("page", "module"), [("write-a-format.md", "our_format.py"), ("write-a-transport.md", "our_transport.py")])
def test_the_plug_in_of_the_how_to_is_that_of_the_example(page: str, module: str) -> None:
    (shown,) = re.findall(r"```python\n(.*?)```", (HOW_TO / page).read_text(encoding="utf-8"), re.DOTALL)
    package = ROOT / "docs/examples/site-receiver"
    assert shown in (package / "our_receiver" / module).read_text(encoding="utf-8")
    registered = (package / "setup.cfg").read_text(encoding="utf-8")
    (entry,) = re.findall(r"```ini\n\[options.entry_points\]\n(.*?)```", (HOW_TO / page).read_text(encoding="utf-8"), re.DOTALL)
    assert entry in registered


def test_the_name_of_a_message_that_is_shown_is_one() -> None:
    (name,) = re.findall(r"`([0-9a-f]{8}/[0-9a-f]{14})`", (HOW_TO / "write-a-transport.md").read_text(encoding="utf-8"))
    number = name.partition("/")[2]
    assert Message(int(number[8:], 16), int(number[:8], 16), b"").name == name


def test_capacity_is_planned_by_what_was_measured() -> None:
    points = json.loads((ROOT / "docs/explanation/growth.json").read_text(encoding="utf-8"))["points"]
    page = (HOW_TO / "capacity-planning.md").read_text(encoding="utf-8")
    for phase in ("load", "join", "publish", "report"):
        (row,) = re.findall(rf"^\| {phase}\b[^|]*\|(.*)\|$", page, re.MULTILINE)
        measured = {one["database"]: one["elapsed_s"] for one in points if (one["phase"], one["jobs"]) == (phase, 1_000_000)}
        shown = [float(cell) for cell in row.split("|")]
        assert shown == [round(measured[name], 1) for name in ("sqlite", "postgresql", "mariadb")], phase
    for text, phase in (("loading ten million", "load"), ("a report over ten million", "report"), ("`publish`", "publish")):
        (memory,) = re.findall(rf"^\| {text}[^|]*\| (\d+)", page, re.MULTILINE)
        most = max(one["peak_mb"] for one in points if one["phase"] == phase and (one["jobs"] == 10_000_000 or phase == "publish"))
        assert int(memory) == round(most), phase
