"""Certificates for tests: an authority, and what it issues, as PEM files in a folder."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509.oid import NameOID

PASSWORD = b"changeit"
"""Of key stores for Java, which wants one."""

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """A CA; `ca` is its certificate."""

    def __init__(self, folder: Path, name: str = "Test CA") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._name = _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._signed(self._name, self._key, 3650, x509.BasicConstraints(ca=True, path_length=None), None)
        self.ca = folder / f"{name}.pem"
        self.ca.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    def issue(self, name: str, *, days: float = 30, with_rsa: bool = False, host: str | None = None) -> Issued:
        """A certificate that is valid for so many days more, or was until so many ago; `host` is an address it is good for."""
        key: Key = rsa.generate_private_key(65537, 2048) if with_rsa else ec.generate_private_key(ec.SECP256R1())
        made = self._signed(_name(name), key, days, x509.BasicConstraints(ca=False, path_length=None), host)
        issued = Issued(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        issued.certificate.write_bytes(made.public_bytes(Encoding.PEM))
        issued.key.touch(mode=0o600)
        issued.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return issued

    def java_stores(self, issued: Issued) -> tuple[Path, Path]:
        """Certificate and key, and the certificates to trust, as Java reads them."""
        certificate = x509.load_pem_x509_certificate(issued.certificate.read_bytes())
        key = load_pem_private_key(issued.key.read_bytes(), None)
        assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
        closed = BestAvailableEncryption(PASSWORD)
        keys, trusted = self._folder / "keys.p12", self._folder / "trusted.p12"
        keys.write_bytes(pkcs12.serialize_key_and_certificates(b"own", key, certificate, [self._certificate], closed))
        authority = pkcs12.PKCS12Certificate(self._certificate, b"ca")
        trusted.write_bytes(pkcs12.serialize_java_truststore([authority], closed))
        return keys, trusted

    def _signed(
        self, subject: x509.Name, key: Key, days: float, basic: x509.BasicConstraints, host: str | None
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        begins = now - dt.timedelta(days=400)
        ends = now + dt.timedelta(days=days)
        built = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(basic, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if host is not None:
            address = x509.IPAddress(ipaddress.ip_address(host))
            built = built.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        return built.sign(self._key, hashes.SHA256())


def _name(name: str) -> x509.Name:
    attributes = [(NameOID.COUNTRY_NAME, "CH"), (NameOID.ORGANIZATION_NAME, "Example"), (NameOID.COMMON_NAME, name)]
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])
