"""That the rows which a node sends are its own: nobody but a host tells what ran there.

This is asked by the receiver, as it alone knows who sent them: what is in the mirror is then true of its folder for all who read
it. A line that is no row of that form is let through, as the collector rejects it. Nearly all lines are written as procacctd
writes them, and told by looking for two words; others are read.
"""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase

from procacct.shipping.ranges import Range, Unusable

_WILD = re.compile(r"[*?\[]")
_OF_KEY = re.compile(r"(?:(?:gap|sum)/)*([^/]*)/")
"""The host in the key of a row: those of sums and gaps have a word before it."""


def require_own_rows(one: Range, names: str) -> None:
    """`names`: what the rows may call their host, as a pattern.  Raises: Unusable naming the first that is another's."""
    is_plain, has_host_in_key = _WILD.search(names) is None, one.file.kind != "objects"
    as_written = (b'"host":"%s"' % names.encode(), b'"record_key":"%s/' % names.encode())[: 1 + has_host_in_key]
    for line in one.content.split(b"\n"):
        if is_plain and _is_as_written(line, as_written):
            continue
        for name in _hosts_of(line, has_host_in_key=has_host_in_key):
            if not fnmatchcase(name, names):
                raise Unusable(f"{one.file} has a row of host {name[:100]!r}, which is not {names}, as [receive] rows says")


def _is_as_written(line: bytes, words: tuple[bytes, ...]) -> bool:
    """Whether each of the keys is there once, with its value, and no other spelling of it can be."""
    return rb"\u" not in line and all(word in line and line.count(word[: word.index(b":")]) == 1 for word in words)


def _hosts_of(line: bytes, *, has_host_in_key: bool) -> list[str]:
    """Whose row it says to be; nobody's if it is no row."""
    try:
        row = json.loads(line.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return []
    if not isinstance(row, dict):
        return []
    found = [row["host"]] if isinstance(row.get("host"), str) else []
    key = row.get("record_key")
    if has_host_in_key and isinstance(key, str) and (match := _OF_KEY.match(key)) is not None:
        found.append(match[1])
    return found
