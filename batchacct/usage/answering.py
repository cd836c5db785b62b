"""What a question about usage comes to, before it is put into bins: frames of groups, units of time, and sums."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd

from batchacct.usage.asking import Source, answers
from batchacct.usage.summing import Asked, Summed


def answered(source: Source, asked: Asked, wanted: Sequence[Summed]) -> list[pd.DataFrame]:
    """For each of `wanted` the sums that are asked for, of one state of the database.

    Columns: keys, levels, `unit` (Unix seconds / `unit_s`), and those of the sums. A group and unit may have several rows: they are
    to be added up. Raises: StoreError, ArchiveError.
    """
    found = answers(source, [partial(one.in_tables, asked) for one in wanted], asked.period)
    return [
        pd.DataFrame(rows, columns=[*asked.keys, *asked.levels, "unit", *one.columns])
        for rows, one in zip(found, wanted, strict=True)
    ]
