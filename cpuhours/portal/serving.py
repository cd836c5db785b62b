"""Serves the site: waitress, at an address or a Unix socket, until told to end."""

from __future__ import annotations

import contextlib
import grp
import logging
import os
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from flask import Flask
from waitress.server import create_server

from batchacct.addresses import host_and_port
from batchacct.answering import answer_until_told
from batchacct.config import Config, load_config
from batchacct.config_portal import Portal, is_socket
from batchacct.errors import BatchacctError, ConfigError
from batchacct.notify import Notifier
from batchacct.signals import Signals
from batchacct.store import Store
from cpuhours.portal.app import LONGEST_BODY, create_app
from cpuhours.portal.site import Site

log = logging.getLogger(__name__)

THREADS = 8
"""More than questions at a time: who waits for a turn holds one, and a stylesheet shall not wait for that."""


@dataclass
class Server:
    """A site that is listened for, in a thread of its own; `port` is the one it has, 0 at a socket."""

    site: Site
    app: Flask
    _listener: Any
    _thread: threading.Thread
    _ended: threading.Event

    @classmethod
    def of(cls, store: Store, config: Config) -> Self:
        """Raises: ConfigError."""
        served = Site.of(store, config)
        app = create_app(served)
        listener = _listener(app, config.portal)
        ended = threading.Event()
        thread = threading.Thread(target=_answer, args=(listener, ended), name="portal", daemon=True)
        thread.start()
        return cls(served, app, listener, thread, ended)

    @property
    def port(self) -> int:
        port = str(getattr(self._listener, "effective_port", ""))
        return int(port) if port.isdigit() else 0

    def accepts(self) -> bool:
        """Whether the thread that takes connections runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        self._ended.set()
        self._listener.close()
        self._thread.join(5.0)


def _answer(listener: Any, ended: threading.Event) -> None:
    """Until it is closed: waitress, asleep at its sockets then, finds that they are none any more."""
    try:
        listener.run()
    except OSError:
        if not ended.is_set():
            raise


def _listener(app: Flask, settings: Portal) -> Any:
    """Raises: ConfigError for an address it cannot listen at."""
    common: dict[str, Any] = {
        "threads": THREADS,
        "ident": None,
        "max_request_body_size": LONGEST_BODY,
        "max_request_header_size": 32_768,
        "channel_timeout": 60,
        "clear_untrusted_proxy_headers": True,
    }
    try:
        if is_socket(settings.address):
            return _at_socket(app, settings, common)
        host, port = host_and_port(settings.address)
        return create_server(app, host=host, port=port, **common)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"the portal cannot listen at {settings.address}: {error}. Choose another [portal] address") from error


def _at_socket(app: Flask, settings: Portal, common: dict[str, Any]) -> Any:
    """For the user of this process, and the group that is named: nobody else may connect at any moment."""
    path = Path(settings.address)
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigError(f"[portal] address {path} is there, and is no socket: name another")
    before = os.umask(0o177)
    try:
        listener = create_server(app, unix_socket=str(path), unix_socket_perms="600", **common)
    finally:
        os.umask(before)
    if settings.socket_group is not None:
        try:
            _give_to(path, settings.socket_group)
        except ConfigError:
            listener.close()
            raise
    return listener


def _give_to(path: Path, group: str) -> None:
    """Raises: ConfigError."""
    try:
        os.chown(path, -1, grp.getgrnam(group).gr_gid)
        path.chmod(0o660)
    except (OSError, KeyError) as error:
        raise ConfigError(
            f"[portal] socket_group: {path} cannot be given to {group} ({error}). Name a group that the user of the portal is a "
            f"member of; its service needs `systemctl edit batchacct-portal` with [Service] SupplementaryGroups={group} and "
            "SystemCallFilter=@chown"
        ) from error


def serve(store: Store, config: Config, path: Path, signals: Signals) -> None:
    """Answers until SIGTERM; SIGHUP has the configuration read again."""
    server = Server.of(store, config)
    with contextlib.closing(server):
        log.info("the portal is at %s", config.portal.address if is_socket(config.portal.address) else f"port {server.port}")
        answer_until_told(signals, Notifier.from_environment(), lambda: _reload(server, path), server.accepts)


def _reload(server: Server, path: Path) -> None:
    """Takes the configuration as it is now; if something is wrong with it, all stays as it was."""
    try:
        config = load_config(path)
        old = server.site.desk.config
        if (config.portal.address, config.portal.deadline, config.database) != (
            old.portal.address,
            old.portal.deadline,
            old.database,
        ):
            log.warning("[portal] address, deadline, or [database] has changed: that is for the next start")
        server.site.use(config)
        log.info("the configuration was read again")
    except BatchacctError as error:
        log.error("%s. All stays as it was", error.message)  # noqa: TRY400 - told to people, who need no traceback
