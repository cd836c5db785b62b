"""The figures of some people's jobs alone: whatever is asked, what is of others is in no answer.

A job is theirs if it ran under one of their accounts, or was sent by one of their grid identities. Jobs that are theirs in both
ways count once: those by identity are asked by account, too, and left out where the account is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

import pandas as pd

from cpuhours.figures import Figures
from cpuhours.query import Gaps, How, efficiency

_NOBODY = ("",)
"""An account that no job has: names are never empty."""


@dataclass(frozen=True, slots=True)
class OwnFigures:
    """Figures (`cpuhours.figures.Figures`) of the jobs of `accounts` and `identities`."""

    all_of_them: Figures
    accounts: tuple[str, ...]
    identities: tuple[str, ...]

    def usage_by(self, *, by: str | Sequence[str], **how: Unpack[How]) -> pd.DataFrame:
        names = [by] if isinstance(by, str) else list(by)
        where = {**(how.get("where") or {})}
        users = where.pop("user", ())

        def ask(by: Sequence[str], only: Mapping[str, Sequence[str]]) -> pd.DataFrame:
            narrowed: How = {**how, "where": {**where, **only}}
            return self.all_of_them.usage_by(by=by, **narrowed)

        accounts = [name for name in self.accounts if not users or name in users] or list(_NOBODY)
        found = ask(names, {"user": accounts})
        if not self.identities:
            return found
        by_identity = {"identity": self.identities} | ({"user": users} if users else {})
        others = ask([*dict.fromkeys([*names, "user"])], by_identity)
        others = others[~others["user"].isin(self.accounts)]
        keys = [name for name in found.columns if name in {*names, "bin", "day"}]
        return _together(keys, found, others)

    def benchmark_types(self) -> list[str]:
        return self.all_of_them.benchmark_types()

    def ends(self) -> tuple[int, int] | None:
        """Of nobody: when others' jobs ended is not told. Questions have a period."""
        return None

    def first_start(self) -> int | None:
        return None

    def logged_span(self) -> tuple[int, int] | None:
        return self.all_of_them.logged_span()

    def collection_gaps(self, begin: int, end: int) -> Gaps:
        return self.all_of_them.collection_gaps(begin, end)

    def notes(self, period: tuple[int | None, int | None]) -> list[str]:
        """How much of everybody's was purged is not told, only that some was."""
        if not self.all_of_them.notes(period):
            return []
        return ["Records of some months of this time were purged from the archive: your jobs of then are not in these figures."]


def _together(keys: Sequence[str], found: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """The sums of two answers, in the order of the groups."""
    pieces = [piece[list(found.columns)] for piece in (found, others) if len(piece)]
    if not pieces:
        return found
    whole = pd.concat(pieces, ignore_index=True)
    sums = [name for name in found.columns if name not in {*keys, "efficiency"}]
    if keys:
        whole = whole.groupby(list(keys), as_index=False, dropna=False, sort=True)[sums].sum()
    else:
        whole = whole[sums].sum().to_frame().T.astype(found[sums].dtypes.to_dict())
    return whole.assign(efficiency=efficiency(whole))[list(found.columns)]
