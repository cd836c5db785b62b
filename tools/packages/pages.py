"""Man pages and shell completion of every command, from the same help texts as docs/reference/commands.md.

`python -m tools.packages.pages FOLDER` writes FOLDER/man/NAME.1 and FOLDER/completion/SHELL/NAME; it imports the commands.
"""

from __future__ import annotations

import datetime as dt
import inspect
import os
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from tools.packages.layout import ROOMS, commands, version

SHELLS = ("bash", "zsh", "fish")
WIDTH = 78
"""Columns of the lists of options and commands, which a man page shows as they are."""
DAEMONS = ("procacctd",)
"""What is of section 8."""
FILES = {
    "batchacct": (("/etc/batchacct/batchacct.toml", "the configuration; BATCHACCT_CONFIG names another"),),
    "procacct": (
        ("/etc/batchacct/procacctd.toml", "the configuration of a node"),
        ("/etc/batchacct/batchacct.toml", "that of the central host"),
    ),
    "procacctd": (("/etc/batchacct/procacctd.toml", "the configuration"),),
}
COMMAND_IN = {"batchacct": "batchacct.cli.main"}
"""Where a command is, if not in the module of its entry point."""
SEE = "The manual is in /usr/share/doc/batchacct."


def page(name: str, summary: str, sections: list[tuple[str, str]], also: list[str]) -> str:
    """A man page: sections are a title and text, which is shown as it stands."""
    lines = [f'.TH "{name.upper()}" {section_of(name)} "{_day()}" "batchacct {version()}" "batchacct"', ".SH NAME"]
    lines += [f"{_escaped(name)} \\- {_escaped(summary)}"]
    for title, text in sections:
        lines += [f".SH {title}", ".nf", *(_line(line) for line in text.rstrip().split("\n")), ".fi"]
    lines += [".SH SEE ALSO", ",\n".join(f".BR {_escaped(other)} ({section_of(other)})" for other in also).replace(",\n", " ,\n")]
    return "\n".join([*lines, ".PP", _escaped(SEE), ""])


def section_of(name: str) -> int:
    return 8 if name in DAEMONS else 1


def _day() -> str:
    """Of the source, not of the build: the same source gives the same page."""
    return dt.datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), dt.UTC).date().isoformat()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga").replace("^", "\\(ha")


def _line(text: str) -> str:
    escaped = _escaped(text).replace("~", "\\(ti")
    return "\\&" + escaped if escaped.startswith((".", "\\(aq")) else escaped


def pages_of(command: click.Command, context: click.Context, also: list[str]) -> Iterator[tuple[str, str]]:
    """Name and text of the page of a command, and of those below it."""
    name = "-".join(context.command_path.split())
    below = command.list_commands(context) if isinstance(command, click.Group) else []
    formatter = click.HelpFormatter(width=WIDTH)
    command.format_usage(context, formatter)
    usage = re.sub(r"^Usage: ", "", formatter.getvalue())
    formatter = click.HelpFormatter(width=WIDTH)
    command.format_options(context, formatter)
    sections = [("SYNOPSIS", usage), ("DESCRIPTION", _described(command)), *_listed(formatter.getvalue())]
    if not also:
        sections += [("FILES", "\n".join(f"{path}: {what}." for path, what in FILES.get(name, ())))] if name in FILES else []
    sections += [("EXIT STATUS", "0 only if all of it worked. The others: exit-statuses.md of the manual.")]
    parents = also or [f"{name}-{child}" for child in below] or ["batchacct"]
    yield name, page(name, _summary(command), sections, parents)
    for child in below:
        found = command.get_command(context, child) if isinstance(command, click.Group) else None
        assert found is not None
        yield from pages_of(found, click.Context(found, info_name=child, parent=context, terminal_width=WIDTH), [name])


def _summary(command: click.Command) -> str:
    return (command.help or "").strip().split("\n\n")[0].replace("\n", " ").rstrip(".")


def _described(command: click.Command) -> str:
    formatter = click.HelpFormatter(width=WIDTH)
    formatter.write_text(inspect.cleandoc(command.help or ""))
    return formatter.getvalue()


def _listed(text: str) -> Iterator[tuple[str, str]]:
    """Options and commands, as sections of their own."""
    for title, content in re.findall(r"^(\w+):\n((?:(?: .*)?\n)+)", text, re.MULTILINE):
        yield title.upper(), "\n".join(line.removeprefix("  ") for line in content.rstrip().split("\n"))


def plain(name: str, usage: str) -> str:
    """The page of a program that is no click command, of its usage text."""
    synopsis, _, rest = usage.strip().partition("\n\n")
    summary = rest.partition("\n\n")[0].replace("\n", " ").partition(". ")[0].rstrip(".") or f"{name}, of batchacct"
    return page(
        name, summary, [("SYNOPSIS", re.sub(r"^[Uu]sage: ", "", synopsis)), ("DESCRIPTION", rest)], ["batchacct", "procacctd"]
    )


def all_pages() -> dict[str, str]:
    """Man page of every command: name and text."""
    found: dict[str, str] = {}
    for room in ROOMS:
        for name, target in commands(room.module).items():
            command = command_of(name, target)
            if command is None:
                found[name] = plain(name, import_module(target.partition(":")[0]).USAGE)
            else:
                found |= dict(pages_of(command, root_context(command, name), []))
    return found


def root_context(command: click.Command, name: str, width: int = WIDTH) -> click.Context:
    """That of a program, with what it is run with, `-h` among it.

    Click keeps the help option of a command as the first context had it, which may have been of the command alone: it is made anew.
    """
    names = command.context_settings.get("help_option_names")
    context = click.Context(command, info_name=name, terminal_width=width, help_option_names=names)
    _forget_help(command, context)
    return context


def _forget_help(command: click.Command, context: click.Context) -> None:
    command._help_option = None  # noqa: SLF001 - there is no public way
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            if (part := command.get_command(context, name)) is not None:
                _forget_help(part, context)


def command_of(name: str, target: str) -> click.Command | None:
    """The click command that a program is: the group of its module, or what has the program's name; None where it is none."""
    module = import_module(COMMAND_IN.get(name, target.partition(":")[0]))
    found = (getattr(module, attribute, None) for attribute in ("group", name))
    return next((command for command in found if isinstance(command, click.Command)), None)


def completions() -> Iterator[tuple[str, str, str]]:
    """Shell, program and script, of programs that are click commands."""
    for room in ROOMS:
        for name, target in commands(room.module).items():
            command = command_of(name, target)
            for shell in SHELLS if command is not None else ():
                kind = get_completion_class(shell)
                assert kind is not None and command is not None
                variable = f"_{name}_COMPLETE".replace("-", "_").upper()
                yield shell, name, kind(command, {}, name, variable).source().strip() + "\n"


def write(folder: Path) -> None:
    for name, text in all_pages().items():
        path = folder / "man" / f"{name}.{section_of(name)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for shell, name, text in completions():
        path = folder / "completion" / shell / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
