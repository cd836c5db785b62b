"""What `doctor` says of receivers: one that is there, one that is away, one by TLS, and certificates that are of use for it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from batchacct.config import Config
from batchacct.doctor import Examined, Finding, Level
from pub.checks import receivers
from tests.pub.site import BASE
from tests.servers import free_port
from tests.services.certificates import Authority, Issued

NOW = 1_793_534_400


def examined(transport: str, options: dict[str, Any], **more: Any) -> Examined:
    """One destination."""
    publish = {"transport": transport, "options": options, **more}
    return Examined(Config.model_validate({**BASE, "database": {"url": "sqlite:////nowhere"}, "publish": publish}), NOW)


def of_receiver(transport: str, options: dict[str, Any], **more: Any) -> Finding:
    found = {one.subject: one for one in receivers(examined(transport, options, **more))}
    return found["receiver of main"]


@contextmanager
def listening(issued: Issued | None = None) -> Iterator[int]:
    """A server that takes connections, by TLS with a certificate, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        context = None
        if issued is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(issued.certificate, issued.key)

        def serve() -> None:
            with suppress(OSError):
                while True:
                    taken, _ = server.accept()
                    with suppress(OSError):
                        (taken if context is None else context.wrap_socket(taken, server_side=True)).close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_folder_is_no_receiver_to_be_reached(tmp_path: Path) -> None:
    assert of_receiver("ssm-directory", {"path": str(tmp_path)}).level is Level.NOT_APPLICABLE


def test_a_receiver_by_http() -> None:
    with listening() as port:
        assert of_receiver("sgas", {"url": f"http://127.0.0.1:{port}/"}, format="ur-1.0").level is Level.OK
    told = of_receiver("sgas", {"url": f"http://127.0.0.1:{port}/"}, format="ur-1.0")
    assert told.level is Level.ERROR
    assert f"127.0.0.1:{port}: Connection refused" in told.found


def test_a_receiver_by_https(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "one"), Authority(tmp_path / "other", "Other CA")
    with listening(authority.issue("receiver", host="127.0.0.1")) as port:
        url = f"https://127.0.0.1:{port}/"
        assert of_receiver("sgas", {"url": url, "tls": {"ca": str(authority.ca)}}, format="ur-1.0").level is Level.OK
        told = of_receiver("sgas", {"url": url, "tls": {"ca": str(other.ca)}}, format="ur-1.0")
    assert told.level is Level.ERROR
    assert "its certificate is not accepted" in told.found


def test_a_broker_that_is_away(tmp_path: Path) -> None:
    ours = Authority(tmp_path).issue("sender", days=10, with_rsa=True)
    sign = {"certificate": str(ours.certificate), "key": str(ours.key)}
    options = {"brokers": [f"127.0.0.1:{free_port()}"], "destination": "/queue/a", "sign": sign}
    found = {one.subject: one.level for one in receivers(examined("stomp", options))}
    assert found == {"certificate that signs, of main": Level.WARNING, "receiver of main": Level.ERROR}
