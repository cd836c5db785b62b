"""`batchacct portal` as people start it: its accounts, a Unix socket, signals; and what is said when there is too much to do."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from batchacct.errors import ConfigError
from cpuhours.portal import desk
from cpuhours.portal.accounts import Accounts, read_accounts
from cpuhours.portal.proxies import SECRET_HEADER
from cpuhours.portal.serving import Server
from tests.cli.runner import batchacct
from tests.portal.demo_site import NOW, Demo, Portal
from tests.scripts_2012 import PATIENCE_S, ROOT


class OverSocket(http.client.HTTPConnection):
    """HTTP to a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE_S)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


def get(path: Path, address: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    connection = OverSocket(path)
    try:
        connection.request("GET", address, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def configured(demo: Demo, folder: Path, **keys: object) -> Path:
    """A configuration of the demo with a portal."""
    path = folder / "batchacct.toml"
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in keys.items())
    path.write_text(demo.config_path.read_text(encoding="utf-8") + f"\n[portal]\n{lines}", encoding="utf-8")
    return path


def test_accounts_by_command(demo: Demo, tmp_path: Path) -> None:
    config = configured(demo, tmp_path, accounts_file=str(tmp_path / "accounts"))

    def portal(*words: str, stdin: bytes = b"") -> str:
        done = batchacct("portal", *words, "--config", config, stdin=stdin)
        return done.out if done.status == 0 else done.err

    assert portal("passwd", "ada", "--role", "officer", stdin=b"correct-horse\n").startswith("made ada, officer")
    assert stat.S_IMODE((tmp_path / "accounts").stat().st_mode) == 0o640
    assert "correct-horse" not in (tmp_path / "accounts").read_text()
    ours = Accounts(tmp_path / "accounts")
    assert ours.entered("ada", "correct-horse")
    assert not ours.entered("ada", "correct-horse2")
    more = portal("passwd", "ada", "--account", "a1", "--identity", "/CN=Ada")
    assert more.startswith("changed ada, officer"), "a password is not asked for"
    assert ours.entered("ada", "correct-horse")
    known = read_accounts(tmp_path / "accounts")["ada"]
    assert (known.accounts, known.identities) == (("a1",), ("/CN=Ada",))
    assert portal("passwd", "ada", stdin=b"battery-staple\n").startswith("changed ada, officer")
    assert ours.entered("ada", "battery-staple"), "the file is read anew"
    nowhere = configured(demo, tmp_path, accounts_file=str(tmp_path / "no-such-folder/accounts"))
    done = batchacct("portal", "passwd", "ada", "--config", nowhere, stdin=b"correct-horse\n")
    assert "[portal] accounts_file" in done.err
    config = configured(demo, tmp_path, accounts_file=str(tmp_path / "accounts"))
    assert "10 to 500 characters" in portal("passwd", "ada", stdin=b"short\n")
    assert "no name of an account" in portal("passwd", "%", stdin=b"correct-horse\n")
    assert "no DN" in portal("passwd", "ada", "--identity", "%")
    assert "ada" in portal("accounts")
    assert portal("remove", "ada").startswith("removed ada")
    assert "has no account ada" in portal("remove", "ada")


def test_a_socket_of_its_own_and_headers_with_underscores(demo: Demo, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    served = Portal.of(demo, address=str(path), login="proxy")
    server = Server.of(served.site.desk.store, served.site.desk.config)
    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert get(path, "/health", {"X-Remote-User": "admin"})[0] == 200
        assert get(path, "/health")[0] == 403
        assert get(path, "/health", {"X_Remote_User": "admin"})[0] == 403, "some proxies let such a header pass"
        assert get(path, "/health", {"X-Remote-User": "anna", "X_Remote_User": "admin"})[0] == 403
        status, body = get(path, "/health", {"X-Remote-User": "anna", SECRET_HEADER: "x"})
        assert (status, b"Not for you to see" in body) == (403, True)
    finally:
        server.close()
        served.close()
    path.unlink(missing_ok=True)
    path.write_text("a file of somebody's")
    with pytest.raises(ConfigError, match="no socket"):
        Server.of(served.site.desk.store, served.site.desk.config)
    assert path.read_text() == "a file of somebody's"


def test_a_group_that_the_socket_cannot_be_given_to(demo: Demo, tmp_path: Path) -> None:
    served = Portal.of(demo, address=str(tmp_path / "socket"), login="proxy", socket_group="no-such-group")
    with pytest.raises(ConfigError, match=r"socket_group.*SupplementaryGroups=no-such-group and SystemCallFilter=@chown"):
        Server.of(served.site.desk.store, served.site.desk.config)
    served.close()


def test_until_it_is_told_to_end(demo: Demo, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    config = configured(demo, tmp_path, accounts_file=str(demo.folder / "portal.accounts"), address=str(path))
    known = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "BATCHACCT_CONFIG": str(config), "BATCHACCT_NOW": str(NOW)}
    command = [sys.executable, "-c", "from batchacct.cli import main; main()", "portal"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=known, cwd="/") as process:
        assert process.stderr is not None
        assert "the portal is at" in process.stderr.readline()
        assert get(path, "/login")[0] == 200
        config.write_text("nonsense", encoding="utf-8")
        process.send_signal(signal.SIGHUP)
        told = process.stderr.readline()
        while "All stays as it was" not in told:
            told = process.stderr.readline()
            assert told, "it ended"
        assert get(path, "/login")[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0


def test_without_accounts_it_does_not_start(demo: Demo, tmp_path: Path) -> None:
    done = batchacct("portal", "--config", configured(demo, tmp_path, accounts_file=str(tmp_path / "none")))
    assert done.status == ConfigError.exit_code
    assert "batchacct portal passwd" in done.err


def test_what_takes_too_long_is_ended_and_said(demo: Demo) -> None:
    served = Portal.of(demo, deadline_s=0)
    try:
        got = served.get("admin", "/explore?by=user&period=-365d")
        assert got.status_code == 503
        assert "Choose a shorter period" in got.text
        assert str(demo.folder) not in got.text
    finally:
        served.close()


def test_who_comes_when_all_are_busy_is_told_so(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "PATIENCE_S", 0.0)
    served = Portal.of(demo, at_once=1)
    try:
        with served.site.desk.turn():
            got = served.get("admin", "/explore?by=queue")
            assert (got.status_code, got.headers["Retry-After"]) == (503, "10")
            assert "Try again in a few seconds" in got.text
        assert served.get("admin", "/explore?by=queue").status_code == 200
    finally:
        served.close()
