"""TLS of transports: whose certificates are trusted, and which one is ours. The other side's is always verified."""

from __future__ import annotations

import os
import socket
import ssl
import stat
import tempfile
import weakref
from pathlib import Path

from pydantic import model_validator

from batchacct.errors import ConfigError
from batchacct.sections import File, Section
from batchacct.sections import key as option

_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"})


class Tls(Section):
    """The connection is TLS; the receiver's certificate is always verified."""

    ca: File | None = option(
        "CA certificates, PEM: a file, or a folder such as /etc/grid-security/certificates; default: the system's", None
    )
    certificate: File | None = option("our certificate, PEM, for a receiver that asks for one", None)
    key: File | None = option("its private key, PEM without a pass phrase; not readable for everybody", None)

    @model_validator(mode="after")
    def _both(self) -> Tls:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")
        return self


class TlsFiles:
    """The same as names of files, which is what libraries are given; `ca` is one file, and there as long as this object is.

    Libraries take no folder of CA certificates, or only one with names of a certain kind, and some verify nothing without any.
    """

    def __init__(self, tls: Tls) -> None:
        """Raises: ConfigError for files that cannot be used."""
        usual = ssl.get_default_verify_paths()
        path = tls.ca or Path(usual.cafile or usual.capath or "/etc/ssl/certs")
        self.certificate: str | None = None
        self.key: str | None = None
        try:
            self.ca = self._bundle_of(path) if path.is_dir() else str(path)
            ssl.create_default_context(cafile=self.ca)
        except OSError as error:
            raise ConfigError(f"tls: ca {path} gives no CA certificates in PEM: {error}") from error
        if tls.certificate is not None and tls.key is not None:
            demand_pair(tls.certificate, tls.key)
            self.certificate, self.key = str(tls.certificate), str(tls.key)

    def context(self) -> ssl.SSLContext:
        """What the standard library connects with."""
        context = ssl.create_default_context(cafile=self.ca)
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        return context

    def _bundle_of(self, folder: Path) -> str:
        certificates = {one.resolve() for one in folder.iterdir() if one.suffix in {".pem", ".0"}}
        descriptor, name = tempfile.mkstemp(prefix="batchacct-ca-", suffix=".pem")
        weakref.finalize(self, os.unlink, name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(b"\n".join(one.read_bytes() for one in sorted(certificates)))
        return name


def greet(address: tuple[str, int], files: TlsFiles, limit_s: float) -> None:
    """Connects, and waits for the first byte: with TLS 1.3 the other side's opinion of our certificate comes with it.

    Raises: ssl.SSLError, TimeoutError (also where all is well, and it is we who should speak first), OSError.
    """
    with (
        socket.create_connection(address, limit_s) as plain,
        files.context().wrap_socket(plain, server_hostname=address[0]) as secured,
    ):
        secured.recv(1)


def complaint(error: ssl.SSLError) -> str:
    """What is wrong, and with whose certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}. Is `ca` right, and the receiver's name?"
    told = str(error) or type(error).__name__
    if error.reason in _NO_TLS:
        return f"it speaks no TLS there: {told}. Is the port right?"
    return f"TLS failed: {told}. Is our certificate valid, and is its CA known there?"


def demand_pair(certificate: Path, key: Path) -> None:
    """Raises: ConfigError unless they are a certificate and its key, which not everybody may read."""
    try:
        if key.stat().st_mode & stat.S_IROTH:
            raise ConfigError(f"private key {key} may be read by everybody: run `chmod o-r {key}`")
        ssl.create_default_context().load_cert_chain(certificate, key, password=lambda: "")
    except OSError as error:
        raise ConfigError(f"tls: {certificate} and {key} are no certificate and its key: {error}") from error
