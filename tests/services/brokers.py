"""ActiveMQ and RabbitMQ with STOMP, plain and by TLS with client certificates: private, on free loopback ports.

Each keeps its ports, its certificates and its messages from start to start. Both refuse a body of more than `LARGEST_BYTES`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.servers import DISK, MissingServerError, free_port
from tests.services.certificates import PASSWORD, Authority

USER, PASSCODE = "guest", "guest"
LARGEST_BYTES = 1_000_000
PATIENCE_S = 180

_ACTIVEMQ = Path("/usr/share/activemq")
_RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class Broker(ABC):
    """One broker; `port` takes plain STOMP, `tls_port` TLS with a certificate that `authority` has issued."""

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.tls_port = free_port(), free_port()
        self.authority = Authority(folder / "pki")
        self._process: subprocess.Popen[bytes] | None = None
        self._configure()

    @abstractmethod
    def _configure(self) -> None: ...
    @abstractmethod
    def _command(self) -> Sequence[object]: ...

    def _environment(self) -> Mapping[str, str]:
        return {}

    def begin(self) -> None:
        """Starts it, and does not wait."""
        with (self.folder / "log").open("ab") as output:
            self._process = subprocess.Popen(
                [str(word) for word in self._command()], cwd=self.folder, env={"PATH": os.environ["PATH"], **self._environment()},
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    def wait(self) -> None:
        """Returns when it takes connections at both ports."""
        deadline = time.monotonic() + PATIENCE_S
        for port in (self.port, self.tls_port):
            while not _listens(port):
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{self.name} does not start: {(self.folder / 'log').read_text(errors='replace')[-3000:]}")
                time.sleep(0.1)

    def kill(self) -> None:
        """As if the power went."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(PATIENCE_S)
            self._process = None

    def stop(self) -> None:
        self.kill()


class ActiveMq(Broker):
    """ActiveMQ, with its own store on disk."""

    name = "activemq"
    anonymous_may_connect = False
    journal = ""
    limits = ""

    @staticmethod
    def check_installed() -> None:
        """Raises: MissingServerError."""
        if not (_ACTIVEMQ / "bin").is_dir():
            raise MissingServerError("ActiveMQ is not installed: apt-get install activemq")
        if shutil.which("java") is None:
            raise MissingServerError("Java is not installed: apt-get install openjdk-17-jre-headless")

    def _configure(self) -> None:
        keys, trusted = self.authority.java_stores(self.authority.issue("broker", host="127.0.0.1"))
        stores = " ".join(
            f'{kind}Store="{path}" {kind}StorePassword="{PASSWORD.decode()}" {kind}StoreType="PKCS12"'
            for kind, path in (("key", keys), ("trust", trusted))
        )
        limit = f"wireFormat.maxDataLength={LARGEST_BYTES}"
        (self.folder / "conf").mkdir()
        (self.folder / "conf/activemq.xml").write_text(f"""\
<beans xmlns="http://www.springframework.org/schema/beans" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:schemaLocation="http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans.xsd
  http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
 <broker xmlns="http://activemq.apache.org/schema/core" brokerName="test" dataDirectory="{self.folder}/data" useJmx="false"
  populateJMSXUserID="true">
  <persistenceAdapter><kahaDB directory="{self.folder}/data/kahadb" {self.journal}/></persistenceAdapter>
  {self.limits}
  <plugins>
   <simpleAuthenticationPlugin anonymousAccessAllowed="{str(self.anonymous_may_connect).lower()}">
    <users><authenticationUser username="{USER}" password="{PASSCODE}" groups="users"/></users>
   </simpleAuthenticationPlugin>
  </plugins>
  <sslContext><sslContext {stores}/></sslContext>
  <transportConnectors>
   <transportConnector name="stomp" uri="stomp://127.0.0.1:{self.port}?{limit}"/>
   <transportConnector name="stomps" uri="stomp+ssl://127.0.0.1:{self.tls_port}?needClientAuth=true&amp;{limit}"/>
  </transportConnectors>
 </broker>
</beans>
""")

    def _command(self) -> Sequence[object]:
        places = {"home": _ACTIVEMQ, "base": self.folder, "conf": self.folder / "conf", "data": self.folder / "data"}
        jars = ":".join(f"{_ACTIVEMQ}/{place}/*" for place in ("lib", "lib/optional", "bin"))
        return [
            "java", "-Xmx1g", f"-Djava.io.tmpdir={self.folder}", *(f"-Dactivemq.{name}={path}" for name, path in places.items()),
            "-cp", jars, "org.apache.activemq.console.Main", "start", f"xbean:file:{self.folder}/conf/activemq.xml",
        ]  # fmt: skip


class SmallActiveMq(ActiveMq):
    """ActiveMQ with a disk that is soon full: it reads nothing more from who sends, until messages were taken away."""

    name = "small-activemq"
    journal = 'journalMaxFileLength="100kb" cleanupInterval="500" checkpointInterval="250"'
    limits = "<systemUsage><systemUsage><storeUsage><storeUsage limit='1500 kb'/></storeUsage></systemUsage></systemUsage>"


class RabbitMq(Broker):
    """RabbitMQ, with an epmd of its own, which would else start itself, and outlive a broker that is killed."""

    name = "rabbitmq"
    _epmd: subprocess.Popen[bytes] | None = None

    @staticmethod
    def check_installed() -> None:
        """Raises: MissingServerError."""
        if not _RABBITMQ.is_file():
            raise MissingServerError("RabbitMQ is not installed: apt-get install rabbitmq-server")

    def _configure(self) -> None:
        issued = self.authority.issue("broker", host="127.0.0.1")
        self._node = f"b{free_port()}@localhost"
        self._ports = {"ERL_EPMD_PORT": str(free_port()), "RABBITMQ_DIST_PORT": str(free_port())}
        (self.folder / "enabled_plugins").write_text("[rabbitmq_stomp].\n")
        (self.folder / "rabbitmq.conf").write_text(f"""\
listeners.tcp.1 = 127.0.0.1:{free_port()}
stomp.listeners.tcp.1 = 127.0.0.1:{self.port}
stomp.listeners.ssl.1 = 127.0.0.1:{self.tls_port}
ssl_options.cacertfile = {self.authority.ca}
ssl_options.certfile = {issued.certificate}
ssl_options.keyfile = {issued.key}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
max_message_size = {LARGEST_BYTES}
disk_free_limit.absolute = 50MB
""")

    def _environment(self) -> Mapping[str, str]:
        files = {"MNESIA_BASE": "mnesia", "LOG_BASE": "logs", "CONFIG_FILE": "rabbitmq", "ENABLED_PLUGINS_FILE": "enabled_plugins"}
        return {
            "HOME": str(self.folder), "LC_ALL": "C.UTF-8", "ERL_EPMD_ADDRESS": "127.0.0.1", "RABBITMQ_NODENAME": self._node,
            **self._ports, **{f"RABBITMQ_{name}": str(self.folder / place) for name, place in files.items()},
        }  # fmt: skip

    def _command(self) -> Sequence[object]:
        return [_RABBITMQ]

    def control(self, *words: str) -> None:
        """What its operator types."""
        environment = {"PATH": os.environ["PATH"], **self._environment()}
        done = subprocess.run(
            [_RABBITMQ.with_name("rabbitmqctl"), "-n", self._node, *words],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {' '.join(words)}: {done.stderr or done.stdout}")

    def begin(self) -> None:
        if self._epmd is None:
            port = self._ports["ERL_EPMD_PORT"]
            self._epmd = subprocess.Popen(
                ["epmd", "-port", port, "-address", "127.0.0.1"], cwd=self.folder, env={"PATH": os.environ["PATH"]},
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            deadline = time.monotonic() + PATIENCE_S
            while not _listens(int(port)) and time.monotonic() < deadline:
                time.sleep(0.05)
        super().begin()

    def stop(self) -> None:
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait(PATIENCE_S)


@contextmanager
def started(kinds: Sequence[type[ActiveMq] | type[RabbitMq]], where: Path = DISK) -> Iterator[list[Broker]]:
    """Running brokers of these kinds, which start at the same time."""
    folders = [Path(tempfile.mkdtemp(prefix=f"batchacct-{kind.name}-", dir=where)) for kind in kinds]
    brokers: list[Broker] = []
    try:
        for kind, folder in zip(kinds, folders, strict=True):
            brokers.append(kind(folder))
            brokers[-1].begin()
        for broker in brokers:
            broker.wait()
        yield brokers
    finally:
        for broker in brokers:
            broker.stop()
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
