"""The `pub` settings file of 2012: a line a key, which is a word, blanks, and its value to the end of the line.

    site            EXAMPLE-SITE
    unit            Si2k
    factorConstant  250
    fields          Site SubmitHost LocalJobId FQAN WallDuration CpuDuration StartTime EndTime ServiceLevelType ServiceLevel
    cluster         lsf-master.example.org

| key            | meaning                                                                                             |
|----------------|-----------------------------------------------------------------------------------------------------|
| site           | site name                                                                                           |
| unit           | ServiceLevelType: Si2k, HEPSPEC (HEPSPEC06, HS06) or HEPscore23                                     |
| factorConstant | ServiceLevel is the host factor times this whole number, rounded down                               |
| fields         | the fields written, in the layout's order whatever this one; all where it is left out               |
| cluster        | SubmitHost of jobs without a computing element                                                      |

Blank lines, and lines that begin with `#`, are passed over.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from batchacct.errors import ConfigError

KEYS = ("site", "unit", "factorConstant", "fields", "cluster")
OPTIONAL = ("fields",)

Unit = Literal["HEPscore23", "HEPSPEC", "Si2k"]

_UNITS: dict[str, Unit] = {
    "si2k": "Si2k",
    "hepspec": "HEPSPEC",
    "hepspec06": "HEPSPEC",
    "hs06": "HEPSPEC",
    "hepscore23": "HEPscore23",
}


@dataclass(frozen=True, slots=True)
class Settings2012:
    """The settings; `fields` is None for all of them."""

    site: str
    unit: Unit
    factor_constant: int
    fields: tuple[str, ...] | None
    cluster: str


def read_settings(path: Path) -> Settings2012:
    """The settings in a file.  Raises: ConfigError naming everything that is wrong with it at once."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"settings {path} cannot be read: {error}") from error
    problems: list[str] = []
    values: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            _take(number, line, values, problems)
    missing = [key for key in KEYS if key not in values and key not in OPTIONAL]
    problems += [f"{key} is missing" for key in missing]
    unit = _UNITS.get(values.get("unit", "").lower())
    if "unit" in values and unit is None:
        problems.append(f"unit: {values['unit']} is none of Si2k, HEPSPEC, HEPscore23")
    constant = values.get("factorConstant", "")
    if constant and not (constant.isascii() and constant.isdigit() and int(constant)):
        problems.append(f"factorConstant: {constant} is no whole number above 0")
    if problems or unit is None:
        told = "\n".join(f"  {problem}" for problem in problems)
        raise ConfigError(f"settings {path}:\n{told}")
    fields = tuple(values["fields"].split()) if "fields" in values else None
    return Settings2012(values["site"], unit, int(constant), fields, values["cluster"])


def _take(number: int, line: str, values: dict[str, str], problems: list[str]) -> None:
    key, *rest = line.split(None, 1)
    if key not in KEYS:
        near = difflib.get_close_matches(key, KEYS, 1)
        problems.append(f"line {number}: there is no key {key}" + (f"; did you mean {near[0]}?" if near else ""))
    elif key in values:
        problems.append(f"line {number}: {key} is given twice")
    elif not rest:
        problems.append(f"line {number}: {key} has no value")
        values[key] = ""
    else:
        values[key] = rest[0].strip()
