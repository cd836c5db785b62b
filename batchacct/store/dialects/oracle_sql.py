"""What SQLAlchemy's Oracle dialects are told of batchacct's statements, so that they mean the same as on the other databases.

- The empty text is null to Oracle. It is kept as one NUL, which no text of ours can hold (see `store.append`), wherever a text is
  bound or read: in rows, in comparisons, in `coalesce(column, "")`.
- `a || b` is b where a is null. It is null here, as everywhere else.
- CLOB and BLOB cannot be compared by `=`: `DBMS_LOB.COMPARE` does it. They cannot be grouped, ordered or joined by at all, so a
  column of which that is asked is a `SHORT_TEXT` (a test goes through every statement).
- A temporary table made in a transaction would commit it. Those of ours are there since the schema was made (`scratch_ddl`), as
  global temporary tables, empty in each transaction: "making" one empties it, and dropping it does nothing.
- Numbers that a database counts up are identity columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Column, Index, MetaData, Table, UniqueConstraint, types
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.oracle import cx_oracle, oracledb
from sqlalchemy.dialects.oracle.base import OracleDDLCompiler, OracleTypeCompiler
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, ColumnClause, ColumnElement, Grouping

EMPTY = "\0"
"""What stands for the empty text."""

EMPTY_BYTES = b"\0batchacct: no bytes\0"
"""What stands for no bytes in a column that must not be null: an empty value is null to Oracle."""

_NOTHING = "BEGIN NULL; END;"


def stored_text(value: str | None) -> str | None:
    """A text as Oracle keeps it."""
    return EMPTY if value == "" else value


def text_read(value: str | None) -> str | None:
    """A text out of Oracle."""
    return "" if value == EMPTY else value


class _EmptyTexts(types.TypeEngine[str]):
    """A type of text whose empty value is kept apart from null."""

    def bind_processor(self, dialect: Dialect) -> Callable[[str | None], str | None]:
        return stored_text

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[str | None], str | None]:
        return text_read

    def literal_processor(self, dialect: Dialect) -> Callable[[str], str]:
        return lambda value: "CHR(0)" if not value else "'" + value.replace("'", "''") + "'"

    def get_dbapi_type(self, dbapi: Any) -> object:
        """A Python text is bound as what it is, long ones into a CLOB as well."""
        return dbapi.STRING


class _Varchar(_EmptyTexts, cx_oracle._OracleString):  # noqa: SLF001 - what the drivers' own types add is wanted
    pass


class Clob(_EmptyTexts, cx_oracle._OracleText):  # noqa: SLF001
    pass


class Blob(cx_oracle._OracleBinary):  # noqa: SLF001
    def bind_processor(self, dialect: Dialect) -> Callable[[bytes | None], bytes | None]:
        return lambda value: EMPTY_BYTES if value == b"" else value

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[bytes | None], bytes | None]:
        return lambda value: value if value is None else b"" if bytes(value) == EMPTY_BYTES else bytes(value)


class _Double(cx_oracle._OracleFloat):  # noqa: SLF001
    def get_dbapi_type(self, dbapi: Any) -> object:
        return dbapi.NATIVE_FLOAT


def is_lob(of: types.TypeEngine[Any], dialect: Dialect) -> bool:
    """Whether a type is a CLOB or BLOB in Oracle."""
    implemented = of.dialect_impl(dialect)
    if isinstance(implemented, types.TypeDecorator):
        implemented = implemented.impl_instance.dialect_impl(dialect)
    return isinstance(implemented, Clob | Blob)


class _Types(OracleTypeCompiler):
    def visit_float(self, type_: object, **_: Any) -> str:
        return "BINARY_DOUBLE"

    def visit_string(self, type_: types.String, **kw: Any) -> str:
        return f"VARCHAR2({type_.length or 4000} CHAR)"

    visit_VARCHAR = visit_string  # noqa: N815 - SQLAlchemy's name


class _Statements(cx_oracle.OracleCompiler_cx_oracle):
    def visit_true(self, expr: object, **_: Any) -> str:
        return "1 = 1"

    def visit_false(self, expr: object, **_: Any) -> str:
        return "1 = 0"

    def visit_eq_binary(self, binary: BinaryExpression[Any], operator: Any, **kw: Any) -> str:
        return self._compared(binary, "=", **kw)

    def visit_ne_binary(self, binary: BinaryExpression[Any], operator: Any, **kw: Any) -> str:
        return self._compared(binary, "!=", **kw)

    def _compared(self, binary: BinaryExpression[Any], sign: str, **kw: Any) -> str:
        left, right = self.process(binary.left, **kw), self.process(binary.right, **kw)
        if any(is_lob(side.type, self.dialect) for side in (binary.left, binary.right)):
            return f"DBMS_LOB.COMPARE({left}, {right}) {sign} 0"
        return f"{left} {sign} {right}"

    def visit_concat_op_binary(self, binary: BinaryExpression[Any], operator: Any, **kw: Any) -> str:
        return self._joined([binary.left, binary.right], **kw)

    def visit_concat_op_expression_clauselist(self, clauses: Any, operator: Any, **kw: Any) -> str:
        return self._joined(list(clauses.clauses), **kw)

    def _joined(self, parts: Iterable[ColumnElement[Any]], **kw: Any) -> str:
        """Texts one after the other, null if one of them is."""
        flat = [piece for part in parts for piece in _pieces(part)]
        shown = [self.process(piece, **kw) for piece in flat]
        unsure = [text for piece, text in zip(flat, shown, strict=True) if _may_be_null(piece)]
        joined = " || ".join(shown)
        if not unsure:
            return joined
        return f"CASE WHEN {' AND '.join(f'{text} IS NOT NULL' for text in dict.fromkeys(unsure))} THEN {joined} END"

    def visit_length_func(self, function: Any, **kw: Any) -> str:
        (argument,) = function.clauses
        name = "DBMS_LOB.GETLENGTH" if is_lob(argument.type, self.dialect) else "LENGTH"
        return f"{name}({self.process(argument, **kw)})"


def _pieces(part: Any) -> list[ColumnElement[Any]]:
    """What a chain of concatenations is of."""
    if isinstance(part, Grouping):
        return _pieces(part.element) if _is_concatenation(part.element) else [part]
    if not _is_concatenation(part):
        return [part]
    sides = [part.left, part.right] if isinstance(part, BinaryExpression) else part.clauses
    return [piece for side in sides for piece in _pieces(side)]


def _is_concatenation(part: object) -> bool:
    return getattr(part, "operator", None) is operators.concat_op


def _may_be_null(part: ColumnElement[Any]) -> bool:
    if isinstance(part, BindParameter):
        return part.value is None
    return not (isinstance(part, ColumnClause) and part.is_literal)


class _Definitions(OracleDDLCompiler):
    def visit_create_table(self, create: CreateTable, **kw: Any) -> str:
        if _is_scratch(create.element):
            return f"DELETE FROM {self.preparer.format_table(create.element)}"  # noqa: S608 - a name
        return self._theirs("create_table", create, **kw)

    def visit_create_index(self, create: Any, *_: Any, **kw: Any) -> str:
        return _NOTHING if _is_scratch(create.element.table) else self._theirs("create_index", create, **kw)

    def visit_drop_table(self, drop: Any, **kw: Any) -> str:
        return _NOTHING if _is_scratch(drop.element) else self._theirs("drop_table", drop, **kw)

    def _theirs(self, what: str, element: object, **kw: Any) -> str:
        """What SQLAlchemy itself makes of it."""
        made: str = getattr(super(), f"visit_{what}")(element, **kw)
        return made

    def get_column_specification(self, column: Column[Any], **kw: Any) -> str:
        text: str = super().get_column_specification(column, **kw)
        if column.table is not None and column is column.table.autoincrement_column and column.identity is None:
            text = text.removesuffix(" NOT NULL") + " GENERATED BY DEFAULT AS IDENTITY (ORDER) NOT NULL"
        return text


def _is_scratch(table: Table) -> bool:
    return "TEMPORARY" in table._prefixes  # noqa: SLF001 - the way SQLAlchemy keeps it, and no other


def scratch_ddl(table: Table, dialect: Dialect) -> list[str]:
    """What makes a table of transactions: seen by all sessions, with rows for each of its own until it commits."""
    columns = [
        Column(c.name, c.type, primary_key=c.primary_key, nullable=c.nullable, server_default=c.server_default, autoincrement=False)
        for c in table.columns
    ]
    keys = [UniqueConstraint(*key.columns.keys()) for key in table.constraints if isinstance(key, UniqueConstraint)]
    made = Table(table.name, MetaData(), *columns, *keys, prefixes=["GLOBAL TEMPORARY"], oracle_on_commit="DELETE ROWS")
    for index in table.indexes:
        Index(index.name, *(made.c[column.name] for column in index.columns))
    statements: list[ExecutableDDLElement] = [CreateTable(made), *map(CreateIndex, made.indexes)]
    return [str(statement.compile(dialect=dialect)).strip() for statement in statements]


_COLSPECS = {types.Text: Clob, types.String: _Varchar, types.LargeBinary: Blob, types.Float: _Double}


class ThinDialect(oracledb.OracleDialect_oracledb):
    """python-oracledb."""

    supports_statement_cache = True
    supports_native_boolean = False
    statement_compiler = _Statements
    ddl_compiler = _Definitions
    type_compiler_cls = _Types
    colspecs = oracledb.OracleDialect_oracledb.colspecs | _COLSPECS


class CxDialect(cx_oracle.OracleDialect_cx_oracle):
    """cx_Oracle."""

    supports_statement_cache = True
    supports_native_boolean = False
    statement_compiler = _Statements
    ddl_compiler = _Definitions
    type_compiler_cls = _Types
    colspecs = cx_oracle.OracleDialect_cx_oracle.colspecs | _COLSPECS


DRIVERS: dict[str, type[ThinDialect] | type[CxDialect]] = {"oracledb": ThinDialect, "cx_oracle": CxDialect}
"""The driver a URL may name, and what it is spoken to by."""

for _driver, _class in DRIVERS.items():
    registry.register(f"oracle.batchacct_{_driver}", __name__, _class.__name__)
