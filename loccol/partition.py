"""`partition` of 2012: adds monthly partitions to a table. Run it as `python -m loccol.partition`, monthly from cron.

It looks at the last partition there is, and adds months up to `--plan` ahead, as `batchacct db partition` does; of all tables of
the schema that have partitions, or of one (`--table`): `loc` and `ce` are the templates' names for `job` and `identity`.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from batchacct.clock import unix_now
from batchacct.errors import SchemaError
from batchacct.scripts import absolute_url, open_store, run, start_logging
from batchacct.store import Store, partitions

log = logging.getLogger(__name__)

TEMPLATES = {"loc": "job", "ce": "identity"}


def parser() -> argparse.ArgumentParser:
    """The options of 2012."""
    made = argparse.ArgumentParser("partition", description="Add monthly partitions to a table, some months ahead.")
    add = made.add_argument
    add("-c", "--connfile", type=Path, required=True, help="connection file")
    add("-t", "--table", help="table (default: all that have partitions)")
    add("-d", "--dryrun", action="store_true", help="only print the SQL")
    add("-l", "--logfile", type=Path, help="log file (default: standard error)")
    add("-p", "--plan", type=int, default=3, metavar="MONTHS", choices=range(121), help="how many months ahead (default 3)")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit status."""
    options = parser().parse_args(arguments)
    return run(lambda: _partition(options))


def _partition(options: argparse.Namespace) -> None:
    start_logging("partition", options.logfile)
    wanted = partitions.TABLES if options.table is None else [TEMPLATES.get(options.table, options.table)]
    with _store(options.connfile, wanted) as store:
        for line in partitions.keep(store, wanted, options.plan, unix_now(), dryrun=options.dryrun):
            if options.dryrun:
                sys.stdout.write(f"{line}\n")
            else:
                log.info("%s", line)


@contextmanager
def _store(connfile: Path, wanted: Sequence[str]) -> Iterator[Store]:
    """The store; a copy of a table (`create --name`) may be alone in its database.  Raises: SchemaError."""
    if not set(wanted) & set(partitions.TABLES):
        with contextlib.closing(Store(absolute_url(connfile))) as store:
            yield store
        return
    try:
        with open_store(connfile) as store:
            yield store
    except SchemaError as error:
        raise SchemaError(f"{error.message}; for a copy made by `create --name`, say which with --table") from error


if __name__ == "__main__":
    sys.exit(main())
