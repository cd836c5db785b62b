"""PostgreSQL goes away in every way, while a collector follows: it says so once, waits, goes on, and nothing is lost or doubled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from batchacct.errors import BusyError, StoreError
from batchacct.store import Store
from tests.faults.farm import Farm, source_table
from tests.faults.proxy import Line, Proxy, proxy
from tests.faults.writer import Style
from tests.fix_stores import empty
from tests.forks import Forks
from tests.servers import REQUIRED, MissingServerError, PostgresServer, postgres_server


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that these tests may stop, if they start it again."""
    try:
        with postgres_server() as made:
            yield made
    except MissingServerError as missing:
        if REQUIRED:
            raise
        pytest.skip(str(missing))


@pytest.fixture
def farm(server: PostgresServer, forks: Forks, tmp_path: Path) -> Iterator[Farm]:
    empty(server.url)
    made = Farm(tmp_path / "farm", server.url, forks)
    yield made
    made.close()


@pytest.fixture
def between(farm: Farm, server: PostgresServer) -> Iterator[Proxy]:
    """A proxy between the collector and the server; what a test itself asks goes past it."""
    with proxy(server.port) as made:
        url = farm.url.replace(f":{server.port}/", f":{made.port}/")
        farm.configure(source_table("lsf", "lsf", farm.logs / "lsb.acct*"), url=url)
        yield made


def outages(farm: Farm) -> tuple[int, int]:
    """How often it said that the database failed, and that it is back."""
    lines = farm.said().splitlines()
    return sum("database postgresql" in line for line in lines), sum("the database answers again" in line for line in lines)


@pytest.mark.parametrize("mode", ["immediate", "fast"])
def test_the_server_is_stopped_and_started(farm: Farm, server: PostgresServer, mode: str) -> None:
    log = farm.log()
    log.append(20)
    process = farm.start()
    farm.until_stored(log)
    server.stop(mode)
    log.append(20)
    farm.until("it says that the database is away", lambda: outages(farm)[0] > 0)
    log.rotate(Style.RENAME)
    log.append(20)
    server.start()
    farm.until_stored(log)
    farm.until("it says that the database is back", lambda: outages(farm)[1] > 0)
    assert outages(farm) == (1, 1), farm.said()
    assert farm.start("lsf", output="second.log").wait() == BusyError.exit_code, "its lock is taken again after the outage"
    assert process.terminate() == 0
    farm.check(log)


def test_the_server_is_away_when_the_collector_starts(farm: Farm, server: PostgresServer) -> None:
    """Then nobody knows whether the configuration is right: it ends, and says so; its unit starts it again."""
    server.stop()
    try:
        assert farm.start().wait() == StoreError.exit_code
        assert "Is the server running, and the address right?" in farm.said()
    finally:
        server.start()


def test_a_stop_while_the_server_is_away(farm: Farm, server: PostgresServer) -> None:
    log = farm.log()
    process = farm.start()
    log.append(20)
    farm.until_stored(log)
    server.stop()
    try:
        log.append(20)
        farm.until("it says that the database is away", lambda: outages(farm)[0] > 0)
        assert process.terminate(within_s=60) == 0
    finally:
        server.start()
    process = farm.start()
    farm.until_stored(log)
    assert process.terminate() == 0
    farm.check(log)


def test_connections_are_cut_and_cannot_be_made_for_a_while(farm: Farm, between: Proxy) -> None:
    log = farm.log()
    process = farm.start()
    for _ in range(2):
        log.append(20)
        farm.until_stored(log)
        between.set(Line.CUT)
        log.append(20)
        farm.until("it says that the database is away", lambda: outages(farm)[0] > outages(farm)[1])
        between.set(Line.THROUGH)
        farm.until_stored(log)
        farm.until("it says that the database is back", lambda: outages(farm)[0] == outages(farm)[1])
    assert outages(farm) == (2, 2), farm.said()
    assert process.terminate() == 0
    farm.check(log)


@pytest.mark.parametrize("done", [True, False], ids=["done", "not done"])
def test_the_connection_breaks_at_commit_and_nobody_knows_whether_it_was_done(farm: Farm, between: Proxy, done: bool) -> None:
    log = farm.log()
    process = farm.start()
    log.append(20)
    farm.until_stored(log)
    for turn in range(3):
        if done:
            between.answers_to_lose = 1
        else:
            between.commits_to_lose = 1
        log.append(20)
        if turn == 1:
            log.rotate(Style.COPY)
        farm.until("a COMMIT is lost", lambda: not (between.answers_to_lose or between.commits_to_lose))
        log.append(20)
        farm.until_stored(log)
    assert process.terminate() == 0
    farm.check(log)


def test_the_server_answers_no_more_for_a_while(farm: Farm, between: Proxy) -> None:
    log = farm.log()
    process = farm.start()
    log.append(20)
    farm.until_stored(log)
    between.set(Line.STALLED)
    log.append(20)
    log.rotate(Style.SHIFT)
    log.append(20)
    assert not process.has_ended(within_s=2)
    between.set(Line.THROUGH)
    farm.until_stored(log)
    between.set(Line.STALLED)
    log.append(20)
    assert not process.has_ended(within_s=1)
    between.set(Line.CUT)
    between.set(Line.THROUGH)
    farm.until_stored(log)
    assert process.terminate() == 0
    farm.check(log)


def test_a_stop_while_the_server_does_not_answer(farm: Farm, between: Proxy) -> None:
    farm.settings["batchacct.collector.service.END_S"] = 3.0
    log = farm.log()
    process = farm.start()
    log.append(20)
    farm.until_stored(log)
    between.set(Line.STALLED)
    log.append(20)
    assert not process.has_ended(within_s=1)
    assert process.terminate(within_s=60) == 0
    between.set(Line.CUT)
    between.set(Line.THROUGH)
    process = farm.start()
    farm.until_stored(log)
    assert process.terminate() == 0
    farm.check(log)


def test_connections_ended_by_the_administrator(farm: Farm) -> None:
    log = farm.log()
    process = farm.start()
    for _ in range(2):
        log.append(20)
        farm.until_stored(log)
        with farm.store.writing() as connection:
            ours = "usename = 'batchacct' AND pid <> pg_backend_pid()"
            others = text(f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {ours}")
            assert (connection.scalar(others) or 0) > 0
    log.append(20)
    farm.until_stored(log)
    assert process.terminate() == 0
    farm.check(log)


@contextmanager
def setting(url: str, name: str, value: str) -> Iterator[None]:
    """A setting of the database, for connections from now on."""
    server = Store(url)
    try:
        with server.writing() as connection:
            connection.execute(text(f"ALTER DATABASE postgres SET {name} = '{value}'"))
        server.close()
        yield
        with server.writing() as connection:
            connection.execute(text(f"ALTER DATABASE postgres RESET {name}"))
    finally:
        server.close()


def test_a_table_is_locked_for_longer_than_is_waited_for(farm: Farm) -> None:
    farm.settings["batchacct.store.dialects.postgresql.LOCK_TIMEOUT_S"] = 1
    log = farm.log()
    process = farm.start()
    log.append(20)
    farm.until_stored(log)
    with farm.store.writing() as connection:
        connection.execute(text("LOCK TABLE job IN ACCESS EXCLUSIVE MODE"))
        log.append(20)
        farm.until("it says that it must not wait", lambda: "lock timeout" in farm.said())
        log.rotate(Style.RENAME)
        log.append(20)
    farm.until_stored(log)
    assert process.terminate() == 0
    farm.check(log)


def test_it_is_never_idle_within_a_transaction(farm: Farm) -> None:
    log = farm.log()
    with setting(farm.url, "idle_in_transaction_session_timeout", "250ms"):
        process = farm.start()
        for _ in range(4):
            log.append(20)
            farm.until_stored(log)
            assert not process.has_ended(within_s=0.4)
        assert process.terminate() == 0
    assert outages(farm) == (0, 0), farm.said()
    farm.check(log)
