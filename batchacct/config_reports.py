"""Sections of the configuration that reports need beside the records: what the site has, and what its power is made of."""

from __future__ import annotations

import datetime as dt

from pydantic import model_validator

from batchacct.sections import Section, key

_FIRST_DAY, _LAST_DAY = dt.date(1970, 1, 1), dt.date(9999, 1, 1)


class Capacity(Section):
    """Cores that a cluster has for its jobs, for a time: utilisation is a share of them. The one that began last is in force."""

    cluster: str = key("cluster", sample="lsf1")
    cores: int = key("cores that jobs may use, counted as the jobs' processors are", sample=4096, ge=1, le=10**9)
    valid_from: dt.date = key("first day (UTC) it has them", _FIRST_DAY, sample=dt.date(2026, 1, 1))
    valid_until: dt.date = key("first day (UTC) it no longer has them", _LAST_DAY)

    @model_validator(mode="after")
    def _consistent(self) -> Capacity:
        _check_days(self.valid_from, self.valid_until)
        return self


class Energy(Section):
    """What a kilowatt-hour emits, for a time: for estimates of CO2e in reports. The one that began last is in force."""

    g_co2e_per_kwh: float = key("grams of CO2 equivalent a kWh", sample=112.0, ge=0, le=5000)
    source: str = key("who says so; reports name it beside each estimate", sample="grid operator, mean of 2025", min_length=1)
    valid_from: dt.date = key("first day (UTC) it holds", _FIRST_DAY, sample=dt.date(2026, 1, 1))
    valid_until: dt.date = key("first day (UTC) it holds no longer", _LAST_DAY)

    @model_validator(mode="after")
    def _consistent(self) -> Energy:
        _check_days(self.valid_from, self.valid_until)
        return self


def _check_days(valid_from: dt.date, valid_until: dt.date) -> None:
    """Raises: ValueError."""
    if valid_until <= valid_from:
        raise ValueError("valid_until is not after valid_from: it would be valid on no day")
