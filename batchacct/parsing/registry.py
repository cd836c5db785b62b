"""Plug-ins by entry point: parsers, formats, transports and commands, built-in and foreign alike."""

from __future__ import annotations

import difflib
import functools
import inspect
import logging
import re
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import cast

from batchacct.errors import PluginError
from batchacct.parsing.adapters import generator_parser
from batchacct.parsing.contract import Parser, printable
from batchacct.parsing.framing import unit_bytes

log = logging.getLogger(__name__)

PARSERS = "batchacct.parsers"
FORMATS = "batchacct.formats"
TRANSPORTS = "batchacct.transports"
COMMANDS = "batchacct.commands"

HEAD_BYTES = 16_384
"""How much of a file a parser sees to say whether it knows the format."""


@functools.cache
def installed(group: str) -> EntryPoints:
    """What is installed when a process first asks: reading it takes longer than looking at all sources."""
    return entry_points(group=group)


def names(group: str) -> list[str]:
    """Names registered in a group, sorted."""
    return sorted(installed(group).names)


def is_ours(group: str, name: str) -> bool:
    """Whether what is registered under `name` is of this program, and no plug-in."""
    ours = ("batchacct.", "loccol.", "cecol.", "procacct.", "pub.")
    return any(point.value.startswith(ours) for point in installed(group).select(name=name))


def load(group: str, name: str) -> object:
    """The object registered under `name`.

    Raises: PluginError if there is none (its room may not be installed), two of that name, or if importing it fails.
    """
    points = {point.value: point for point in installed(group).select(name=name)}
    kind = group.removeprefix("batchacct.").removesuffix("s")
    if not points:
        near = difflib.get_close_matches(name, names(group), 1)
        hint = f"did you mean {near[0]}?" if near else f"installed are: {', '.join(names(group)) or 'none'}"
        raise PluginError(f"{kind} {name!r} is not installed; {hint}")
    if len(points) > 1:
        raise PluginError(f"{kind} {name!r} is registered twice, by {' and '.join(sorted(points))}: uninstall one of them")
    return _import(kind, next(iter(points.values())))


def _import(kind: str, point: EntryPoint) -> object:
    try:
        return point.load()
    except Exception as error:
        raise PluginError(f"{kind} {point.name!r} ({point.value}) is broken: {type(error).__name__}: {error}") from error


def parser(name: str) -> Parser:
    """The parser registered under `name`, or what `module:function` names: a parser, or a generator (`parsing.adapters`).

    Raises: PluginError.
    """
    found = _named(name) if ":" in name else load(PARSERS, name)
    if all(hasattr(found, attribute) for attribute in ("name", "label", "record_type", "framing", "parse")):
        return cast("Parser", found)
    if inspect.isgeneratorfunction(found):
        return generator_parser(name.rpartition(":")[2], found)
    raise PluginError(
        f"parser {name!r} is neither a UnitParser nor a generator of dictionaries (a function with `yield`): see "
        "docs/how-to/write-a-parser.md"
    )


def unit_bytes_of(name: str) -> int:
    """At multiples of how many bytes the units of a parser begin (see `framing.unit_bytes`); 1 where there is no such parser."""
    try:
        return unit_bytes(parser(name).framing)
    except PluginError:
        return 1


def _named(name: str) -> object:
    """What `module:function` names.  Raises: PluginError."""
    if not re.fullmatch(r"[\w.]+:[\w.]+", name):
        raise PluginError(f"parser {name!r}: write it as module:function")
    return _import("parser", EntryPoint(name, name, PARSERS))


def _recognises(candidate: Parser, head: bytes) -> bool:
    try:
        return candidate.recognises(head)
    except Exception as error:  # noqa: BLE001 - as on import: a broken foreign parser does not stand in the way of the others
        log.warning("parser=%s failed at recognising a file: %s: %s", candidate.name, type(error).__name__, error)
        return False


def guess_parser(head: bytes, path: str) -> Parser:
    """The one parser that recognises a file by its first bytes.  Raises: PluginError if none or several do."""
    known = []
    for name in names(PARSERS):
        try:
            candidate = parser(name)
        except PluginError:
            continue
        if _recognises(candidate, head):
            known.append(candidate)
    if len(known) == 1:
        return known[0]
    what = "no parser recognises it" if not known else f"parsers {', '.join(p.name for p in known)} recognise it"
    raise PluginError(f"{path}: {what}; say which with --parser ({', '.join(names(PARSERS))}). It begins: {printable(head, 60)}")
