"""The whole schema as Oracle gets it, and the judge of statements itself: what it must find, it finds.

Every statement that any test has batchacct execute is judged as well (`tests.fix_oracle`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import (
    Boolean,
    ClauseElement,
    case,
    column,
    distinct,
    exists,
    func,
    literal,
    literal_column,
    select,
    text,
    true,
    union,
    union_all,
)
from sqlalchemy.schema import CreateIndex, CreateTable

from batchacct.store import tables
from batchacct.store.dialects.oracle_sql import scratch_ddl
from batchacct.store.plans import Explained
from batchacct.store.scratch import scratch_tables
from tests.oracle.portable import DIALECTS, of_text, problems
from tests.scripts_2012 import Site

if TYPE_CHECKING:
    from pathlib import Path

MOST_KEY_BYTES = 6398
"""Of an index in a database with blocks of 8 KiB (ORA-01450)."""

j, r, u = tables.job.c, tables.reject.c, tables.usage.c


def test_every_table_and_index_is_oracles() -> None:
    for table in tables.metadata.sorted_tables:
        assert problems(CreateTable(table)) == []
        for index in table.indexes:
            assert problems(CreateIndex(index)) == []
    for table in scratch_tables():
        for statement in (made for dialect in DIALECTS for made in scratch_ddl(table, dialect)):
            assert of_text(statement) == []


@pytest.mark.parametrize(
    "more", [(), ("-t", "loc", "-n", "mine", "-p", "logged_at,1335830400"), ("-t", "ce", "-n", "few", "-s", "8")]
)
def test_create_of_2012_prints_statements_of_oracle(tmp_path: Path, more: tuple[str, ...]) -> None:
    """Without a server, and without asking for one."""
    site = Site(tmp_path, "oracle+oracledb://acct:hunter2@nowhere.invalid/?service_name=acct")
    printed = site.done("loccol.create", "-c", "conn", "-d", *more).out
    assert printed.count("CREATE TABLE") == (1 if more else len(tables.metadata.tables))
    for statement in printed.rstrip(";\n").split(";\n"):
        assert of_text(statement) == [], statement
    assert "hunter2" not in printed


def test_types_hold_what_they_are_to_hold() -> None:
    said = "".join(str(CreateTable(table).compile(dialect=DIALECTS[0])) for table in tables.metadata.sorted_tables)
    kinds = {
        word.rstrip(",").partition("(")[0] for line in said.splitlines() if line.startswith("\t") for word in line.split()[1:2]
    }
    kinds -= {"KEY", "UNIQUE"}
    assert {"BLOB", "CLOB", "BINARY_DOUBLE", "NUMBER", "VARCHAR2"} <= kinds
    keys = {f"{name}_key" for name in (*tables.RECORD_TABLES, "vo_mapping")}
    assert kinds <= {"BLOB", "CLOB", "BINARY_DOUBLE", "NUMBER", "VARCHAR2", "INTEGER", "SMALLINT"} | keys, kinds


def test_no_key_is_too_wide_and_none_has_a_long_value() -> None:
    for table in tables.metadata.sorted_tables:
        keys = [table.primary_key.columns, *(i.columns for i in table.indexes)]
        keys += [c.columns for c in table.constraints if c is not table.primary_key and hasattr(c, "columns")]
        for key in keys:
            sizes = [4 * getattr(c.type, "longest", 6) if c.type.python_type is str else 22 for c in key]
            assert all(hasattr(c.type, "longest") for c in key if c.type.python_type is str), (table.name, [c.name for c in key])
            assert sum(sizes) <= MOST_KEY_BYTES, (table.name, [c.name for c in key], sizes)


def test_keys_that_the_database_counts_up_are_identity_columns() -> None:
    counted = {t.name for t in tables.metadata.sorted_tables if t.autoincrement_column is not None}
    assert "load" in counted
    for table in tables.metadata.sorted_tables:
        said = str(CreateTable(table).compile(dialect=DIALECTS[0]))
        assert ("IDENTITY (ORDER) NOT NULL" in said) == (table.name in counted)


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (select(j.id).where(j.command > "x"), "job.command is a CLOB or BLOB in gt"),
        (select(j.id).where(j.command.in_(["x"])), "in in_op"),
        (select(j.id).where(j.command.is_distinct_from("x")), "in is_distinct_from"),
        (select(j.id).order_by(j.id, j.command.desc()), "in ORDER BY"),
        (select(j.command, func.count()).group_by(j.command), "in GROUP BY"),
        (select(j.command).distinct(), "in SELECT DISTINCT"),
        (select(func.count(distinct(j.command))), "in DISTINCT"),
        (select(func.max(j.command)), "in max"),
        (select(func.coalesce(j.command, j.queue)), "in COALESCE"),
        (select(func.coalesce(j.command, "")), "in COALESCE"),
        (select(case((j.id == 1, j.command), else_=j.queue)), "in CASE"),
        (select(case({"a": 1}, value=j.command, else_=2)), "in CASE ... WHEN"),
        (select(func.rank().over(partition_by=j.command, order_by=j.id)), "in PARTITION BY"),
        (select(func.rank().over(partition_by=j.id, order_by=j.native)), "of a window"),
        (union(select(j.command), select(j.command)), "in UNION"),
        (union_all(select(j.command), select(j.command)).order_by(column("command", j.command.type)), "in ORDER BY"),
        (select(exists().where(j.id == 1)), "a condition is selected"),
        (select(j.queue.is_(None)), "a condition is selected"),
        (select((j.id == 1).label("one")), "a condition is selected"),
        (select(func.count()).select_from(tables.job).group_by(literal_column("1")), "GROUP BY a number"),
        (select(j.id).limit(1).with_for_update(), "FOR UPDATE with FETCH FIRST"),
        (select(j.id).distinct().with_for_update(), "FOR UPDATE with FETCH FIRST"),
        (select(j.id).where(literal_column("queue = ''", Boolean)), "the empty text is null"),
        (select(j.id).where(literal_column("TRUE", Boolean)), "TRUE or FALSE"),
        (select(literal_column("x").label("b" * 129)), "more than 128 bytes"),
        (text("SELECT id FROM job LIMIT 1"), "LIMIT"),
        (text("SELECT size FROM job"), "size is a reserved word"),
        (text("SELECT 1"), "SELECT without FROM"),
        (text("SELECT FROM WHERE"), "no Oracle statement"),
        (text("VACUUM job"), "no Oracle statement|no statement of Oracle"),
    ],
)
def test_the_judge_finds(statement: ClauseElement, told: str) -> None:
    found = problems(statement)
    assert any(part in problem for problem in found for part in told.split("|")), found


@pytest.mark.parametrize(
    "statement",
    [
        select(j.id).where(j.command == "x", r.unit != b"x", j.queue == func.coalesce(j.project, "")),
        select(j.command, j.native).where(j.command.is_(None)).order_by(j.id),
        union_all(select(j.command), select(j.command)),
        select(func.coalesce(j.command, j.exec_hosts), func.coalesce(j.queue, "")),
        select(case((true(), j.command)), case((j.id == 1, 1), else_=0)),
        select(j.id).where(j.id.in_(select(u.job_id).order_by(u.job_id).limit(1).scalar_subquery())).with_for_update(),
        select(func.length(j.native), j.queue + "/" + j.project, literal("x") + j.command).where(j.command.contains("x")),
    ],
)
def test_the_judge_has_nothing_against(statement: ClauseElement) -> None:
    assert problems(statement) == []


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.driver)
class TestMeaning:
    """What means something else in Oracle, and how it is said there."""

    def said(self, dialect: object, statement: ClauseElement) -> str:
        return " ".join(str(statement.compile(dialect=dialect)).split())  # type: ignore[arg-type]

    def test_null_and_another_text_is_null(self, dialect: object) -> None:
        one = "CASE WHEN job.queue IS NOT NULL AND job.project IS NOT NULL THEN job.queue || :queue_1 || job.project END"
        assert one in self.said(dialect, select((j.queue + "/" + j.project).label("x")))
        assert one in self.said(dialect, select((j.queue + (literal("/") + j.project)).label("x"))).replace("param_1", "queue_1")

    def test_long_values_are_compared_by_a_function(self, dialect: object) -> None:
        said = self.said(dialect, select(j.id).where(j.command == "x", r.unit != b"x"))
        assert "DBMS_LOB.COMPARE(job.command, :command_1) = 0" in said
        assert "DBMS_LOB.COMPARE(reject.unit, :unit_1) != 0" in said
        assert "DBMS_LOB.GETLENGTH(job.native)" in self.said(dialect, select(func.length(j.native)))
        assert "LENGTH(job.queue)" in self.said(dialect, select(func.length(j.queue)))

    def test_division_rounds_down(self, dialect: object) -> None:
        assert "FLOOR(job.end_at / :end_at_1)" in self.said(dialect, select(j.end_at // 86_400))

    def test_the_empty_text_is_not_null(self, dialect: object) -> None:
        compiled = select(func.coalesce(j.queue, "")).compile(dialect=dialect, compile_kwargs={"literal_binds": True})  # type: ignore[arg-type]
        assert "coalesce(job.queue, CHR(0))" in str(compiled)

    def test_a_plan_is_asked_for_without_bound_values(self, dialect: object) -> None:
        planned = Explained(select(j.id).where(j.queue.in_(["x"]), j.end_at > 5))
        assert problems(planned) == []
        assert self.said(dialect, planned) == "EXPLAIN PLAN FOR SELECT job.id FROM job WHERE job.queue IN ('x') AND job.end_at > 5"

    def test_types_of_values(self, dialect: object) -> None:
        assert "BINARY_DOUBLE" in self.said(dialect, CreateTable(tables.benchmark))
