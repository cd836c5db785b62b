"""FQANs: what a VOMS attribute says about a user, `/vo[/group...][/Role=name][/Capability=name]`.

Source of the facts: APEL's `parse_fqan` (apel/common/parsing_utils.py), with which this agrees on every value of
APEL's own test, except that an absent role is None here and the text `None` there. It also handles what APEL's does
not: empty elements (`//`), `/` alone, a capability without a role (APEL makes it part of the group), FQANs separated
by blanks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_BETWEEN_FQANS = re.compile(r"(?<!\s)\s*+;\s*|(?<!\s)\s++(?=/)")
"""A run of blanks is looked at from its beginning alone: else a long one would take time with the square of its length."""


@dataclass(frozen=True, slots=True)
class Fqan:
    """VO, group with the VO in it (`/atlas/higgs`), and role with its key as written (`Role=pilot`, `Role=NULL`)."""

    vo: str | None
    group: str | None
    role: str | None


NO_FQAN = Fqan(None, None, None)


def split_fqans(text: str) -> tuple[str, ...]:
    """The FQANs of a list joined by `;` (as batchacct of 2012 and APEL publish it) or by blanks, in order."""
    return tuple(fqan for fqan in _BETWEEN_FQANS.split(text.strip()) if fqan)


def parse_fqan(text: str) -> Fqan:
    """VO, group and role of the primary FQAN, the first of the list.

    A text that does not begin with `/` is no FQAN but the name of a VO. What follows the role is ignored.
    """
    primary = next(iter(split_fqans(text)), "")
    if not primary.startswith("/"):
        return Fqan(primary or None, None, None)
    groups: list[str] = []
    role = None
    for element in filter(None, primary.split("/")):
        if element.lower().startswith("role="):
            role = element
            break
        if not element.lower().startswith("capability="):
            groups.append(element)
    if not groups:
        return Fqan(None, None, role)
    return Fqan(groups[0], "/" + "/".join(groups), role)
