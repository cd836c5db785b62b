"""`batchacct serve`: usage records and summaries for whoever asks, by HTTP."""

from __future__ import annotations

import logging
import ssl
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import click

from batchacct.answering import answer_until_told
from batchacct.cli.common import config_option, config_path, open_store
from batchacct.clock import unix_now
from batchacct.config import Config, Serve, load_config
from batchacct.errors import BatchacctError
from batchacct.httpd import Limits, Listener, is_loopback, load_certificate, server_context, token_of
from batchacct.names_policy import Policy
from batchacct.notify import Notifier
from batchacct.scripts import start_logging
from batchacct.signals import Signals
from batchacct.store import Store
from pub.pull.endpoint import Endpoint

log = logging.getLogger(__name__)

END_S = 5.0
"""Answers under way have so long when the service ends."""


@click.command()
@config_option
def serve(config: Config) -> None:
    """Gives usage records and summaries to those who ask, by HTTP.

    Read-only, as [serve] says: see docs/how-to/pull.md. Runs in the foreground until SIGTERM; SIGHUP reads configuration, token
    and certificate again.
    """
    start_logging("batchacct")
    with open_store(config, to_read=True) as store, Signals() as signals:
        _run(Service.of(store, config), config_path().absolute(), signals)
    log.info("ended")


def _run(service: Service, path: Path, signals: Signals) -> None:
    with closing(service):
        log.info("serving at port %d", service.port)
        answer_until_told(signals, Notifier.from_environment(), lambda: service.reload(path), service.listener.accepts)


@dataclass(frozen=True, slots=True)
class Service:
    """An endpoint that is listened for."""

    settings: Serve
    url: str
    endpoint: Endpoint
    listener: Listener
    context: ssl.SSLContext | None

    @classmethod
    def of(cls, store: Store, config: Config) -> Self:
        """Raises: ConfigError."""
        settings = config.serve
        Policy.of(config)  # for what is wrong with the key of pseudonyms
        endpoint = Endpoint(store, config, token_of(settings), unix_now)
        context = None
        if settings.certificate is not None and settings.certificate_key is not None:
            context = server_context(settings.certificate, settings.certificate_key)
        elif not is_loopback(settings.address):
            log.warning(
                "the token, and names of people, go over the network in the clear: give [serve] certificate and certificate_key"
            )
        limits = Limits(at_once=settings.at_once, answer_s=settings.deadline)
        listener = Listener(
            settings.address, endpoint.answer, what="records", setting="[serve] address", limits=limits, context=context
        )
        return cls(settings, config.database.resolved_to_read(), endpoint, listener, context)

    @property
    def port(self) -> int:
        return self.listener.port

    def reload(self, path: Path) -> None:
        """Takes the configuration as it is now, and the certificate; if something is wrong with it, all stays as it was."""
        try:
            config = load_config(path)
            if config.database.resolved_to_read() != self.url:
                log.warning("[database] has changed: that is for the next start")
            mine, new = (one.model_dump(include={"address", "at_once", "deadline"}) for one in (self.settings, config.serve))
            if mine != new or (config.serve.certificate is None) != (self.context is None):
                log.warning(
                    "[serve] address, at_once, deadline, or whether there is a certificate has changed: that is for the next start"
                )
            Policy.of(config)
            token = token_of(self.settings.model_copy(update={"token_file": config.serve.token_file}))
            if self.context is not None and config.serve.certificate is not None and config.serve.certificate_key is not None:
                load_certificate(self.context, config.serve.certificate, config.serve.certificate_key)
            self.endpoint.use(config, token)
            log.info("the configuration was read again")
        except BatchacctError as error:
            log.error("%s. All stays as it was", error.message)  # noqa: TRY400 - told to people, who need no traceback

    def close(self) -> None:
        self.listener.close(END_S)
