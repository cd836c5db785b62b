"""What the scripts of 2012 share: the connection file, logging as then, and reading logs, once or as a daemon.

A script stays in the foreground and logs to standard error, unless told otherwise: `--pidfile` makes a daemon of it. What
can be wrong with the options, the database and the files is found out before, so that the exit status says so.
"""

from __future__ import annotations

import argparse
import fnmatch
import logging
import logging.handlers
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from batchacct import memory
from batchacct.clock import unix_now
from batchacct.collector import Collector, collect_once
from batchacct.collector.running import lock_name
from batchacct.collector.service import Plan, Service
from batchacct.config import default_path, load_config
from batchacct.connection import database_url
from batchacct.daemon import run_as_daemon
from batchacct.errors import BatchacctError, CheckpointError, ConfigError, IncompleteError, ParseError, SchemaError, SourceError
from batchacct.following import locate, skip
from batchacct.parsing import Parser, Source
from batchacct.parsing.compressed import is_compressed
from batchacct.parsing.framing import unit_bytes
from batchacct.parsing.reading import expand, open_stream, read_blocks
from batchacct.store import Store, known_positions

log = logging.getLogger(__name__)

DAEMON_LOGFILE = Path("/tmp/batchacct.log")  # noqa: S108 - the default of 2012; see `_LogFile`
HEARTBEAT_MINUTES = 180.0

COMPRESSED = ("", ".gz", ".bz2", ".xz", ".zst")
"""What the name of a rotated file may end with."""


# --- one run of a script -------------------------------------------------------------------------------------------------------


def run(body: Callable[[], None]) -> int:
    """Runs a script's body: 0 only if all of it worked, else the error's own status, and the error in the log."""
    memory.keep_freed()
    try:
        body()
    except BatchacctError as error:
        log.error("%s", error.message)  # noqa: TRY400 - told to people, who need no traceback
        return error.exit_code
    except KeyboardInterrupt:
        log.error("interrupted; what was stored before stays stored")  # noqa: TRY400
        return 130
    return 0


def start_logging(script: str, logfile: Path | None = None, *, level: int = logging.INFO) -> None:
    """`time level message` lines (UTC) to a file, then errors alone to standard error, too; or all to standard error.

    Raises: ConfigError if the file cannot be written.
    """
    timed = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%SZ")
    timed.converter = time.gmtime
    to_stderr = logging.StreamHandler(sys.stderr)
    handlers: list[logging.Handler] = [to_stderr]
    logging.basicConfig(level=level, handlers=handlers, force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if logfile is None and level <= logging.INFO:
        to_stderr.setFormatter(timed)
        return
    to_stderr.setFormatter(logging.Formatter(f"{script}: %(message)s"))
    if logfile is not None:
        to_stderr.setLevel(logging.ERROR)
        try:
            to_file = _LogFile(logfile, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"log file {logfile} cannot be written: {error.strerror}. Name another with --logfile") from error
        to_file.setFormatter(timed)
        logging.getLogger().addHandler(to_file)


class _LogFile(logging.handlers.WatchedFileHandler):
    """A log file that logrotate may rename; in a folder where everybody may write, no link is followed to another file."""

    def _open(self) -> TextIOWrapper:
        path = Path(self.baseFilename)
        shared = bool(path.parent.stat().st_mode & stat.S_IWOTH)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | (os.O_NOFOLLOW if shared else 0)
        return os.fdopen(os.open(path, flags, 0o640), "a", encoding="utf-8", errors="backslashreplace")


@contextmanager
def open_store(connfile: Path) -> Iterator[Store]:
    """The store of a connection file, its schema checked.  Raises: ConfigError, SchemaError, StoreError."""
    store = Store(absolute_url(connfile))
    try:
        store.check()
        yield store
    except SchemaError as error:
        raise SchemaError(f"{error.message} or `python -m loccol.create -c {connfile}`") from error
    finally:
        store.close()


def absolute_url(connfile: Path) -> str:
    """The database URL of a connection file; an SQLite file's from the root, as a daemon works in `/`.  Raises: ConfigError."""
    text = database_url(connfile)
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise ConfigError(f"connection file {connfile} holds no database URL: for example sqlite:////PATH/batchacct.db") from error
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        url = url.set(database=str(Path(url.database).absolute()))
    return url.render_as_string(hide_password=False)


def add_daemon_options(parser: argparse.ArgumentParser, pidfile: Path) -> None:
    """`--pidfile`, `--logfile`, `--heartbeatdelta`; `pidfile` is what `-p` alone means."""
    add = parser.add_argument
    add("-p", "--pidfile", type=Path, nargs="?", const=pidfile, help=f"run as a daemon with this pid file (-p alone: {pidfile})")
    add("-l", "--logfile", type=Path, help=f"log file (default: standard error; of a daemon {DAEMON_LOGFILE})")
    add(
        "-b", "--heartbeatdelta", type=_minutes, default=HEARTBEAT_MINUTES, metavar="MINUTES",
        help=f"minutes between two heartbeats of a daemon in its log, 0 for none (default {HEARTBEAT_MINUTES:g})",
    )  # fmt: skip


def logfile_of(options: argparse.Namespace) -> Path | None:
    """Where to log to: a daemon has no standard error."""
    path: Path | None = options.logfile
    return path or (DAEMON_LOGFILE if options.pidfile else None)


def _minutes(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError
    return value


# --- reading logs --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Log:
    """What a script reads: a parser, what it is told, and patterns of the files, which change as logs are rotated."""

    parser: Parser
    source: Source
    paths: tuple[str, ...]

    @property
    def collector(self) -> Collector:
        return Collector(self.parser, self.source, self.paths)


def source_for(parser: str, files: Sequence[str], name: str) -> Source:
    """The configured source these files are of, else one called `name` of cluster `default`.  Raises: ConfigError."""
    path = default_path()
    try:
        config = load_config(path) if path.exists() else None
    except PermissionError as error:
        raise ConfigError(f"configuration {path} may not be read by this user") from error
    for keys in config.source if config else ():
        if keys.parser == parser and any(fnmatch.fnmatchcase(file, pattern) for file in files for pattern in keys.paths):
            log.info("source %s, cluster %s, as in %s", keys.name, keys.cluster or "by [ce]", path)
            assert config is not None
            return config.parser_source(keys)
    why = "has no source with these files" if config else "is not there"
    log.info("source %s, cluster default: %s %s", name, path, why)
    return Source(name)


def read_log(store: Store, what: Log, options: argparse.Namespace) -> None:
    """Reads what is there and ends, or with `--pidfile` goes on in a daemon.  Raises: any BatchacctError."""
    if options.pidfile:
        plan = Plan([what.collector], heartbeat_s=60 * options.heartbeatdelta)
        run_as_daemon(
            options.pidfile, lambda signals: Service(store, plan, unix_now).run(signals), lambda: _check_free(store, what)
        )
        return
    with store.lock(lock_name(what.source.name)):
        done = collect_once(store, what.collector, unix_now)
    count = done.counts
    log.info(
        "%d files read: inserted %d records, already known %d, skipped %d, rejected %d",
        done.files, count["recorded"], count["known"], count["skipped"], count["rejected"],
    )  # fmt: skip
    _raise_together(done.errors)


def _check_free(store: Store, what: Log) -> None:
    """Raises: BusyError if another process follows the source: now, while the exit status can still say so."""
    with store.lock(lock_name(what.source.name)):
        pass
    store.close()  # a connection must not be shared across a fork; the daemon opens its own


def dry_run(store: Store, what: Log) -> None:
    """Logs what `read_log` would insert; writes nothing.  Raises: any BatchacctError."""
    errors: list[BatchacctError] = []
    total = 0
    for path in expand(what.paths):
        try:
            for count in _dry_run_file(store, what, path):
                total += count
        except (CheckpointError, ParseError, SourceError) as error:
            log.error("%s", error.message)  # noqa: TRY400
            errors.append(error)
    log.info("Would insert %d records (those that are known already are not left out)", total)
    _raise_together(errors)


def _dry_run_file(store: Store, what: Log, path: str) -> Iterator[int]:
    position = locate(what.source.name, path, known_positions(store, what.source.name), unit_bytes(what.parser.framing))
    with open_stream(path) as stream:
        skip(stream, position.offset)
        blocks = read_blocks(stream, what.parser.framing, offset=position.offset, final=is_compressed(path))
        for parsed in what.parser.parse(blocks, what.source):
            for record_key in parsed.records.column("record_key").to_pylist():
                log.info("would insert %s %s", what.parser.record_type.name, record_key)
            for reject in parsed.rejects:
                log.warning("would reject %s, byte %d: %s", path, reject.offset, reject.reason)
            yield parsed.records.num_rows


def _raise_together(errors: Sequence[BatchacctError]) -> None:
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise IncompleteError(f"{len(errors)} files were not read, see above; all others were")
