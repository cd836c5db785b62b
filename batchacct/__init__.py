"""batchacct: accounting for batch farms."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchacct.insertion import insert

__version__ = "0.1.0"
__all__ = ["__version__", "insert"]


def __getattr__(name: str) -> object:
    """`batchacct.insert` brings the database libraries along, so it is imported when it is first asked for."""
    if name == "insert":
        from batchacct.insertion import insert  # noqa: PLC0415

        return insert
    raise AttributeError(f"module 'batchacct' has no attribute {name!r}")
