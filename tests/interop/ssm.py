"""The programs of apel/ssm, with configurations of ours: the receiver as a daemon, the sender as one run."""

from __future__ import annotations

import itertools
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import stomp
from cryptography import x509

from tests.interop.checkouts import PATIENCE_S, Checkout, Daemon
from tests.interop.spool import Kept, Spool
from tests.services.brokers import ActiveMq, Broker
from tests.services.certificates import Authority, Issued

_marks = itertools.count(1)


class OpenActiveMq(ActiveMq):
    """One that asks for no login, which SSM cannot give; by TLS it takes who has a certificate of its authority."""

    anonymous_may_connect = True


@dataclass
class Way:
    """What is between a site and a receiver: a queue of a broker, by TLS, and the certificates of both ends."""

    checkout: Checkout
    broker: Broker
    queue: str
    publisher: Issued
    receiver: Issued
    folder: Path
    _receivers: list[Receiver] = field(default_factory=list)

    def lines(self, signer: Issued, *, encrypted: bool = False, message_format: str = "apel-0.3") -> str:
        """`[publish]` of a site that sends this way."""
        encrypt = f'encrypt_to = "{self.receiver.certificate}"' if encrypted else ""
        return f"""\
format = "{message_format}"
transport = "stomp"
bunch = 97
[publish.options]
brokers = ["127.0.0.1:{self.broker.tls_port}"]
destination = "{self.queue}"
sign = {{ certificate = "{signer.certificate}", key = "{signer.key}" }}
{encrypt}
[publish.options.tls]
ca = "{self.broker.authority.ca}"
certificate = "{self.publisher.certificate}"
key = "{self.publisher.key}"
"""

    def receiving(self, signer: str, spool: Spool | None = None) -> Receiver:
        """Starts a receiver that takes what this one has signed, into this spool, or one of its own."""
        folder = self.folder / f"receiver{len(self._receivers)}"
        folder.mkdir()
        self._receivers.append(Receiver(self, folder, signer, spool or Spool(folder / "spool")))
        return self._receivers[-1]

    def send(self, outgoing: Path, path_type: str) -> None:
        """Has SSM's sender send what is in a folder.  Raises: AssertionError if it fails."""
        folder = self.folder / "sender"
        folder.mkdir()
        (folder / "sender.cfg").write_text(f"""\
[sender]
protocol: STOMP

{self.connection(self.publisher, folder)}

[messaging]
destination: {self.queue}
path: {outgoing}
path_type: {path_type}

[logging]
logfile: {folder}/log
level: INFO
console: false
""")
        command = self.checkout.command("bin/sender.py", "-c", folder / "sender.cfg")
        env = self.checkout.environment
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stdout + done.stderr + (folder / "log").read_text()

    def connection(self, own: Issued, folder: Path) -> str:
        """The sections of a configuration that say where the broker is, and who we are."""
        return f"""\
[broker]
host: 127.0.0.1
port: {self.broker.tls_port}
use_ssl: true

[certificates]
certificate: {own.certificate}
key: {own.key}
capath: {ca_folder(self.broker.authority, folder)}
check_crls: false"""

    def mark(self) -> str:
        """Puts an unsigned message behind all that is in the queue; its id."""
        mark = f"mark-{os.getpid()}-{next(_marks)}"
        connection = stomp.Connection12([("127.0.0.1", self.broker.port)], try_loopback_connect=False, vhost="/")
        connection.connect(wait=True)
        connection.send(self.queue, "unsigned", headers={"empa-id": mark})
        connection.disconnect()
        return mark

    def stop(self) -> None:
        for receiver in self._receivers:
            receiver.stop()


class Receiver:
    """A running receiver of the queue; its spool holds what it has received."""

    def __init__(self, way: Way, folder: Path, signer: str, spool: Spool) -> None:
        self._way, self.spool = way, spool
        (folder / "dns").write_text(f"# who may send\n{signer}\n")
        (folder / "receiver.cfg").write_text(f"""\
[receiver]
protocol: STOMP

{way.connection(way.receiver, folder)}

[messaging]
destination: {way.queue}
path: {spool.path}

[logging]
logfile: {folder}/log
level: INFO
console: false

[daemon]
pidfile: {folder}/pid
""")
        self._daemon = Daemon(way.checkout, folder / "log", "bin/receiver.py", "-c", folder / "receiver.cfg", "-d", folder / "dns")
        self._daemon.wait_until(lambda: "Subscribing to" in self._daemon.told(), "the receiver listens")

    def received(self) -> list[Kept]:
        """What is incoming, once it has taken all that is in the queue."""
        self.settle()
        return self.spool.incoming

    def settle(self) -> None:
        """Waits until it has taken all that is in the queue now: up to a mark, which it rejects, as it is not signed."""
        mark = self._way.mark()
        self._daemon.wait_until(lambda: any(one.empa_id == mark for one in self.spool.rejected), "the mark has come")

    @property
    def decrypted(self) -> int:
        """How many messages it has decrypted."""
        return self._daemon.told().count("Decrypting message.")

    def stop(self) -> None:
        self._daemon.stop()


def ca_folder(authority: Authority, folder: Path) -> Path:
    """A folder with the authority's certificate under the name by which openssl looks for it."""
    made = folder / "certificates"
    made.mkdir()
    command = ["openssl", "x509", "-noout", "-hash", "-in", str(authority.ca)]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    (made / f"{name}.0").write_bytes(authority.ca.read_bytes())
    return made


def subject_of(issued: Issued) -> str:
    """Its subject as it stands in a list of those who may send: `/C=CH/O=Example/CN=host`."""
    subject = x509.load_pem_x509_certificate(issued.certificate.read_bytes()).subject
    return "".join(f"/{attribute.rfc4514_attribute_name}={attribute.value!s}" for attribute in subject)
