"""`batchacct serve` as a process: whom it lets in, what it is told by signals; and what the configuration may not be."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchacct.config import Config
from batchacct.errors import ConfigError
from batchacct.httpd import token_of
from tests.cli.site import NOW, Site, blah, lsf
from tests.pub.fix_site import ON_SQLITE
from tests.pub.puller import Got, get, served
from tests.pub.site import BASE
from tests.pub.site import Site as StoreSite
from tests.scripts_2012 import PATIENCE_S, ROOT
from tests.services.certificates import Authority, Issued

TOKEN = "0123456789abcdef0123"
OTHER = "fedcba98765432100123"


class Served:
    """A site whose records are given by a process."""

    def __init__(self, folder: Path) -> None:
        self.site = Site(folder)
        self.process: subprocess.Popen[str] | None = None
        with socket.create_server(("127.0.0.1", 0)) as one:
            self.port = int(one.getsockname()[1])
        (folder / "logs").mkdir()
        self.configure()
        self.site.write([lsf(1), lsf(2)], [blah(1)])
        for words in (("db", "create"), ("collect", "--once"), ("publish", "--once")):
            self.site.good(*words)

    def configure(self, **keys: object) -> None:
        told = {"address": f"127.0.0.1:{self.port}", **{name: str(value) for name, value in keys.items()}}
        self.site.configure(more="[serve]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in told.items()))

    def token(self, token: str, mode: int = 0o600) -> Path:
        path = self.site.folder / "token"
        path.write_text(f"{token}\n")
        path.chmod(mode)
        return path

    def run(self, **environment: str) -> subprocess.Popen[str]:
        known = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "BATCHACCT_CONFIG": str(self.site.config)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from batchacct.cli import main; main()", "serve"], text=True, stderr=subprocess.PIPE, cwd="/",
            env=known | {"BATCHACCT_NOW": str(NOW)} | environment,
        )  # fmt: skip
        return self.process

    def start(self) -> None:
        self.run()
        self.hears("serving at port")

    def refused(self) -> tuple[int, str]:
        """How it ended that did not begin."""
        process = self.run()
        _, told = process.communicate(timeout=PATIENCE_S)
        return process.returncode, told

    def hears(self, wanted: str) -> str:
        assert self.process is not None
        assert self.process.stderr is not None
        read = ""
        for line in self.process.stderr:
            read += line
            if wanted in line:
                return line
        raise AssertionError(read)

    def get(self, path: str = "/v1/records", token: str | None = None, context: ssl.SSLContext | None = None) -> Got:
        return get(self.port, path, context=context, headers={} if token is None else {"Authorization": f"Bearer {token}"})

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.communicate(timeout=PATIENCE_S)


def test_the_service(at: Served) -> None:
    at.start()
    assert at.get().counted("Records") == 2
    told = json.loads(at.get("/v1/").body)
    assert (told["site"], told["records"]["destination"]["default"], told["summaries"]["format"]["default"]) == (
        "TEST-SITE",
        "main",
        "apel-summary-0.2",
    )
    assert "jsonl" in told["records"]["format"]["one_of"]
    assert at.get("/v1").body == at.get("/v1/").body
    for path in ("/", "/v1/jobs", "/v2/records", "/v1/records/1"):
        assert (at.get(path).status, at.get(path).error) == (404, "there is nothing here: /v1/ says what there is")
    line = at.hears("'/v1/records'")
    assert "127.0.0.1 GET '/v1/records': 200, " in line
    assert at.stop() == 0
    with pytest.raises(ConnectionRefusedError):
        at.get()


def test_a_cursor_outlives_the_service(at: Served) -> None:
    at.start()
    cursor = get(at.port, "/v1/records", {"limit": 1}).headers["Batchacct-Next"]
    assert at.stop() == 0
    at.start()
    got = get(at.port, "/v1/records", {"after": cursor})
    assert (got.counted("Records"), got.headers["Batchacct-More"]) == (1, "no")


def test_a_token_and_tls_and_both_renewed(at: Served, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    issued = authority.issue("one", host="127.0.0.1")
    trusting = ssl.create_default_context(cafile=str(authority.ca))
    at.configure(token_file=at.token(TOKEN), certificate=issued.certificate, certificate_key=issued.key)
    at.start()
    assert at.get(token=TOKEN, context=trusting).counted("Records") == 2
    for token in (None, "", OTHER, f"{TOKEN} ", TOKEN[:-1], f"{TOKEN}0", "ä"):
        got = at.get(token=token.encode().decode("latin-1") if token else token, context=trusting)
        if token == f"{TOKEN} ":
            assert got.status == 200
            continue
        assert (got.status, got.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert "show the token you were given" in got.error
    got = get(at.port, "/v1/records", context=trusting, headers={"Authorization": f"Basic {TOKEN}"})
    assert got.status == 401
    at.token(OTHER)
    renewed = authority.issue("two", host="127.0.0.1")
    for new, old in ((renewed.certificate, issued.certificate), (renewed.key, issued.key)):
        old.write_bytes(new.read_bytes())
    assert at.process is not None
    at.process.send_signal(signal.SIGHUP)
    at.hears("the configuration was read again")
    assert at.get(token=TOKEN, context=trusting).status == 401
    assert at.get(token=OTHER, context=trusting).status == 200
    at.token("short")
    at.process.send_signal(signal.SIGHUP)
    assert "a token of 16 characters or more" in at.hears("All stays as it was")
    assert at.get(token=OTHER, context=trusting).status == 200
    assert at.stop() == 0


def test_it_tells_systemd(at: Served, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(PATIENCE_S)
        process = at.run(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000")
        assert listening.recv(4096) == b"READY=1"
        assert listening.recv(4096) == b"WATCHDOG=1"
        process.send_signal(signal.SIGHUP)
        told = [listening.recv(4096)]
        while told[-1] != b"READY=1":
            told.append(listening.recv(4096))
        assert any(one.startswith(b"RELOADING=1") for one in told)
        assert at.stop() == 0
        while told[-1] != b"STOPPING=1":
            told.append(listening.recv(4096))


def test_an_address_that_is_taken(at: Served) -> None:
    with socket.create_server(("127.0.0.1", at.port)):
        status, told = at.refused()
    assert status == 3
    assert f"records cannot be served at 127.0.0.1:{at.port}: " in told
    assert "Choose another [serve] address" in told


# --- who may ask ----------------------------------------------------------------------------------------------------------------


def settings(**keys: object) -> Config:
    return Config.model_validate({**BASE, "serve": keys})


def test_other_hosts_need_a_token(tmp_path: Path) -> None:
    assert token_of(settings().serve) is None
    with pytest.raises(ConfigError, match="is reached by other hosts, and records name people"):
        token_of(settings(address="0.0.0.0:9106").serve)
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    assert token_of(settings(address="0.0.0.0:9106", token_file=path).serve) == TOKEN.encode()
    path.chmod(0o604)
    with pytest.raises(ConfigError, match="may be read by everybody"):
        token_of(settings(token_file=path).serve)


@pytest.mark.parametrize("token", ["", "short", "with blanks in it, many of them", "nöt-ascii-nöt-ascii", "x" * 15])
def test_tokens_that_are_none(token: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{token}\n", encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="a token of 16 characters or more"):
        token_of(settings(token_file=path).serve)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"address": "9106"}, "is no address and port"),
        ({"certificate": "/x"}, "certificate and certificate_key go together"),
        ({"longest_page": 0}, "greater than or equal to 1"),
        ({"deadline": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_are_none(keys: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        settings(**keys)


@ON_SQLITE
@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:1", 200), ("localhost", 200), ("LOCALHOST:9106", 200), ("[::1]:9106", 200), ("[::1]", 200), ("127.3.2.1", 200),
     ("evil.example", 403), ("evil.example:80", 403), ("192.0.2.1:80", 403), ("", 403), ("127.evil.example", 403),
     ("127.0.0.1.evil.example:9106", 403)],
)  # fmt: skip
def test_without_a_token_this_host_has_to_be_asked_by_name(site: StoreSite, host: str, status: int) -> None:
    """A page from elsewhere, in a browser on this host, can make its own name lead here."""
    with served(site) as port:
        assert get(port, "/v1/records", headers={"Host": host}).status == status
        assert get(port, "/v1/records").status == 200
    with served(site, TOKEN.encode()) as port:
        asked = {"Host": host, "Authorization": f"bearer {TOKEN}"}
        assert get(port, "/v1/records", headers=asked).status == 200


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"limit": "0"}, "limit '0': give a number from 1 to 10000"),
        ({"limit": "10001"}, "give a number from 1 to 10000"),
        ({"limit": "9" * 5000}, "give a number from 1 to 10000"),
        ({"limit": "-1"}, "give a number from 1 to 10000"),
        ({"limit": "٣"}, "give a number from 1 to 10000"),
        ({"from": "yesterday"}, "from 'yesterday': write a day, such as 2026-11-30"),
        ({"from": "2026-02-30"}, "write a day, such as 2026-11-30"),
        ({"to": "2026-11-30T25:00:00Z"}, "write a day, such as 2026-11-30"),
        ({"to": "2026-11-30\n"}, "write a day, such as 2026-11-30"),
        ({"from": "2026-12-01", "to": "2026-11-29"}, "`to` lies before `from`"),
        ({"format": "jsonn"}, "format 'jsonn' is none here; did you mean jsonl?"),
        ({"formt": "jsonl"}, "there is no parameter 'formt' here; did you mean format?"),
        ({"destination": "x\x00\x1b[31m"}, r"destination 'x\\x00\\x1b[31m' is none here"),
    ],
)
def test_what_is_no_question(sqlite_store: object, asked: dict[str, object], told: str) -> None:
    with served(StoreSite(sqlite_store)) as port:  # type: ignore[arg-type]
        got = get(port, "/v1/records", asked)
        assert (got.status, told in got.error) == (400, True), got.error
        assert "Traceback" not in got.error


def test_parameters_that_stand_twice_or_are_none(sqlite_store: object) -> None:
    with served(StoreSite(sqlite_store)) as port:  # type: ignore[arg-type]
        for query, told in (("limit=1&limit=2", "limit stands twice"), ("limit", "write them as name=value"), ("&&", "name=value")):
            got = get(port, f"/v1/records?{query}")
            assert (got.status, told in got.error) == (400, True), got.error


def test_while_the_database_is_away(sqlite_store: object, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site = StoreSite(sqlite_store)  # type: ignore[arg-type]
    with served(site) as port:
        assert get(port, "/v1/records").status == 200
        site.store.close()
        file = Path(str(site.store.engine.url.database))
        kept = file.read_bytes()
        file.write_bytes(b"no database" * 1000)
        for path in ("/v1/records", "/v1/summaries?month=2023-11"):
            got = get(port, path)
            assert (got.status, got.headers["Retry-After"]) == (503, "30")
            assert (
                got.error == "the database, or its archive, cannot be read just now: come again; the log of this service says why"
            )
        assert "batchacct.db" in caplog.text
        site.store.close()
        file.write_bytes(kept)
        assert get(port, "/v1/records").status == 200


def test_certificates_are_named_in_errors(tmp_path: Path, at: Served) -> None:
    issued: Issued = Authority(tmp_path / "ca").issue("one")
    issued.key.chmod(0o644)
    at.configure(certificate=issued.certificate, certificate_key=issued.key)
    status, told = at.refused()
    assert (status, f"key {issued.key} may be read by everybody" in told) == (3, True)
