"""Whether messages are signed, and for whom they are encrypted: options that transports of signed text have in common."""

from __future__ import annotations

from pydantic import model_validator

from batchacct.config import File, Section
from batchacct.config import key as option
from batchacct.errors import ConfigError
from pub.transports.contract import Envelope


class Signer(Section):
    """Who signs: a certificate the receiver knows by its subject."""

    certificate: File = option("certificate, PEM", sample="/etc/grid-security/hostcert.pem")
    key: File = option(
        "its private key, PEM without a pass phrase; not readable for everybody", sample="/etc/grid-security/hostkey.pem"
    )


class SigningOptions(Section):
    """Options of a transport whose messages may be S/MIME."""

    sign: Signer | None = option("who signs; an SSM receiver takes nothing that is not signed", None)
    encrypt_to: File | None = option("certificate of the receiver, PEM: encrypted for it as well", None)

    @model_validator(mode="after")
    def _signed_first(self) -> SigningOptions:
        if self.encrypt_to is not None and self.sign is None:
            raise ValueError("encrypt_to needs sign: what is encrypted and not signed could be anybody's")
        return self


def envelope_of(options: SigningOptions) -> Envelope | None:
    """What signs, and encrypts, as the options say; None if they say nothing.

    Raises: ConfigError for certificates and keys that cannot be used, or if the library is not installed.
    """
    if options.sign is None:
        return None
    try:
        from pub.smime import Smime  # noqa: PLC0415 - a library of an extra
    except ModuleNotFoundError as error:
        raise ConfigError("signing needs the library cryptography: pip install 'batchacct[smime]'") from error
    return Smime(options.sign.certificate, options.sign.key, options.encrypt_to)
