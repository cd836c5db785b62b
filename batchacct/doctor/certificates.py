"""Certificates: readable, that of their key, and how long they are valid. Rooms ask for theirs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

from batchacct.doctor.contract import Finding, error, not_applicable, ok, warning
from batchacct.errors import ConfigError
from batchacct.tls import demand_pair

SOON_S = 30 * 86_400
"""Renewing takes people a while."""


def certificate_findings(subject: str, certificate: Path, key: Path | None = None) -> Iterator[Finding]:
    """Of a certificate, PEM, and its key if it has one here."""
    try:
        if key is not None:
            demand_pair(certificate, key)
    except ConfigError as wrong:
        yield error(subject, wrong.message, "give the certificate and its own key, both readable for the daemons' user alone")
        return
    try:
        from cryptography import x509  # noqa: PLC0415 - a library of an extra
    except ModuleNotFoundError:
        yield not_applicable(subject, f"{certificate}: until when it is valid is not known without the library cryptography")
        return
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
    except (OSError, ValueError) as failed:
        yield error(subject, f"{certificate} cannot be read: {failed}", "give a certificate in PEM that this user may read")
        return
    yield _validity(subject, certificate, found.not_valid_before_utc, found.not_valid_after_utc)


def _validity(subject: str, path: Path, begins: dt.datetime, ends: dt.datetime) -> Finding:
    now = dt.datetime.now(dt.UTC)
    told = f"{path} is valid from {begins:%Y-%m-%d} until {ends:%Y-%m-%d %H:%M}Z"
    renew = "renew it; it is read again with the next run, or at a restart of the daemon"
    if now < begins:
        return error(subject, told, "set the clock of this host, or use it from that day on")
    if now >= ends:
        return error(subject, told, renew)
    left = ends - now
    if left < dt.timedelta(seconds=SOON_S):
        return warning(subject, f"{told}: {left.days} days are left", renew)
    return ok(subject, told)
