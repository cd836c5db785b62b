"""MariaDB's own: what it would do without a word, and what is said of a server that cannot be used."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from sqlalchemy import make_url, select, text

from batchacct.errors import StoreError
from batchacct.model import INSTANT
from batchacct.parsing import RejectedUnit
from batchacct.store import Store, append
from batchacct.store.dialects import mariadb as module
from batchacct.store.dialects.mariadb import STATEMENT_BYTES
from batchacct.store.dialects.mariadb_rows import as_lines
from batchacct.store.tables import job as job_table
from tests.records import NOTHING, NOW, ORIGIN, holdings, job, parsed, rows
from tests.servers import MariaServer

MANY = module.FEW_ROWS + 1
pytestmark = pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)


@contextmanager
def setting(server: MariaServer, name: str, value: str) -> Iterator[None]:
    """A setting of the server, for connections from now on."""
    before = server.execute(f"SELECT @@GLOBAL.{name}").strip()
    server.execute(f"SET GLOBAL {name} = {value}")
    try:
        yield
    finally:
        server.execute(f"SET GLOBAL {name} = '{before}'" if not before.isdigit() else f"SET GLOBAL {name} = {before}")


@contextmanager
def opened(url: str, **changed: str) -> Iterator[Store]:
    store = Store(make_url(url).set(**changed).render_as_string(hide_password=False))  # type: ignore[arg-type]
    try:
        yield store
    finally:
        store.close()


# --- nothing is cut -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, MANY], ids=["by INSERT", "by LOAD DATA"])
@pytest.mark.parametrize("known", [False, True], ids=["straight", "staged"])
def test_what_is_too_long_is_an_error_and_never_cut(store: Store, count: int, known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such values are rejects before they come here; were they not, LOAD DATA would cut them with a warning, strict or not."""
    monkeypatch.setattr(sys.modules["batchacct.store.append"], "with_strange_rejected", lambda _type, block, _database: block)
    if known:
        append(store, ORIGIN, parsed([job(0)]), NOW)
    before = holdings(store)
    long = job(count, record_key="k" * 751)
    with pytest.raises(StoreError, match=r"Data (too long|truncated) for column 'record_key'"):
        append(store, ORIGIN, parsed([*(job(n) for n in range(count)), long]), NOW)
    assert holdings(store) == before


def test_a_server_that_is_not_strict_is_made_so_for_each_session(store_url: str, mariadb: MariaServer) -> None:
    with setting(mariadb, "sql_mode", "'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'"), opened(store_url) as store:
        store.create()
        append(store, ORIGIN, parsed([job(1, job_name="a\\b'c\"")]), NOW)
        with pytest.raises(StoreError, match=r"Data too long for column 'state'|Incorrect integer value"), store.writing() as one:
            one.execute(text("UPDATE job SET processors = 'many'"))
        assert [row["job_name"] for row in rows(store, job_table)] == ["a\\b'c\""]


def test_a_server_that_does_not_take_to_it_is_refused(
    store_url: str, mariadb: MariaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SQL_MODE", "NO_ZERO_DATE")  # what a proxy could make of it
    told = "does not keep to sql_mode STRICT_ALL_TABLES, without which it cuts values"
    with setting(mariadb, "sql_mode", "''"), opened(store_url) as store, pytest.raises(StoreError, match=told):
        store.create()


# --- how rows go in -------------------------------------------------------------------------------------------------------


def test_without_load_data_rows_go_in_by_insert(store_url: str, mariadb: MariaServer, caplog: pytest.LogCaptureFixture) -> None:
    records = [job(n, b"'\\\n" * (n % 7), job_name=f"\t{n}\\") for n in range(3 * MANY)]
    with setting(mariadb, "local_infile", "0"), caplog.at_level(logging.WARNING), opened(store_url) as store:
        store.create()
        assert append(store, ORIGIN, parsed(records), NOW)[0].recorded == len(records)
        assert append(store, ORIGIN, parsed([*records, job(-1)]), NOW)[0].recorded == 1
        stored = rows(store, job_table)
    assert [row["native"] for row in stored[:-1]] == [record["native"] for record in records]
    assert [row["job_name"] for row in stored[:-1]] == [record["job_name"] for record in records]
    assert caplog.text.count("takes no LOAD DATA LOCAL") == 1


@pytest.mark.parametrize("loads", ["0", "1"], ids=["by INSERT", "by LOAD DATA"])
def test_a_row_that_is_longer_than_a_statement(store_url: str, mariadb: MariaServer, loads: str) -> None:
    unit = b"x" * (2 * STATEMENT_BYTES)
    with (
        setting(mariadb, "max_allowed_packet", str(STATEMENT_BYTES)),
        setting(mariadb, "local_infile", loads),
        opened(store_url) as store,
    ):
        store.create()
        block = parsed([job(1), job(2, unit)])
        if loads == "0":
            with pytest.raises(StoreError, match="set local_infile = ON on the database server, or its max_allowed_packet"):
                append(store, ORIGIN, block, NOW)
            assert holdings(store) == NOTHING
        else:
            append(store, ORIGIN, block, NOW)
    with opened(store_url) as store:
        assert [row["native"] for row in rows(store, job_table)][1:] == ([unit] if loads == "1" else [])


def test_rows_that_do_not_all_arrive_are_an_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended_early(pipe: int, _batch: object) -> None:
        with open(pipe, "wb") as stream:
            stream.write(bytes(as_lines(_numbered_job(3))))

    monkeypatch.setattr(module, "_write_lines", ended_early)
    with pytest.raises(StoreError, match=f"of {MANY} rows 1 were loaded. Nothing of them was stored"):
        append(store, ORIGIN, parsed([job(n) for n in range(MANY)]), NOW)
    assert holdings(store) == NOTHING


def _numbered_job(number: int) -> pa.RecordBatch:
    records = parsed([job(number)]).records
    columns = [pa.array([number]), *(c.cast(pa.int64()) if c.type == INSTANT else c for c in records.columns)]
    return pa.RecordBatch.from_arrays(columns, ["id", *records.schema.names])


def test_the_server_is_given_no_file_but_while_rows_are_loaded(store: Store) -> None:
    append(store, ORIGIN, parsed([job(n) for n in range(MANY)]), NOW)
    connection = store.engine.raw_connection()
    with pytest.raises(RuntimeError, match="Received LOAD_LOCAL packet but local_infile option is false"):
        connection.cursor().execute(f"LOAD DATA LOCAL INFILE '{__file__}' INTO TABLE setting")
    connection.invalidate()


# --- what is said ---------------------------------------------------------------------------------------------------------


def test_wrong_credentials(store_url: str, mariadb: MariaServer) -> None:
    mariadb.execute("CREATE OR REPLACE USER with_password@127.0.0.1 IDENTIFIED BY 'right'")
    told = "Check the user name and password in the connection file"
    with opened(store_url, username="with_password", password="wrong") as store, pytest.raises(StoreError, match=told) as caught:
        store.check()
    assert "wrong" not in caught.value.message


def test_a_database_that_is_not_there(store_url: str, mariadb: MariaServer) -> None:
    told = r"Unknown database .*Create the database, as docs/how-to/databases.md says"
    with opened(store_url, database="batchacct_elsewhere") as store, pytest.raises(StoreError, match=told):
        store.check()


def test_missing_privileges(store: Store, database_url: str, mariadb: MariaServer) -> None:
    reader = "reader@127.0.0.1"
    mariadb.execute(f"CREATE OR REPLACE USER {reader}; GRANT SELECT ON batchacct.* TO {reader}")
    with opened(database_url, username="reader") as other:
        other.check()
        with pytest.raises(StoreError, match=r"denied.* Grant this user the rights that docs/how-to/databases.md lists"):
            append(other, ORIGIN, parsed([job(1)]), NOW)
    with (
        opened(database_url, username="reader", database="mysql") as foreign,
        pytest.raises(StoreError, match="Grant this user the"),
    ):
        foreign.check()


def test_a_full_table(store: Store) -> None:
    """Of memory: a disk that is full gives the same error, or says so in words."""
    with pytest.raises(StoreError, match=r"is full \(error 1114\)\. Make room"), store.writing() as connection:
        connection.execute(text("SET SESSION max_heap_table_size = 16384"))
        connection.execute(text("CREATE TEMPORARY TABLE small (filler CHAR(250)) ENGINE=MEMORY"))
        connection.execute(text("INSERT INTO small SELECT seq FROM seq_1_to_1000"))


def test_a_connection_that_was_ended(store: Store, mariadb: MariaServer) -> None:
    with pytest.raises(StoreError, match="once the server is there again"), store.reading() as connection:
        mariadb.execute(f"KILL {connection.scalar(text('SELECT connection_id()'))}")
        connection.scalar(select(job_table.c.id))
    append(store, ORIGIN, parsed([job(1)]), NOW)


def test_a_reject_longer_than_a_statement_may_be(store_url: str, mariadb: MariaServer) -> None:
    with setting(mariadb, "max_allowed_packet", str(STATEMENT_BYTES)), opened(store_url) as store:
        store.create()
        with pytest.raises(StoreError, match="max_allowed_packet"):
            append(store, ORIGIN, parsed(rejects=[RejectedUnit(0, 1, b"x" * 2 * STATEMENT_BYTES, "bad")]), NOW)
        assert holdings(store) == NOTHING


def test_the_documented_rights_are_those_of_the_tests(store_url: str) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "databases.md"
    assert f"GRANT {MariaServer.GRANTS} ON batchacct.* TO" in page.read_text(encoding="utf-8")


def test_locks_are_of_the_database_and_not_of_the_server(store: Store, database_url: str, mariadb: MariaServer) -> None:
    mariadb.empty("batchacct_other")
    with store.lock("publish"), opened(database_url, database="batchacct_other") as other, other.lock("publish"):
        pass


def test_its_tables_are_its_own_whatever_the_servers_defaults(store: Store) -> None:
    asked = (
        "SELECT DISTINCT engine, table_collation FROM information_schema.tables "
        "WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE'"
    )
    with store.reading() as connection:
        assert [tuple(row) for row in connection.execute(text(asked))] == [("InnoDB", "utf8mb4_nopad_bin")]
