"""JSON, whole columns at a time: strings, numbers, instants. All of it is ASCII, so that every transport carries it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchacct.model import INSTANT
from pub.formats.text import all_printable, blanked, joined, valid

if TYPE_CHECKING:
    from typing import Any

    from pub.formats.text import Mask, Values

_TO_ESCAPE = r'[^ -~]|["\\]'


def quoted(values: Values) -> Values:
    """The texts as JSON strings, with their quotes; null stays null."""
    if not all_printable(values, b'"\\'):
        special = cast("pa.BooleanArray", pc.match_substring_regex(values, _TO_ESCAPE).fill_null(False))
        texts = pa.array([json.dumps(text)[1:-1] for text in values.filter(special).to_pylist()], pa.string())
        values = cast("Values", pc.replace_with_mask(values, special, texts))
    return joined('"', values, '"')


def instants(values: Values) -> Values:
    """Unix seconds as `"2026-11-01T12:00:00Z"`, with the quotes; null stays null."""
    at = cast("pa.TimestampArray[Any]", values.cast(INSTANT))
    return joined('"', pc.strftime(at, format="%Y-%m-%dT%H:%M:%SZ"), '"')


def not_finite(values: Values) -> Mask:
    """Where a real number is none that JSON has."""
    return np.asarray(valid(values) & ~np.isfinite(values.to_numpy(zero_copy_only=False)), dtype=np.bool_)


def reals(values: Values) -> Values:
    """Real numbers, each as short as it comes back the same; null where JSON has none."""
    return blanked(values, not_finite(values)).cast(pa.string())
