"""The how-to of shipping shows configurations that are taken, and commands that exist."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from batchacct.config import Config
from batchacct.errors import ConfigError
from procacct.node.config import NodeConfig
from procacct.shipping.commands import group, ship
from tools.packages.pages import root_context

PAGE = Path(__file__).parents[2] / "docs/how-to/processes-to-a-central-host.md"


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [text for name, text in found if name == language]


def test_configurations() -> None:
    of_node, central = (tomllib.loads(block) for block in blocks("toml"))
    node = NodeConfig.model_validate(of_node)
    assert node.ship is not None
    assert node.ship.tls is not None
    assert node.spool_keep_s == 0, "what is not sent yet does not go because of its age"
    rest = {"site": "S", "database": {"url": "sqlite://"}, "cluster": [{"name": "lsf1"}]}
    config = Config.model_validate(rest | central)
    assert config.receive is not None
    assert config.receive.destination == node.ship.destination
    assert {source.parser for source in config.source} == {"procs", "procs-objects", "procs-groups"}
    assert all(path.startswith(f"{config.receive.folder}/*/") for source in config.source for path in source.paths)


def test_commands() -> None:
    shown = [shlex.split(line, comments=True) for block in blocks("") for line in block.splitlines() if line.startswith("procacct")]
    assert {words[1] for words in shown} == {"ship", "receive", "tidy"}
    for _, name, *words in shown:
        group.commands[name].make_context(name, words, parent=root_context(group, "procacct"))


def test_a_node_that_is_not_told_where_to_ship(tmp_path: Path) -> None:
    config = tmp_path / "procacctd.toml"
    config.write_text('host = "n1"\n')
    with pytest.raises(ConfigError, match=r"has no table \[ship\]"):
        ship.main(["--config", str(config)], standalone_mode=False)
    config.write_text('ship.brokers = ["mq:61613"]\nship.windw = 3\n')
    with pytest.raises(ConfigError, match=r"ship.windw: there is no such key; did you mean window\?"):
        ship.main(["--config", str(config)], standalone_mode=False)
    config.write_text('host = "../n1"\nship.brokers = ["mq:61613"]\n' + f'ship.state = "{tmp_path}/s"\nspool.path = "{tmp_path}"\n')
    with pytest.raises(ConfigError, match="is no host name: set host in"):
        ship.main(["--config", str(config)], standalone_mode=False)
