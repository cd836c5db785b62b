"""What is called of Oracle's drivers, in which order, and what becomes of their answers and errors. The server is a double."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace
from typing import Any

import oracledb
import pyarrow as pa
import pytest
from sqlalchemy import Connection, Inspector, func, insert, literal, make_url, select

from batchacct.errors import BusyError, ConfigError, SchemaError, StoreError
from batchacct.model import BYTES, INTEGER, REAL, TEXT
from batchacct.store import Store, migrating, schema, tables
from batchacct.store.dialects import KnownRecordsError
from batchacct.store.dialects.oracle import OracleDialect
from batchacct.store.dialects.oracle_sql import EMPTY, EMPTY_BYTES, scratch_ddl
from batchacct.store.scratch import scratch_tables
from tests.oracle.double import Oracle, database_error
from tests.oracle.portable import of_text
from tests.servers import free_port

URL = "oracle+oracledb://acct:hunter2@db.example.org:1521/?service_name=acct"
BATCH = pa.RecordBatch.from_arrays(
    [
        pa.array([2**60, 2**60 + 1], INTEGER),
        pa.array(["a", "b"], TEXT),
        pa.array(["", None], TEXT),
        pa.array([0.1, None], REAL),
        pa.array([b"", None], BYTES),
        pa.array(["echo 'x'", ""], TEXT),
        pa.array(["c", "c"], TEXT),
    ],
    ["id", "record_key", "queue", "host_factor", "native", "command", "cluster"],
)


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> Oracle:
    server = Oracle()
    monkeypatch.setattr(oracledb, "connect", server.connect)
    return server


@pytest.fixture
def store(oracle: Oracle) -> Store:
    return Store(URL)


def stored(oracle: Oracle) -> pa.Table:
    """What was handed to the driver, as the driver itself reads it."""
    (given,) = (what[1] for _, call, what in oracle.calls if call == "executemany")
    return pa.table(oracledb.from_arrow(given))


class TestBulkInsert:
    def test_a_batch_is_one_array_bind_of_arrow_data(self, store: Store, oracle: Oracle) -> None:
        with store.writing() as connection:
            store.dialect.bulk_insert(connection, tables.job, BATCH)
        assert oracle.told()[-2:] == [
            'INSERT INTO job (id, record_key, queue, host_factor, "cluster", native, command) VALUES (:1, :2, :3, :4, :5, :6, :7)',
            "commit",
        ]
        assert stored(oracle).to_pydict() == {
            "id": [2**60, 2**60 + 1],
            "record_key": ["a", "b"],
            "queue": [EMPTY, None],
            "host_factor": [0.1, None],
            "cluster": ["c", "c"],
            "native": [EMPTY_BYTES, None],
            "command": ["echo 'x'", EMPTY],
        }

    def test_a_known_key_is_told_so_and_other_errors_are_errors(self, store: Store, oracle: Oracle) -> None:
        oracle.on("INSERT INTO job", database_error("ORA-00001", "unique constraint (ACCT.JOB_KEY) violated"))
        with pytest.raises(KnownRecordsError, match="JOB_KEY"), store.writing() as connection:
            store.dialect.bulk_insert(connection, tables.job, BATCH)
        oracle.on("INSERT INTO job", database_error("ORA-01400", "cannot insert NULL"))
        with pytest.raises(StoreError, match="cannot insert NULL") as told, store.writing() as connection:
            store.dialect.bulk_insert(connection, tables.job, BATCH)
        assert not isinstance(told.value, KnownRecordsError)
        assert oracle.told()[-1] == "rollback"

    def test_a_savepoint_is_rolled_back_to(self, store: Store, oracle: Oracle) -> None:
        oracle.on("INSERT INTO job", database_error("ORA-00001"))
        oracle.on("FROM alembic_version", [(schema.head(),)])
        with store.appending() as connection:
            savepoint = connection.begin_nested()
            with pytest.raises(KnownRecordsError):
                store.dialect.bulk_insert(connection, tables.job, BATCH)
            savepoint.rollback()
        turn, _, made, _, undone, committed = oracle.told()[-6:]
        assert turn == "SELECT name FROM batchacct_turn WHERE name = 'append' FOR UPDATE WAIT 60"
        assert (made, undone) == ("SAVEPOINT sa_savepoint_1", "ROLLBACK TO SAVEPOINT sa_savepoint_1")
        assert committed == "commit"

    def test_cx_oracle_gets_rows_and_is_told_their_types(self, monkeypatch: pytest.MonkeyPatch, oracle: Oracle) -> None:
        module = _cx_oracle(oracle)
        monkeypatch.setitem(sys.modules, "cx_Oracle", module)
        store = Store(URL.replace("oracledb", "cx_oracle"))
        with store.writing() as connection:
            store.dialect.bulk_insert(connection, tables.job, BATCH)
        sizes, rows = [what for _, call, what in oracle.calls if call in {"setinputsizes", "executemany"}][-2:]
        assert sizes[0] == (int, 1, 1, module.NATIVE_FLOAT, 1, module.LONG_BINARY, module.LONG_STRING)
        assert rows[1] == [
            (2**60, "a", EMPTY, 0.1, "c", EMPTY_BYTES, "echo 'x'"),
            (2**60 + 1, "b", None, None, "c", None, EMPTY),
        ]


def _cx_oracle(oracle: Oracle) -> Any:
    """What of cx_Oracle is used, under its own names."""
    names = [name for name in dir(oracledb) if not name.startswith("__")]
    module = SimpleNamespace(**{name: getattr(oracledb, name) for name in names})
    module.version, module.paramstyle, module.connect = "8.3.0", "named", oracle.connect
    return module


class TestFetch:
    FIELDS: tuple[pa.Field[Any], ...] = (pa.field("name", TEXT), pa.field("number", INTEGER), pa.field("real", REAL))
    SCHEMA = pa.schema(FIELDS)

    def test_a_query_comes_as_a_data_frame_of_the_types_wanted(self, store: Store, oracle: Oracle) -> None:
        oracle.frame = pa.table({"name": ["a", EMPTY, None], "number": [2**62 + 1, None, 3], "real": [0.1, None, 2.0]})
        job = tables.job.c
        query = select(job.queue.label("name"), job.id.label("number"), job.host_factor.label("real"))
        query = query.where(job.cluster == "", job.queue.in_(["x", ""]), func.coalesce(job.project, "") != "p").limit(5)
        with store.reading() as connection:
            batch = store.dialect.fetch(connection, query, self.SCHEMA)
        assert batch.schema.equals(self.SCHEMA)
        assert batch.to_pydict() == {"name": ["a", "", None], "number": [2**62 + 1, None, 3], "real": [0.1, None, 2.0]}
        statement, binds, rows, schema = next(what for _, call, what in oracle.calls if call == "fetch_df_all")
        assert schema.equals(self.SCHEMA)
        assert rows > 1
        assert "FETCH FIRST 5 ROWS ONLY" in statement
        assert sorted(map(str, binds.values())) == sorted([EMPTY, EMPTY, EMPTY, "x", "p"])
        assert all(f":{name}" in statement for name in binds)

    def test_nothing_found_is_an_empty_batch(self, store: Store, oracle: Oracle) -> None:
        oracle.frame = pa.table({name: pa.array([], self.SCHEMA.field(name).type) for name in self.SCHEMA.names})
        with store.reading() as connection:
            assert store.dialect.fetch(connection, select(literal(1).label("number")), self.SCHEMA).num_rows == 0

    def test_an_error_is_the_stores_own(self, store: Store, oracle: Oracle) -> None:
        oracle.frame = pa.table({name: pa.array([], self.SCHEMA.field(name).type) for name in self.SCHEMA.names})
        oracle.on("nowhere", database_error("ORA-00942", "table or view does not exist"))
        with pytest.raises(StoreError, match="ORA-00942"), store.reading() as connection:
            store.dialect.fetch(connection, select(literal("nowhere").label("nowhere")), self.SCHEMA)

    def test_cx_oracle_fetches_rows(self, monkeypatch: pytest.MonkeyPatch, oracle: Oracle) -> None:
        monkeypatch.setitem(sys.modules, "cx_Oracle", _cx_oracle(oracle))
        store = Store(URL.replace("oracledb", "cx_oracle"))
        oracle.on("FROM job", [("a", 1, 0.5), (EMPTY, None, None)])
        job = tables.job.c
        query = select(job.queue.label("name"), job.id.label("number"), job.host_factor.label("real"))
        with store.reading() as connection:
            batch = store.dialect.fetch(connection, query, self.SCHEMA)
        assert batch.to_pydict() == {"name": ["a", ""], "number": [1, None], "real": [0.5, None]}


class TestTransactions:
    def test_reading_sees_one_state_and_writing_does_not_ask_for_it(self, store: Store, oracle: Oracle) -> None:
        with store.reading() as connection:
            connection.execute(select(tables.setting))
        assert oracle.told()[-3] == "SET TRANSACTION READ ONLY"
        with store.writing() as connection:
            connection.execute(select(tables.setting.c.name))
        assert "READ ONLY" not in oracle.told()[-2]
        assert oracle.told()[-1] == "commit"

    def test_a_session_compares_texts_by_their_bytes(self, store: Store, oracle: Oracle) -> None:
        with store.reading():
            pass
        settings = [what[0] for _, call, what in oracle.calls if call == "execute" and "ALTER SESSION" in what[0]]
        assert settings == [f"ALTER SESSION SET {what}" for what in ("TIME_ZONE = 'UTC'", "NLS_COMP = BINARY", "NLS_SORT = BINARY")]

    def test_a_number_that_the_database_gave_is_returned(self, store: Store, oracle: Oracle) -> None:
        def numbered(binds: dict[str, Any]) -> list[tuple[Any, ...]]:
            binds["ret_0"].values = [[7]]
            return []

        oracle.on("RETURNING", numbered)
        values = dict.fromkeys((c.name for c in tables.load.columns if not c.nullable and c.name != "id"), 0)
        with store.writing() as connection:
            key = connection.execute(insert(tables.load).values(values | {"source": "", "record_type": "job", "path": "/x"}))
        assert key.inserted_primary_key == (7,)
        (binds,) = (what[1] for _, call, what in oracle.calls if call == "execute" and "RETURNING" in what[0])
        assert binds["source"] == EMPTY

    def test_the_empty_text_is_read_back(self, store: Store, oracle: Oracle) -> None:
        oracle.on("FROM setting", [("n", EMPTY, 1), ("m", "v", 2)])
        with store.reading() as connection:
            assert [tuple(row) for row in connection.execute(select(tables.setting))] == [("n", "", 1), ("m", "v", 2)]

    def test_scratch_tables_are_emptied_not_made(self, store: Store, oracle: Oracle) -> None:
        (touched,) = (table for table in scratch_tables() if table.name == "touched")
        with store.writing() as connection:
            touched.create(connection)
            touched.drop(connection)
        assert oracle.told()[-3:] == ["DELETE FROM touched", "BEGIN NULL; END;", "commit"]


class TestLocks:
    TAKE = "FOR UPDATE NOWAIT"

    def test_a_lock_is_a_row_of_a_session_of_its_own(self, store: Store, oracle: Oracle) -> None:
        locks = store.locks()
        locks.take("publish")
        locks.take("collect lsf")
        assert locks.holds("publish")
        first, second = sorted({session for session, call, what in oracle.calls if call == "execute" and self.TAKE in what[0]})
        binds = [what[1] for _, call, what in oracle.calls if call == "execute" and self.TAKE in what[0]]
        assert binds == [{"name": "publish"}, {"name": "collect lsf"}]
        assert oracle.told(first)[-4:] == [
            "INSERT INTO batchacct_turn (name) VALUES (:name)",
            "commit",
            "SELECT name FROM batchacct_turn WHERE name = :name FOR UPDATE NOWAIT",
            "SELECT 1 FROM DUAL",
        ]
        locks.give("publish")
        assert oracle.told(first)[-2:] == ["rollback", "close"]
        assert "rollback" not in oracle.told(second)[-1]
        assert (locks.holds("publish"), locks.holds("collect lsf")) == (False, True)
        locks.close()
        assert oracle.told(second)[-2:] == ["rollback", "close"]

    def test_a_row_that_is_there_is_no_error_and_one_that_is_locked_is_busy(self, store: Store, oracle: Oracle) -> None:
        oracle.on("INSERT INTO batchacct_turn", database_error("ORA-00001"))
        oracle.on(self.TAKE, database_error("ORA-00054", "resource busy and acquire with NOWAIT specified"))
        locks = store.locks()
        with pytest.raises(BusyError, match="another process is doing `publish`"):
            locks.take("publish")
        assert not locks.holds("publish")
        assert oracle.told(oracle.sessions)[-2:] == ["rollback", "close"]

    def test_a_lost_session_is_a_lost_lock(self, store: Store, oracle: Oracle) -> None:
        locks = store.locks()
        locks.take("publish")
        oracle.on("SELECT 1 FROM DUAL", database_error("ORA-00028", "your session has been killed"))
        with pytest.raises(StoreError, match="ORA-00028"):
            locks.holds("publish")
        assert not locks.holds("publish")


class TestPrepare:
    def test_everything_is_made_once(self, store: Store, oracle: Oracle) -> None:
        comments: dict[str, str] = {}

        def comment_of(binds: dict[str, str]) -> list[tuple[str]]:
            return [(comments[binds["name"]],)] if binds["name"] in comments else []

        oracle.on("FROM user_tab_comments", comment_of)
        store.dialect.prepare(store.engine)
        made = [text for text in oracle.told() if text.startswith(("CREATE", "COMMENT", "DROP"))]
        assert made[0].startswith("CREATE TABLE batchacct_turn (")
        assert [text.split()[4] for text in made if text.startswith("CREATE GLOBAL")] == [table.name for table in scratch_tables()]
        for text in made:
            if text.startswith("COMMENT"):
                comments[text.split()[3].upper()] = text.split("'")[1]
        oracle.on("CREATE TABLE batchacct_turn", database_error("ORA-00955", "name is already used by an existing object"))
        oracle.on("INSERT INTO batchacct_turn", database_error("ORA-00001"))
        before = len(oracle.told())
        store.dialect.prepare(store.engine)
        assert not [text for text in oracle.told()[before:] if text.startswith(("CREATE GLOBAL", "COMMENT", "DROP"))]
        comments["TODO"] = "batchacct of an earlier release"
        before = len(oracle.told())
        store.dialect.prepare(store.engine)
        again = [text.split()[0] for text in oracle.told()[before:] if text.startswith(("CREATE GLOBAL", "COMMENT", "DROP"))]
        assert again == ["DROP", "CREATE", "COMMENT"]

    def test_a_foreign_table_is_left_alone_and_an_interrupted_one_is_finished(self, store: Store, oracle: Oracle) -> None:
        oracle.on("FROM user_tab_comments", lambda binds: [(None,)] if binds["name"] == "TODO" else [])
        oracle.on("FROM user_tab_columns", [("ID",), ("WHAT",)])
        with pytest.raises(SchemaError, match="a table todo that batchacct did not make"):
            store.dialect.prepare(store.engine)
        (todo,) = (table for table in scratch_tables() if table.name == "todo")
        oracle.on("FROM user_tab_columns", [(name.upper(),) for name in todo.columns.keys()])  # noqa: SIM118 - columns, not a dict
        before = len(oracle.told())
        store.dialect.prepare(store.engine)
        assert not [text for text in oracle.told()[before:] if "TABLE todo" in text and not text.startswith("COMMENT")]

    def test_other_errors_are_told(self, store: Store, oracle: Oracle) -> None:
        oracle.on("CREATE TABLE", database_error("ORA-01031", "insufficient privileges"))
        with pytest.raises(StoreError, match=r"ORA-01031.*GRANT"), store.errors():
            store.dialect.prepare(store.engine)


class TestErrors:
    @pytest.mark.parametrize(
        ("code", "told", "advice"),
        [
            ("ORA-01017", "invalid username/password; logon denied", "Check the user name and password"),
            ("ORA-00942", "table or view does not exist", "Run `batchacct db create`"),
            ("ORA-01653", "unable to extend table ACCT.JOB by 128 in tablespace USERS", "Make room"),
            ("ORA-01536", "space quota exceeded for tablespace 'USERS'", "Make room"),
            ("ORA-30006", "resource busy; acquire with WAIT timeout expired", "Another process was in the way"),
            ("ORA-00060", "deadlock detected while waiting for resource", "Another process was in the way"),
        ],
    )
    def test_what_to_do_is_said_and_the_password_is_not(
        self, store: Store, oracle: Oracle, code: str, told: str, advice: str
    ) -> None:
        oracle.on("FROM setting", database_error(code, told))
        with pytest.raises(StoreError) as raised, store.reading() as connection:
            connection.execute(select(tables.setting))
        assert code in raised.value.message
        assert advice in raised.value.message
        assert "hunter2" not in raised.value.message

    def test_a_deadlock_is_told_from_other_errors(self, store: Store) -> None:
        assert store.dialect.is_deadlock(database_error("ORA-00060", "deadlock detected while waiting for resource"))
        assert not store.dialect.is_deadlock(database_error("ORA-30006", "resource busy; acquire with WAIT timeout expired"))
        assert not store.dialect.is_deadlock(ValueError("ORA-00060"))
        assert not store.dialect.is_deadlock(None)

    def test_a_server_that_is_not_there(self) -> None:
        """The driver's own words, this once."""
        url = f"oracle+oracledb://acct:hunter2@127.0.0.1:{free_port()}/?service_name=acct"
        with pytest.raises(StoreError, match="Is the server running") as told:
            Store(url).check()
        assert "hunter2" not in told.value.message

    def test_drivers_that_are_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ConfigError, match=r"use oracle\+oracledb:// or oracle\+cx_oracle://"):
            Store("oracle+other://u:p@h")
        monkeypatch.setitem(sys.modules, "cx_Oracle", None)
        with pytest.raises(ConfigError, match=r"pip install 'batchacct\[cx_oracle\]'"):
            Store("oracle+cx_oracle://u:p@h")
        monkeypatch.setitem(sys.modules, "oracledb", None)
        with pytest.raises(ConfigError, match=r"pip install 'batchacct\[oracle\]'"):
            Store("oracle://u:p@h")


def test_views_show_instants_to_people(store: Store, oracle: Oracle) -> None:
    def shown(connection: Connection) -> str:
        query = select(store.dialect.readable_instant(tables.job.c.end_at))
        return str(query.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True}))

    with store.reading() as connection:
        assert "to_char(DATE '1970-01-01' + numtodsinterval(job.end_at, 'SECOND')" in shown(connection)


def test_size_of_the_database(store: Store, oracle: Oracle) -> None:
    oracle.on("user_segments", [(1 << 40,)])
    assert store.size_bytes() == 1 << 40


def test_scratch_tables_keep_keys_and_lose_rows_at_the_end_of_the_transaction() -> None:
    for table in scratch_tables():
        (statement,) = scratch_ddl(table, OracleDialect("oracledb").engine(make_url(URL)).dialect)
        assert statement.startswith(f"CREATE GLOBAL TEMPORARY TABLE {table.name} (")
        assert statement.endswith("ON COMMIT DELETE ROWS")
        assert ("PRIMARY KEY" in statement) or ("UNIQUE" in statement)


def test_the_whole_schema_is_made_by_statements_of_oracle(store: Store, oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The migrations as they run where nothing is there; partitioning is ALTER TABLE of a kind that the parser does not know."""
    for asked in ("get_indexes", "get_columns", "get_unique_constraints"):
        monkeypatch.setattr(Inspector, asked, lambda *_, **__: [])
    monkeypatch.setattr(Inspector, "has_table", lambda *_, **__: False)
    views = migrating._views
    monkeypatch.setattr(migrating, "_views", lambda connection, dialect, _: views(connection, dialect, tables.RECORD_TABLES))
    assert store.create()
    made = [what[0] for _, call, what in oracle.calls if call == "execute"]
    made = [text for text in made if re.match(r"\s*(CREATE|ALTER TABLE|DROP|COMMENT|INSERT|UPDATE)", text)]
    others = 4  # turns, steps of a migration, Alembic's own, and `refusal`, which a later migration drops
    assert sum(text.strip().startswith("CREATE TABLE") for text in made) == len(tables.metadata.tables) + others
    assert sum("CREATE OR REPLACE VIEW" in text for text in made) == len(tables.RECORD_TABLES) - 1
    assert [text for text in made if "PARTITION BY RANGE" in text]
    for text in made:
        found = [problem for problem in of_text(text) if "ALTER TABLE" not in text]
        assert not found, f"{found}: {text}"
