"""`acct` of 2012: follows an LSF accounting file into the database. Run it as `python -m loccol.acct`.

Read are the file itself and what it was rotated to (`lsb.acct.1`, `lsb.acct.2.gz`), oldest first: else the lines written
between the last look and a rotation were lost. It is safe, as a file is known again by its content, whatever its name.
"""

from __future__ import annotations

import argparse
import glob
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from batchacct.errors import ConfigError
from batchacct.parsing.reading import open_stream
from batchacct.scripts import (
    COMPRESSED,
    Log,
    add_daemon_options,
    dry_run,
    logfile_of,
    open_store,
    read_log,
    run,
    source_for,
    start_logging,
)
from loccol.lsf import PARSER

log = logging.getLogger(__name__)

SOURCE = "acct"
PIDFILE = Path("/var/run/batchacctd.pid")

MOST_DIGITS = 4
"""The number of a rotated file has so many digits at the most."""


def parser() -> argparse.ArgumentParser:
    """The options of 2012."""
    made = argparse.ArgumentParser("acct", description="Insert the jobs of an LSF accounting file into the database.")
    add = made.add_argument
    add("-c", "--connfile", type=Path, required=True, help="connection file")
    add("-a", "--acctfile", type=Path, default=Path("lsb.acct"), help="accounting file (default lsb.acct)")
    add_daemon_options(made, PIDFILE)
    add("-d", "--dryrun", action="store_true", help="log what would be inserted, and write nothing to the database")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit status."""
    options = parser().parse_args(arguments)
    return run(lambda: _acct(options))


def _acct(options: argparse.Namespace) -> None:
    start_logging("acct", logfile_of(options))
    if options.dryrun and options.pidfile:
        raise ConfigError("--dryrun reads what is there and ends: leave --pidfile out")
    acctfile = options.acctfile.absolute()
    with open_store(options.connfile) as store:
        with open_stream(str(acctfile)):
            pass
        what = Log(PARSER, source_for(PARSER.name, [str(acctfile)], SOURCE), acct_files(acctfile))
        if options.dryrun:
            dry_run(store, what)
        else:
            read_log(store, what, options)


def acct_files(acctfile: Path) -> tuple[str, ...]:
    """The accounting file, and patterns of what it was rotated to."""
    name = glob.escape(str(acctfile))
    numbers = (".[0-9]" + digits * "[0-9]" for digits in range(MOST_DIGITS))
    return (name, *(f"{name}{number}{suffix}" for number in numbers for suffix in COMPRESSED))


if __name__ == "__main__":
    sys.exit(main())
