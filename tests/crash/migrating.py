"""What is killed by tests: a migration, then the partitions of the months there are."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from batchacct.errors import BatchacctError
from batchacct.store import Store, partitions


def main(arguments: Sequence[str]) -> int:
    """Arguments: the database's URL, and the time it is."""
    url, now = arguments
    store = Store(url)
    try:
        store.migrate()
        for line in partitions.keep(store, partitions.TABLES, 1, int(now)):
            sys.stdout.write(f"{line}\n")
    except BatchacctError as error:
        sys.stdout.write(f"{error.message}\n")
        return error.exit_code
    finally:
        store.close()
    return 0
