"""`acct` of 2012: follows an LSF accounting file into the database. Run it as `python -m loccol.acct`.

Read are the file itself and what it was rotated to (`lsb.acct.1`, `lsb.acct.2.gz`), oldest first: else the lines written
between the last look and a rotation were lost. It is safe, as a file is known again by its content, whatever its name.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from batchacct.errors import ConfigError, SourceError
from batchacct.parsing.reading import open_stream
from batchacct.scripts import (
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

_ROTATED = re.compile(r"\.\d{1,4}(?:\.(?:gz|bz2|xz|zst))?")


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
        what = Log(PARSER, source_for(PARSER.name, [str(acctfile)], SOURCE), lambda: acct_files(acctfile))
        if options.dryrun:
            dry_run(store, what)
        else:
            read_log(store, what, options)


def acct_files(acctfile: Path) -> list[str]:
    """The accounting file, there or not, and what it was rotated to.  Raises: SourceError for a folder that cannot be listed."""
    name = acctfile.name
    try:
        beside = list(acctfile.parent.iterdir())
    except OSError as error:
        raise SourceError(f"folder {acctfile.parent} cannot be listed: {error.strerror}") from error
    rotated = [str(p) for p in beside if p.name.startswith(name) and _ROTATED.fullmatch(p.name, len(name))]
    return [str(acctfile), *sorted(rotated)]


if __name__ == "__main__":
    sys.exit(main())
