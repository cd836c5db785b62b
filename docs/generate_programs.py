"""The reference pages of programs beside `batchacct`: their help texts, and the keys of a node's configuration."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import get_origin

import click
from pydantic import BaseModel

from batchacct.config_sample import keys_table, sections_within
from procacct.node.config import DEFAULT_PATH, NodeConfig
from tools.packages.layout import ROOMS, commands
from tools.packages.pages import command_of, root_context

OURS = "batchacct"
"""It has a page of its own."""


def programs() -> dict[str, str]:
    """Name of each program, and its module and function."""
    found = {name: target for room in ROOMS for name, target in commands(room.module).items() if name != OURS}
    return dict(sorted(found.items()))


def programs_page(head: str, width: int) -> str:
    """docs/reference/programs.md, help texts `width` columns wide."""
    lines = ["# Programs of a node", "", head, "`batchacct` itself: [commands](commands.md).", ""]
    for name, target in programs().items():
        command = command_of(name, target)
        if command is None:
            lines += [f"## `{name}`", "", "```", import_module(target.partition(":")[0]).USAGE.strip(), "```", ""]
        else:
            lines += help_of(command, root_context(command, name, width))
    return "\n".join(lines)


def help_of(command: click.Command, context: click.Context) -> Iterator[str]:
    """A command and those below it, each under a heading."""
    yield from [f"## `{context.command_path}`", "", "```", context.get_help(), "```", ""]
    for name in command.list_commands(context) if isinstance(command, click.Group) else ():
        found = command.get_command(context, name) if isinstance(command, click.Group) else None
        assert found is not None
        yield from help_of(found, click.Context(found, info_name=name, parent=context))


def node_configuration_page(head: str) -> str:
    """docs/reference/node-configuration.md: every table and key of procacctd.toml."""
    lines = ["# Configuration of a node", "", head]
    lines += [
        f"One TOML file of `procacctd` and `procacct ship`: `--config`, else `{DEFAULT_PATH}`; without it all defaults hold.",
        "",
    ]
    return "\n".join([*lines, *_table(NodeConfig, "", "top of the file")])


def _table(section: type[BaseModel], above: str, title: str) -> Iterator[str]:
    first = (section.__doc__ or "").strip().split("\n")[0]
    yield from [f"## `{title}`", "", "The whole file." if section is NodeConfig else first, "", *keys_table(section), ""]
    for name, within in sections_within(section):
        path = f"{above}{name}"
        is_list = get_origin(section.model_fields[name].annotation) is list
        yield from _table(within, f"{path}.", f"[[{path}]]" if is_list else f"[{path}]")
