"""S/MIME: openssl verifies what was signed, and decrypts what was encrypted, as SSM's receiver has it do."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from batchacct.errors import ConfigError, PublishError
from pub.signing import Signer, SigningOptions, envelope_of
from pub.smime import Smime
from tests.services.certificates import Authority, Issued

TEXT = b"APEL-individual-job-message: v0.3\nSite: EXAMPLE-SITE\nLocalJobId: 42\n%%\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def host(authority: Authority) -> Issued:
    return authority.issue("host", with_rsa=True)


@pytest.fixture(scope="module")
def receiver(authority: Authority) -> Issued:
    return authority.issue("receiver", with_rsa=True)


def openssl(*arguments: object, given: bytes) -> bytes:
    done = subprocess.run(["openssl", *map(str, arguments)], input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def read(signed: bytes, ca: Path, *more: object) -> bytes:
    """The text, without the header of its part and with the ends of lines it had."""
    return openssl("smime", "-verify", "-CAfile", ca, "-purpose", "any", "-text", *more, given=signed).replace(b"\r\n", b"\n")


def test_openssl_verifies_it(authority: Authority, host: Issued) -> None:
    signed = Smime(host.certificate, host.key).sealed(TEXT)
    assert signed.isascii()
    assert b'micalg="sha-256"' in signed
    assert read(signed, authority.ca) == TEXT
    assert read(signed, authority.ca, "-noverify") == TEXT
    assert TEXT.replace(b"\n", b"\r\n") in signed, "in clear text, as SSM's receiver takes the text after the first blank line"


def test_it_is_made_like_that_of_openssl(authority: Authority, host: Issued) -> None:
    """The same headers, whose order and folding do not matter."""
    ours = Smime(host.certificate, host.key).sealed(TEXT)
    theirs = openssl("smime", "-sign", "-inkey", host.key, "-signer", host.certificate, "-text", given=TEXT)
    heads = [message.replace(b"\r\n", b"\n").split(b"\n\n")[0].split(b"boundary=")[0] for message in (ours, theirs)]
    assert heads[0].strip() == heads[1].strip()
    assert read(theirs, authority.ca) == read(ours, authority.ca)


def test_a_change_is_noticed(authority: Authority, host: Issued) -> None:
    changed = Smime(host.certificate, host.key).sealed(TEXT).replace(b"LocalJobId: 42", b"LocalJobId: 43")
    done = subprocess.run(["openssl", "smime", "-verify", "-CAfile", authority.ca], input=changed, capture_output=True, check=False)
    assert done.returncode != 0


def test_a_key_of_an_elliptic_curve(authority: Authority) -> None:
    issued = authority.issue("curve")
    assert read(Smime(issued.certificate, issued.key).sealed(TEXT), authority.ca) == TEXT


def test_openssl_decrypts_it(authority: Authority, host: Issued, receiver: Issued) -> None:
    encrypted = Smime(host.certificate, host.key, receiver.certificate).sealed(TEXT)
    assert b"application/pkcs7-mime" in encrypted or b"application/x-pkcs7-mime" in encrypted
    assert b"LocalJobId" not in encrypted
    signed = openssl("smime", "-decrypt", "-recip", receiver.certificate, "-inkey", receiver.key, given=encrypted)
    assert read(signed, authority.ca) == TEXT


def test_a_label_names_the_certificates(authority: Authority, host: Issued, receiver: Issued) -> None:
    first, again = (Smime(host.certificate, host.key) for _ in range(2))
    other = Smime(receiver.certificate, receiver.key)
    both = Smime(host.certificate, host.key, receiver.certificate)
    assert first.label == again.label
    assert len({first.label, other.label, both.label}) == 3
    assert max(len(one.label) for one in (first, other, both)) <= 100


@pytest.mark.parametrize(("days", "told"), [(-1, "is valid until"), (0.5, "less than a day from now")])
def test_a_certificate_that_has_ended_or_will_soon(authority: Authority, days: float, told: str) -> None:
    issued = authority.issue(f"ends{days}", days=days)
    with pytest.raises(PublishError, match=told):
        Smime(issued.certificate, issued.key).sealed(TEXT)


def test_what_cannot_be_used(authority: Authority, host: Issued, receiver: Issued, tmp_path: Path) -> None:
    curve = authority.issue("curve")
    (tmp_path / "open.key").write_bytes(host.key.read_bytes())
    (tmp_path / "open.key").chmod(0o644)
    (tmp_path / "text").write_text("no PEM")
    locked = tmp_path / "locked.key"
    openssl("rsa", "-aes128", "-passout", "pass:x", "-in", host.key, "-out", locked, given=b"")
    cases: list[tuple[tuple[Path, ...], str]] = [
        ((host.certificate, receiver.key), "is not that of the certificate"),
        ((host.certificate, tmp_path / "none"), "cannot be read"),
        ((host.certificate, tmp_path / "open.key"), "chmod o-r"),
        ((host.certificate, locked), "without a pass phrase"),
        ((tmp_path / "text", host.key), "cannot be read as PEM"),
        ((host.certificate, host.key, host.certificate), "give the receiver's"),
        ((host.certificate, host.key, curve.certificate), "RSA key alone"),
    ]
    for paths, told in cases:
        with pytest.raises(ConfigError, match=told):
            Smime(*paths)


def test_options(host: Issued, receiver: Issued) -> None:
    assert envelope_of(SigningOptions()) is None
    sign = Signer(certificate=host.certificate, key=host.key)
    assert envelope_of(SigningOptions(sign=sign)) is not None
    assert envelope_of(SigningOptions(sign=sign, encrypt_to=receiver.certificate)) is not None
