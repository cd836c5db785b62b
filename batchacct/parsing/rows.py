"""Rows of other programs' databases as units: a line of JSON with the name of the table, and the row's columns in it.

    {"loc": {"jobId": 4242, "idx": 0, "eventTime": "2012-05-20 13:37:00", "queue": "grid_atlas"}}

The importers (`batchacct.importing`) write them; a column that is null is left out.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Mapping
from decimal import Decimal

from batchacct.model import LAST_INSTANT
from batchacct.parsing.contract import Reject

MISSING_BEFORE = 2 * 86_400
"""Programs that keep local times write 1970-01-01 of their zone for a time there is none of."""


def unit_of(table: str, row: Mapping[str, object]) -> bytes:
    """The line of a row, with the end of the line."""
    return json.dumps({table: plain(row)}, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace") + b"\n"


def plain(row: Mapping[str, object]) -> dict[str, object]:
    """The values of a row as its unit has them, without those that are null."""
    return {name: _plain(value) for name, value in row.items() if value is not None}


def _plain(value: object) -> object:
    if isinstance(value, str | int):
        return value
    if isinstance(value, dt.datetime):
        return value.isoformat(" ", "seconds")
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


class RowValues:
    """The columns of one row.  Every method raises: Reject for a value that is none of its kind."""

    def __init__(self, table: str, values: Mapping[str, object]) -> None:
        self.table, self._values = table, values

    def text(self, name: str) -> str | None:
        """A text; null where it is empty, or the word None, which the APEL client writes for nothing."""
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise Reject(f"{name} is no text")
        return None if value in ("", "None") else str(value)

    def required(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise Reject(f"{name} is missing")
        return value

    def integer(self, name: str) -> int | None:
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise Reject(f"{name} is no whole number")
        return value

    def number(self, name: str) -> Decimal | None:
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise Reject(f"{name} is no number")
        return Decimal(repr(value))

    def instant(self, name: str, zone: dt.tzinfo, after: int | None = None) -> int | None:
        """Unix seconds of a time on a clock of `zone`; null for none.

        Of the hour that comes twice, the first, unless it is known to be `after` what would be later than that.
        """
        value = self._values.get(name)
        if value is None:
            return None
        try:
            shown = dt.datetime.fromisoformat(str(value)).replace(microsecond=0)
        except ValueError as error:
            raise Reject(f"{name} is no time: {str(value)[:40]!r}") from error
        if shown.tzinfo is not None:
            raise Reject(f"{name} has a time zone, which the table is not known to have")
        seconds = int(shown.replace(tzinfo=zone).timestamp())
        if after is not None and seconds < after <= (second := int(shown.replace(tzinfo=zone, fold=1).timestamp())):
            seconds = second
        if seconds < MISSING_BEFORE:
            return None
        if seconds > LAST_INSTANT:
            raise Reject(f"{name} is after 2099")
        if dt.datetime.fromtimestamp(seconds, zone).replace(tzinfo=None, fold=0) != shown:
            raise Reject(f"{name} is {shown}, which the clocks of {zone} skipped: is that the zone of the database's times?")
        return seconds


def row_of(unit: bytes, *tables: str) -> RowValues:
    """The row of a unit.  Raises: Reject unless it is one of these tables."""
    try:
        told = json.loads(unit)
    except (ValueError, RecursionError) as error:
        raise Reject("it is no JSON") from error
    if not isinstance(told, dict) or len(told) != 1:
        raise Reject("it is no JSON object of one table's row")
    ((table, values),) = told.items()
    if table not in tables or not isinstance(values, dict):
        raise Reject(f"it is no row of {' or '.join(tables)}")
    return RowValues(table, values)
