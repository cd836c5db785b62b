"""A proxy in front that says who somebody is: believed only if it shows the secret, or comes through a socket of its own."""

from __future__ import annotations

import hmac

from batchacct.config_portal import Portal, is_socket
from batchacct.connection import secret_line
from batchacct.errors import ConfigError
from batchacct.httpd import is_loopback

SECRET_HEADER = "X-Portal-Secret"  # noqa: S105 - the name of a header
SHORTEST_SECRET = 24


def secret_of(settings: Portal) -> bytes | None:
    """What the proxy has to show; None: nothing, or there is no proxy.

    Raises: ConfigError for a file that cannot be used, none where one is needed, or an address that must not be listened at.
    """
    if settings.login != "proxy":
        if not is_socket(settings.address) and not settings.https and not is_loopback(settings.address):
            raise ConfigError(
                f"[portal] address {settings.address} is reached by other hosts, and passwords would go there in the clear: listen "
                "at 127.0.0.1 behind a proxy that does TLS, and say https = true"
            )
        return None
    if settings.secret_file is None:
        if is_socket(settings.address):
            return None
        raise ConfigError(
            'with [portal] login = "proxy" anybody on this host could name a user in the header: write a secret into a file that '
            "only this user and the proxy can read (`openssl rand -hex 32`), name it as [portal] secret_file, and have the proxy "
            f"send it as {SECRET_HEADER}; or listen at a Unix socket"
        )
    secret = secret_line(settings.secret_file, "secret_file")
    if len(secret) < SHORTEST_SECRET or not secret.isascii() or not secret.isprintable():
        raise ConfigError(
            f"secret_file {settings.secret_file}: its first line has to be {SHORTEST_SECRET} ASCII characters or more, such as "
            "`openssl rand -hex 32` writes"
        )
    return secret.encode()


def shows_secret(shown: str, secret: bytes | None) -> bool:
    """Whether a request comes from the proxy."""
    return secret is None or hmac.compare_digest(shown.encode(errors="replace"), secret)
