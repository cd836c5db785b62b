"""Names and amounts as pictures write them."""

from __future__ import annotations

import math

from batchacct.cli.common import harmless

LONGEST_NAME = 28
NO_NAME = "(no name)"


def legend_text(name: str, total: float) -> str:
    """`atlas:  1,234`."""
    text = f"{short_name(name)}:  {amount_text(total)}"
    return f" {text}" if text.startswith("_") else text  # matplotlib keeps labels that begin with an underscore out of legends


def short_name(name: str) -> str:
    """A name on one line, its middle left out if it is long: the ends of names differ, too."""
    text = harmless(name).replace("\n", "\\n") or NO_NAME
    return text if len(text) <= LONGEST_NAME else f"{text[:17]}\N{HORIZONTAL ELLIPSIS}{text[-10:]}"


def amount_text(value: float) -> str:
    """`1,234`, `12.3`, `0.012`: an amount with as many digits as a reader wants."""
    if math.isnan(value):
        return "unknown"
    return f"{value:,.0f}" if abs(value) >= 100 or value.is_integer() else f"{value:,.1f}" if abs(value) >= 1 else f"{value:.2g}"
