"""A double of python-oracledb's connections, for what of it is used: it notes every call, and answers as its documentation says.

Errors are the driver's own objects: ORA-00001 is an IntegrityError whose argument has `full_code` (python-oracledb documentation,
"Error Handling in python-oracledb"). Data frames are the driver's own, too.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import oracledb
import pyarrow as pa
from oracledb.errors import _Error

Answer = list[tuple[Any, ...]] | Exception | Callable[[dict[str, Any]], list[tuple[Any, ...]]]

_OF_SQLALCHEMY = (
    (r"SELECT 1\.1 FROM DUAL", [("1.1",)]),
    (r"(?i)sys_context", [("ACCT",)]),
    (r"(?i)dbms_transaction", oracledb.DatabaseError("not asked here")),
)
"""What SQLAlchemy asks at the first connection."""


def database_error(code: str, told: str = "told by the database") -> oracledb.Error:
    """As the driver raises it."""
    kinds = {"ORA-00001": oracledb.IntegrityError, "ORA-01400": oracledb.IntegrityError}
    kind: type[oracledb.Error] = kinds.get(code, oracledb.DatabaseError)
    return kind(_Error(f"{code}: {told}"))


@dataclass
class Oracle:
    """The server: answers by pattern, the last one given first; `calls` are (session, call, arguments) in order."""

    answers: list[tuple[str, Answer]] = field(default_factory=lambda: list(_OF_SQLALCHEMY))
    calls: list[tuple[int, str, Any]] = field(default_factory=list)
    sessions: int = 0
    frame: pa.Table | None = None

    def connect(self, **_: object) -> Session:
        self.sessions += 1
        return Session(self, self.sessions)

    def on(self, pattern: str, answer: Answer) -> None:
        self.answers.insert(0, (pattern, answer))

    def answer(self, statement: str, binds: Any) -> list[tuple[Any, ...]]:
        for pattern, answer in self.answers:
            if re.search(pattern, statement):
                if isinstance(answer, Exception):
                    raise answer
                return answer(binds) if callable(answer) else answer
        return []

    def told(self, session: int | None = None) -> list[str]:
        """Every statement and call, without SQLAlchemy's questions, in order."""
        mine = [(call, what) for number, call, what in self.calls if session in {None, number}]
        texts = [what[0] if call in {"execute", "executemany", "fetch_df_all"} else call for call, what in mine]
        quiet = ("SELECT 1.1", "ALTER SESSION", "setinputsizes", "ping")
        ours = [text for text in texts if not text.startswith(quiet) and not re.search("(?i)sys_context|dbms_trans", text)]
        idle = ("commit", "rollback")  # the pool rolls back whatever comes back to it
        return [text for before, text in itertools.pairwise(["", *ours]) if not (text == "rollback" and before in idle)]


class Session:
    """A connection."""

    version = "19.3.0.0.0"
    max_identifier_length = 128
    thin = True

    def __init__(self, server: Oracle, number: int) -> None:
        self.server, self.number = server, number
        self.autocommit = False
        self.outputtypehandler: object = None

    def note(self, call: str, arguments: Any = None) -> None:
        self.server.calls.append((self.number, call, arguments))

    def cursor(self) -> Cursor:
        return Cursor(self)

    def commit(self) -> None:
        self.note("commit")

    def rollback(self) -> None:
        self.note("rollback")

    def close(self) -> None:
        self.note("close")

    def ping(self) -> None:
        self.note("ping")

    def fetch_df_all(self, statement: str, parameters: Any, arraysize: int, *, requested_schema: Any) -> Any:
        self.note("fetch_df_all", (statement, parameters, arraysize, requested_schema))
        self.server.answer(statement, parameters)
        assert self.server.frame is not None
        return oracledb.from_arrow(self.server.frame)


class Cursor:
    def __init__(self, session: Session) -> None:
        self.session = session
        self.rows: list[tuple[Any, ...]] = []
        self.description: list[tuple[Any, ...]] | None = None
        self.rowcount = 0
        self.arraysize = 100
        self.outputtypehandler: object = None

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def execute(self, statement: str, parameters: Any = None, **named: Any) -> Cursor | None:
        binds = parameters or named
        self.session.note("execute", (statement, binds))
        self.rows = list(self.session.server.answer(statement, binds))
        reads = statement.lstrip().upper().startswith(("SELECT", "WITH"))
        self.rowcount = len(self.rows) if reads else 1
        width = len(self.rows[0]) if self.rows else 1
        self.description = (
            [(f"C{n}", oracledb.DB_TYPE_VARCHAR, None, None, None, None, True) for n in range(width)] if reads else None
        )
        return self if reads else None

    def executemany(self, statement: str, parameters: Any, **options: Any) -> None:
        self.session.note("executemany", (statement, parameters, options))
        self.session.server.answer(statement, parameters)

    def setinputsizes(self, *args: Any, **kwargs: Any) -> None:
        self.session.note("setinputsizes", (args, kwargs))

    def var(self, kind: object, *_: Any, **__: Any) -> Var:
        return Var(kind)

    def fetchone(self) -> tuple[Any, ...] | None:
        return self.rows.pop(0) if self.rows else None

    def fetchall(self) -> list[tuple[Any, ...]]:
        rows, self.rows = self.rows, []
        return rows

    def fetchmany(self, size: int = 100) -> list[tuple[Any, ...]]:
        rows, self.rows = self.rows[:size], self.rows[size:]
        return rows

    def close(self) -> None:
        self.description = None


@dataclass
class Var:
    """A bind variable of RETURNING ... INTO: its values are lists, one for each row."""

    kind: object
    values: list[list[Any]] = field(default_factory=lambda: [[]])

    def getvalue(self, _position: int = 0) -> Any:
        return self.values[0]
