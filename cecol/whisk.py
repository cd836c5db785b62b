"""`whisk` of 2012: the identities of a computing element's BLAH logs into the database. Run it as `python -m cecol.whisk`.

Read is every `blahp.log-YYYYMMDD` of the folder, compressed or not, oldest first. What 2012 called the central mode, reading
each computing element's own MySQL database, is not in this release.
"""

from __future__ import annotations

import argparse
import glob
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from batchacct.errors import ConfigError, SourceError
from batchacct.parsing.reading import expand
from batchacct.scripts import COMPRESSED, Log, add_daemon_options, logfile_of, open_store, read_log, run, source_for, start_logging
from cecol.blah import PARSER

log = logging.getLogger(__name__)

SOURCE = "whisk"
PIDFILE = Path("/var/run/batchacct-cecold.pid")

_SOME_DAY = "blahp.log-20120401"
_CENTRAL = ("mgrfile", "manager", "cefile", "cetable")
_SOURCE_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def parser() -> argparse.ArgumentParser:
    """The options of 2012."""
    made = argparse.ArgumentParser("whisk", description="Insert the identities of BLAH logs into the database.")
    add = made.add_argument
    add("-a", "--acctdir", type=Path, help="folder of blahp.log-YYYYMMDD files")
    add("-c", "--connfile", type=Path, required=True, help="connection file")
    later = "central mode: not in this release"
    add("-d", "--mgrfile", help=later)
    add("-m", "--manager", metavar="TABLE,CLUSTER,SUBCLUSTER", help=later)
    add("-e", "--cefile", help=later)
    add("-t", "--cetable", help=later)
    add("-n", "--name", default=SOURCE, help=f"name of the source in the database (default {SOURCE}); a table's in 2012")
    add_daemon_options(made, PIDFILE)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit status."""
    options = parser().parse_args(arguments)
    return run(lambda: _whisk(options))


def _whisk(options: argparse.Namespace) -> None:
    start_logging("whisk", logfile_of(options))
    _check(options)
    folder = options.acctdir.absolute()
    with open_store(options.connfile) as store:
        files = blah_files(folder)
        if not files and not options.pidfile:
            raise SourceError(f"folder {folder} holds no blahp.log-YYYYMMDD: check --acctdir")
        if not files:
            log.warning("folder %s holds no blahp.log-YYYYMMDD yet", folder)
        source = source_for(PARSER.name, files or [str(folder / _SOME_DAY)], options.name)
        read_log(store, Log(PARSER, source, _patterns(folder)), options)


def _check(options: argparse.Namespace) -> None:
    if central := [f"--{name}" for name in _CENTRAL if getattr(options, name) is not None]:
        raise ConfigError(
            f"{', '.join(central)}: reading the databases of the computing elements is not in this release. Run whisk with "
            "--acctdir on each of them"
        )
    if options.acctdir is None:
        raise ConfigError("give --acctdir, the folder of the blahp.log-YYYYMMDD files")
    if not _SOURCE_NAME.fullmatch(options.name):
        raise ConfigError(f"--name {options.name!r}: a source's name is letters, digits and . _ - only")


def _patterns(folder: Path) -> tuple[str, ...]:
    name = f"{glob.escape(str(folder))}/blahp.log-{8 * '[0-9]'}"
    return tuple(name + suffix for suffix in COMPRESSED)


def blah_files(folder: Path) -> list[str]:
    """The logs of a folder, `.lock` files and others left out.  Raises: SourceError for a folder that cannot be listed."""
    try:
        next(folder.iterdir(), None)
    except OSError as error:
        raise SourceError(f"folder {folder} cannot be listed: {error.strerror}. Check --acctdir") from error
    return expand(_patterns(folder))


if __name__ == "__main__":
    sys.exit(main())
