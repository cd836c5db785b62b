"""Metrics: read back by Prometheus' own parser, on both databases, over real HTTP; what a scrape gets when the database is away."""

from __future__ import annotations

import http.client
import logging
import re
import socket
import threading
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from batchacct import metrics
from batchacct.cli.collecting import collector_of
from batchacct.collector import collect_once
from batchacct.config import Config
from batchacct.errors import ConfigError, StoreError
from batchacct.metrics import metrics_text, serve
from batchacct.model import PROCESS
from batchacct.store import Origin, Store, append
from tests.archive.farms import archive
from tests.archive.test_purge import APRIL, JULY, MARCH, purge, site_of
from tests.cli.runner import batchacct
from tests.cli.site import NOW, Site, blah, lsf
from tests.pristine import with_schema
from tests.pub.site import BASE
from tests.records import parsed, process

Samples = dict[tuple[str, str], float]
"""(name, value of its label) to value."""


def samples(text: bytes) -> Samples:
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        assert family.documentation
        for sample in family.samples:
            assert re.fullmatch(r"batchacct_[a-z0-9_]+", sample.name)
            assert family.type == ("counter" if sample.name.endswith("_total") else "gauge")
            assert len(sample.labels) <= 1 + (sample.name == "batchacct_publish_records")
            key = (sample.name, list(sample.labels.values())[-1] if sample.labels else "")
            assert key not in found
            found[key] = sample.value
    return found


@pytest.fixture
def config(tmp_path: Path) -> Config:
    sources = [{"name": "lsf", "parser": "lsf", "paths": [f"{tmp_path}/lsb.acct"], "cluster": "c1"}]
    sources.append({"name": "ce", "parser": "blah", "paths": [f"{tmp_path}/blahp.log-*"]})
    return Config.model_validate({**BASE, "source": sources, "database": {"url": "sqlite:////nowhere"}})


def test_every_figure(store: Store, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHACCT_NOW", str(NOW))
    log = tmp_path / "lsb.acct"
    log.write_bytes(lsf(1) + b"bad\n" + lsf(2))
    (tmp_path / "blahp.log-20261029").write_bytes(blah(1))
    for keys in config.source:
        collect_once(store, collector_of(config, keys), lambda: NOW - 100)
    with log.open("ab") as stream:
        stream.write(lsf(3) + b"unfinished")
    found = samples(metrics_text(store, config))
    unread = len(lsf(3)) + len(b"unfinished")
    expected: Mapping[tuple[str, str], float] = {
        ("batchacct_up", ""): 1,
        ("batchacct_books_balanced", ""): 1,
        ("batchacct_source_lag_bytes", "lsf"): unread,
        ("batchacct_source_lag_files", "lsf"): 1,
        ("batchacct_source_lag_seconds", "lsf"): 100,
        ("batchacct_source_lag_seconds", "ce"): 0,
        ("batchacct_source_units_total", "lsf"): 3,
        ("batchacct_source_records_total", "lsf"): 2,
        ("batchacct_source_rejects_total", "lsf"): 1,
        ("batchacct_source_open_rejects", "lsf"): 1,
        ("batchacct_source_last_record_timestamp_seconds", "lsf"): NOW - 3 * 86_400,
        ("batchacct_source_last_success_timestamp_seconds", "ce"): NOW - 100,
        ("batchacct_source_lost_bytes_total", "lsf"): 0,
        ("batchacct_source_error", "lsf"): 0,
        ("batchacct_source_silent", "ce"): 0,
        ("batchacct_jobs", "not joined yet"): 2,
        ("batchacct_publish_records", "unsent"): 0,
        ("batchacct_publish_unsent_messages", "main"): 0,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert found["batchacct_source_silent_seconds", "ce"] > 2 * 86_400
    assert ("batchacct_source_silence_allowed_seconds", "ce") not in found, "there is no rhythm yet"
    assert ("batchacct_publish_last_success_timestamp_seconds", "main") not in found


def test_what_of_the_policy_is_not_done(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two months, of three jobs and an identity each, and a process: one is to be in the archive by now, and one past it."""
    monkeypatch.setenv("BATCHACCT_NOW", str(JULY))
    policy = {"archive_for": "80d", "personal_data": "30d"}
    at = site_of(store, tmp_path, **policy)
    ran = parsed([process(1, logged_at=MARCH + 60, started_at=MARCH)], record_type=PROCESS)
    append(store, Origin("procs", "process", "test/1", "/spool"), ran, MARCH + 70)

    def due() -> dict[str, float]:
        found = samples(metrics_text(store, at.config))
        return {name or kind: found[kind, name] for kind, name in found if "archive" in kind or "retention" in kind}

    to_archive, to_delete, to_name = "jobs to archive", "records in files to delete", "records to take names out of"
    processes = "processes to archive"
    months, last = "batchacct_archive_months_due", "batchacct_archive_last_month_timestamp_seconds"
    assert due() == {months: 2, to_archive: 6, processes: 1, to_delete: 0, to_name: 9}
    archive(at, JULY)
    done = {months: 0, to_archive: 0, processes: 0, last: APRIL}
    assert due() == done | {to_delete: 5, to_name: 4}
    purge(at)
    assert due() == done | {to_delete: 0, to_name: 0}
    at.configure(archive={"path": tmp_path / "archive"}, retention={"keep": 0})
    assert due() == done


NO_METRICS = {"batchacct_turn", "batchacct_reader"}
"""A table for turns on Oracle, and a name that pages give an account of a database."""


def test_the_page_lists_every_metric(store: Store, config: Config) -> None:
    """... and no other, whatever is in the database; every page names those alone that there are."""
    docs = Path(__file__).parents[1] / "docs"
    page = (docs / "reference/metrics.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(batchacct_[a-z_]+)", page, re.MULTILINE))
    told = set()
    for family in text_string_to_metric_families(metrics_text(store, config).decode()):
        told.add(family.name + "_total" * (family.type == "counter"))
    assert listed == told
    for path in docs.rglob("*.md"):
        assert set(re.findall(r"\bbatchacct_[a-z_]+", path.read_text(encoding="utf-8"))) <= told | NO_METRICS, path


def test_the_command(tmp_path: Path) -> None:
    site = Site(tmp_path)
    (tmp_path / "logs").mkdir()
    site.configure(ce='"ce01.example.org:8443/*" = "lsf1"')
    site.write([lsf(1)], [blah(1)])
    site.good("db", "create")
    site.good("collect", "--once")
    assert samples(site.good("metrics").encode())["batchacct_source_records_total", "lsf"] == 1


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("KEPT_S", 0.0), ("KEPT_FACTOR", 0), ("WAIT_S", 0.3), ("STALE_S", 0.0)):
        monkeypatch.setattr(metrics, name, value)


def get(port: int, path: str = "/metrics", method: str = "GET", host: str = "127.0.0.1") -> tuple[int, str, bytes]:
    with closing(http.client.HTTPConnection(host, port, timeout=60)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read()


def test_over_http(store: Store, config: Config) -> None:
    with closing(serve("127.0.0.1:0", lambda: metrics_text(store, config))) as endpoint:
        for path in ("/metrics", "/"):
            status, kind, body = get(endpoint.port, path)
            assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
            assert samples(body)["batchacct_up", ""] == 1
        assert get(endpoint.port, "/secrets")[0] == 404
        assert get(endpoint.port, method="POST")[0] == 405
        assert get(endpoint.port, method="HEAD")[::2] == (200, b"")
        port = endpoint.port
    with pytest.raises(ConnectionRefusedError):
        get(port)
    with closing(serve(f"127.0.0.1:{port}", lambda: b"again")) as endpoint:
        assert get(endpoint.port)[2] == b"again"


def test_it_listens_where_it_is_told_and_nowhere_else() -> None:
    with closing(serve("127.0.0.1:0", lambda: b"")) as endpoint, pytest.raises(OSError):
        get(endpoint.port, host="127.0.0.2")


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6() -> None:
    try:
        endpoint = serve("[::1]:0", lambda: b"x 1\n")
    except ConfigError:
        pytest.skip("no IPv6 address here")
    with closing(endpoint):
        assert get(endpoint.port, host="::1")[2] == b"x 1\n"


@pytest.mark.parametrize(
    "address", ["nonsense", "127.0.0.1", ":9105", "127.0.0.1:99999", "no.such.host.invalid:1", "192.0.2.1:9105"]
)
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"metrics cannot be served at {address}: ")):
        serve(address, lambda: b"")


def test_an_address_that_is_taken() -> None:
    with closing(serve("127.0.0.1:0", lambda: b"")) as one, pytest.raises(ConfigError, match="in use"):
        serve(f"127.0.0.1:{one.port}", lambda: b"")


def test_a_wrong_address_is_told_by_the_configuration() -> None:
    with pytest.raises(ValueError, match="is no address and port"):
        Config.model_validate({**BASE, "collect": {"metrics_address": "9105"}})


@pytest.mark.usefixtures("quick")
def test_while_the_database_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """It is said once, scrapes are answered, and afterwards all is as before."""
    is_away = threading.Event()

    def make_text() -> bytes:
        if is_away.is_set():
            raise StoreError("the database has gone")
        return b"batchacct_up 1\n"

    with caplog.at_level(logging.WARNING), closing(serve("127.0.0.1:0", make_text)) as endpoint:
        assert samples_up(endpoint.port) == 1
        is_away.set()
        assert [samples_up(endpoint.port) for _ in range(3)] == [0, 0, 0]
        is_away.clear()
        assert samples_up(endpoint.port) == 1
    assert caplog.messages == ["metrics: the database has gone"]


def samples_up(port: int) -> float | None:
    values = {
        family.name: family.samples[0].value for family in text_string_to_metric_families(get(port)[2].decode()) if family.samples
    }
    return values.get("batchacct_up")


@pytest.mark.usefixtures("quick")
def test_a_database_that_hangs_keeps_no_scrape_waiting() -> None:
    """However many ask: one reading hangs, they do not, and closing does not wait for it either."""
    goes_on, readings = threading.Event(), []

    def make_text() -> bytes:
        readings.append(1)
        assert goes_on.wait(60)
        return b"batchacct_up 1\n"

    with closing(serve("127.0.0.1:0", make_text)) as endpoint:
        try:
            assert [samples_up(endpoint.port) for _ in range(3)] == [0, 0, 0]
            assert len(readings) == 1
        finally:
            goes_on.set()


def test_many_scrapes_ask_the_database_once() -> None:
    readings = []

    def make_text() -> bytes:
        readings.append(1)
        return b"batchacct_up 1\n"

    with closing(serve("127.0.0.1:0", make_text)) as endpoint:
        threads = [threading.Thread(target=samples_up, args=(endpoint.port,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(readings) == 1


def test_a_real_database_that_goes_away(tmp_path: Path, config: Config, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of an SQLite database replaced by something else."""
    del quick
    monkeypatch.setattr(metrics, "WAIT_S", 15.0)  # it answers, however busy the machine is
    store = with_schema(f"sqlite:///{tmp_path}/b.db")
    with closing(serve("127.0.0.1:0", lambda: metrics_text(store, config))) as endpoint:
        assert samples(get(endpoint.port)[2])["batchacct_up", ""] == 1
        store.close()
        (tmp_path / "b.db").write_bytes(b"no database" * 1000)
        assert samples(get(endpoint.port)[2]) == {("batchacct_up", ""): 0, ("batchacct_build_info", _version()): 1}
    store.close()


def _version() -> str:
    return batchacct("--version").out.split()[-1]
