"""S/MIME as SSM makes it: signed (multipart/signed, SHA-256, text/plain, no chain), and then, if asked for, encrypted (AES-128).

Neither comes out the same twice (time of signing, boundary, keys), so what came out is kept in the store with the message until it
is confirmed: see `pub.sending`. `label` changes with a certificate: what an old one has signed is signed anew by its successor,
as a receiver takes nothing that an expired one has.

Source: ssm 4.0.0 (ssm/crypto.py): `openssl smime -sign -text`, `openssl smime -encrypt -aes128`.
"""

from __future__ import annotations

import datetime as dt
import stat
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import pkcs7

from batchacct.errors import ConfigError, PublishError

LEFT_S = 86_400
"""So long a certificate must still be valid, as SSM asks: a message may lie in a queue before its signature is looked at."""

_TEXT = [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Text]


class Smime:
    """Signs payloads, and encrypts them for a receiver."""

    def __init__(self, certificate: Path, key: Path, encrypt_to: Path | None = None) -> None:
        self._path = certificate
        self._certificate = _certificate(certificate)
        self._key = _key(key)
        if _public(self._certificate.public_key()) != _public(self._key.public_key()):
            raise ConfigError(f"the private key {key} is not that of the certificate {certificate}")
        self._recipient = None if encrypt_to is None else _certificate(encrypt_to)
        if self._recipient is not None and not isinstance(self._recipient.public_key(), rsa.RSAPublicKey):
            raise ConfigError(f"{encrypt_to}: messages can be encrypted for a certificate with an RSA key alone")
        if self._recipient == self._certificate:
            raise ConfigError(f"encrypt_to {encrypt_to} is the certificate that signs: give the receiver's")
        used = [self._certificate] + ([] if self._recipient is None else [self._recipient])
        self.label = " ".join(one.fingerprint(hashes.SHA256()).hex()[:40] for one in used)

    def sealed(self, payload: bytes) -> bytes:
        """The payload signed, and encrypted if asked for.

        Raises: PublishError for a certificate that has not begun or will soon have ended.
        """
        self._demand_valid()
        signer = pkcs7.PKCS7SignatureBuilder().set_data(payload).add_signer(self._certificate, self._key, hashes.SHA256())
        signed = signer.sign(serialization.Encoding.SMIME, _TEXT)
        if self._recipient is None:
            return signed
        encrypted = pkcs7.PKCS7EnvelopeBuilder().set_data(signed).add_recipient(self._recipient)
        return encrypted.encrypt(serialization.Encoding.SMIME, [pkcs7.PKCS7Options.Binary])

    def _demand_valid(self) -> None:
        now = dt.datetime.now(dt.UTC)
        begins, ends = self._certificate.not_valid_before_utc, self._certificate.not_valid_after_utc
        if now < begins:
            raise PublishError(
                f"certificate {self._path} is valid from {begins:%Y-%m-%d %H:%M}Z on: is the clock of this host right?"
            )
        if ends - now < dt.timedelta(seconds=LEFT_S):
            raise PublishError(
                f"certificate {self._path} is valid until {ends:%Y-%m-%d %H:%M}Z, which is less than a day from now: a receiver "
                "would refuse what it signs. Renew it, then publish again"
            )


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"certificate {path} cannot be read as PEM: {error}") from error


def _key(path: Path) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    try:
        if path.stat().st_mode & stat.S_IROTH:
            raise ConfigError(f"private key {path} may be read by everybody: run `chmod o-r {path}`")
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"private key {path} cannot be read as PEM without a pass phrase: {error}") from error
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise ConfigError(f"private key {path} is neither RSA nor EC")
    return key


def _public(key: CertificatePublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
