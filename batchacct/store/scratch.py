"""The temporary tables that batchacct and its rooms make in their transactions, for a database that has to know them beforehand.

Each is told of by an entry point of the group `batchacct.scratch_tables`: a function that returns tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

from sqlalchemy import Table

from batchacct.parsing import registry

GROUP = "batchacct.scratch_tables"


def scratch_tables() -> list[Table]:
    """All there are.  Raises: PluginError if a room cannot be imported."""
    functions = (cast("Callable[[], Iterable[Table]]", registry.load(GROUP, name)) for name in registry.names(GROUP))
    return [table for function in functions for table in function()]
