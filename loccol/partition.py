"""`partition` of 2012: adds monthly partitions to a table. Its options are there; partitions come with a later release."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from batchacct.errors import ConfigError
from batchacct.scripts import run, start_logging


def parser() -> argparse.ArgumentParser:
    """The options of 2012."""
    made = argparse.ArgumentParser("partition", description="Add monthly partitions to a table: comes with a later release.")
    add = made.add_argument
    add("-c", "--connfile", type=Path, help="connection file")
    add("-t", "--table", help="table")
    add("-d", "--dryrun", action="store_true", help="only print what would be done")
    add("-l", "--logfile", type=Path, help="log file (default: standard error)")
    add("-p", "--plan", type=int, default=3, metavar="MONTHS", help="how many months ahead (default 3)")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit status."""
    options = parser().parse_args(arguments)
    return run(lambda: _partition(options))


def _partition(options: argparse.Namespace) -> None:
    start_logging("partition", options.logfile)
    raise ConfigError("partitions come with a later release; this one's tables need none. Take this job out of the crontab")


if __name__ == "__main__":
    sys.exit(main())
