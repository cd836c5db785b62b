"""The SQL of MariaDB and MySQL where it differs from what SQLAlchemy writes for them, or where that would not do."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BinaryExpression, Engine, Float, LargeBinary, Table, Text
from sqlalchemy.dialects.mysql.base import MySQLCompiler, MySQLDDLCompiler, MySQLTypeCompiler
from sqlalchemy.schema import DropTable
from sqlalchemy.sql.functions import Function


def adapt(engine: Engine) -> None:
    """Has this engine, and no other, write its statements with the compilers below."""
    dialect: Any = engine.dialect
    dialect.statement_compiler = _Statements
    dialect.ddl_compiler = _Definitions
    dialect.type_compiler_instance = dialect.type_compiler = _Types(dialect)  # the second name is the one Alembic looks for


def collation(*, is_mariadb: bool) -> str:
    """The one that compares texts byte by byte and does not take blanks at their end for nothing."""
    return "utf8mb4_nopad_bin" if is_mariadb else "utf8mb4_0900_bin"


class _Types(MySQLTypeCompiler):
    """Without limits: TEXT and BLOB end at 64 KiB here."""

    def visit_text(self, type_: Text, **_: Any) -> str:
        return "LONGTEXT"

    def visit_large_binary(self, type_: LargeBinary, **_: Any) -> str:
        return "LONGBLOB"

    def visit_float(self, type_: Float[Any], **_: Any) -> str:
        return "DOUBLE"


class _Definitions(MySQLDDLCompiler):
    """Every table says how it is stored and how its texts compare, whatever the server's and the database's defaults are."""

    def post_create_table(self, table: Table) -> str:
        compares = collation(is_mariadb=bool(getattr(self.dialect, "is_mariadb", False)))
        return f" ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE {compares}"

    def visit_drop_table(self, drop: DropTable, **keywords: Any) -> str:
        """A temporary one as such: to drop any other commits the transaction."""
        if "TEMPORARY" in drop.element._prefixes:  # noqa: SLF001
            return f"DROP TEMPORARY TABLE {self.preparer.format_table(drop.element)}"
        return str(super().visit_drop_table(drop, **keywords))  # type: ignore[no-untyped-call]


class _Statements(MySQLCompiler):
    def visit_length_func(self, function: Function[Any], **keywords: Any) -> str:
        """In characters: LENGTH counts bytes here."""
        return "char_length" + self.function_argspec(function, **keywords)

    def visit_rtrim_func(self, function: Function[Any], **keywords: Any) -> str:
        """With the characters to be trimmed, which RTRIM does not take."""
        text, *trimmed = (self.process(clause, **keywords) for clause in function.clauses)
        return f"TRIM(TRAILING {trimmed[0]} FROM {text})" if trimmed else f"rtrim({text})"

    def visit_floordiv_binary(self, binary: BinaryExpression[Any], operator: Any, **keywords: Any) -> str:
        """Of integers, without a detour over decimal fractions."""
        return f"({self.process(binary.left, **keywords)} DIV {self.process(binary.right, **keywords)})"

    def for_update_clause(self, select: Any, **keywords: Any) -> str:
        """A lock that is to be exclusive later is so from the beginning: two that shared it first would wait for each other."""
        wanted = select._for_update_arg  # noqa: SLF001
        if wanted.key_share:
            return " FOR UPDATE SKIP LOCKED" if wanted.skip_locked else " FOR UPDATE"
        return super().for_update_clause(select, **keywords)
