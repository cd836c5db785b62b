"""Checks of what was set up: as whom, by which configuration, into which folders."""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sqlalchemy import make_url

from batchacct.config import Config
from batchacct.config_problems import config_problems
from batchacct.doctor.contract import Examined, Finding, error, not_applicable, ok, warning
from batchacct.errors import BatchacctError
from batchacct.options import transport_options

MIB = 1 << 20
LITTLE_BYTES, HARDLY_ANY_BYTES = 2048 * MIB, 200 * MIB
"""Room below which a folder that is written to is a warning, an error."""
FEW_FILES = 1000
"""Inodes: each message is a file, and some folders."""


def account(examined: Examined) -> Iterator[Finding]:
    """As whom everything is looked at: what root may read tells nothing of what a daemon may."""
    del examined
    name = _account_name()
    if os.geteuid() == 0:
        todo = "run it as the user of the daemons, by --user or `runuser -u batchacct -- batchacct doctor`"
        yield warning("account", "this is root, who may read and write everything, whatever the daemons may", todo)
    else:
        yield ok("account", f"everything was looked at as user {name}")


def _account_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def configuration(examined: Examined) -> Iterator[Finding]:
    """What `batchacct config check` says, and who else may change what is configured."""
    config = examined.config
    problems = list(config_problems(config))
    todo = "mend it, until `batchacct config check` says that the configuration is right"
    for problem in problems:
        yield error("configuration", problem, todo)
    if not problems:
        yield ok("configuration", f"{config.file} is right: {len(config.source)} sources, {len(config.destinations)} destinations")
    for path in (config.file, config.database.connection_file, config.database.read_only_connection_file):
        if path is not None and path.exists() and path.stat().st_mode & stat.S_IWOTH:
            yield error("configuration", f"{path} may be changed by everybody", f"run `chmod o-w {path}`")


def folders(examined: Examined) -> Iterator[Finding]:
    """Each folder that is written to: may this user, and is there room."""
    written = _written_to(examined.config)
    for path in sorted(written):
        yield from folder_findings(path, " and ".join(written[path]))


def folder_findings(path: Path, what: str) -> Iterator[Finding]:
    """Whether a folder, or the nearest that is there where it is yet to be made, can be written to, and what room there is."""
    subject = f"folder {path}"
    place = path
    try:
        while not place.exists() and place != place.parent:
            place = place.parent
        is_writable = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
        room = os.statvfs(place)
    except OSError as failed:
        yield error(
            subject, f"{what}: it cannot be looked at: {failed.strerror}", "mount it, or let this user enter what is above it"
        )
        return
    if not is_writable:
        missing = f", which does not exist: {place}" if place != path else ""
        todo = f"make it, and let the daemons' user write to it: `install -d -o {_account_name()} -m 750 {path}`"
        yield error(subject, f"{what}: this user cannot write to it{missing}", todo)
        return
    free_bytes = room.f_bavail * room.f_frsize
    told = f"{what}: {free_bytes // MIB:,} MiB are free" + ("" if place == path else "; it does not exist yet, and can be made")
    few_files = bool(room.f_files) and room.f_favail < FEW_FILES
    todo = "make room, or move it to a larger disk; what cannot be written waits, and nothing is lost by that"
    if few_files:
        yield error(subject, f"{told}, and room for {room.f_favail:,} files", todo)
    elif free_bytes < LITTLE_BYTES:
        yield (error if free_bytes < HARDLY_ANY_BYTES else warning)(subject, told, todo)
    else:
        yield ok(subject, told)


def _written_to(config: Config) -> dict[Path, list[str]]:
    """Folders that a daemon or a command writes to, and for what."""
    found: dict[Path, list[str]] = {Path(tempfile.gettempdir()): ["temporary files"]}
    with suppress(BatchacctError):  # `database` tells
        url = make_url(config.database.resolved())
        if url.get_backend_name() == "sqlite" and url.database:
            found.setdefault(Path(url.database).parent, []).append("the database")
    for one in config.destinations:
        try:
            _, options = transport_options(config, one)
        except BatchacctError:
            continue  # `configuration` tells
        path = getattr(options, "path", None)
        if isinstance(path, Path):
            found.setdefault(path, []).append(f"messages to {one.name}")
    if config.archive.path.exists():
        found.setdefault(config.archive.path, []).append("the archive")
    if config.receive is not None:
        found.setdefault(config.receive.folder, []).append("lines of the nodes")
    return found


def serving(examined: Examined) -> Iterator[Finding]:
    """The certificate by which `batchacct serve` is reached."""
    from batchacct.doctor.certificates import certificate_findings  # noqa: PLC0415 - a library of an extra

    serve = examined.config.serve
    if serve.certificate is None:
        yield not_applicable("[serve] certificate", "there is none, as other hosts do not pull records by HTTPS")
    else:
        # the key may be of the user of batchacct-serve alone
        key = serve.certificate_key if serve.certificate_key is not None and os.access(serve.certificate_key, os.R_OK) else None
        yield from certificate_findings("[serve] certificate", serve.certificate, key)
