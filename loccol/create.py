"""`create` of 2012: makes the tables. Run it as `python -m loccol.create`.

Without a template it makes the whole schema, as `batchacct db create` does. The templates `loc` and `ce` are the tables `job`
and `identity`: under their own names they are a part of the schema, which is made whole; under another (`--name`) they are
copies for a site's own purposes, of all columns or the first N (`--slice`), and with monthly partitions (`--partition`), which
`partition --table` adds to.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Column, Index, MetaData, Table, UniqueConstraint, inspect, make_url
from sqlalchemy.engine import Dialect as SqlDialect
from sqlalchemy.exc import ArgumentError
from sqlalchemy.schema import CreateIndex, CreateTable

from batchacct.errors import ConfigError
from batchacct.model import RECORD_TYPES
from batchacct.scripts import absolute_url, run, start_logging
from batchacct.store import Store, tables
from batchacct.store.dialects import Dialect, dialect_of
from batchacct.store.dialects.choice import statements_of
from batchacct.store.months import Month

TEMPLATES = {"loc": tables.job, "ce": tables.identity}
WITH_TABLESPACES = {"postgresql", "oracle"}
MOST_DIGITS = 11
"""Of a Unix time: a number of more is none."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
"""Short enough that the names of a table's indices fit into every database."""


def parser() -> argparse.ArgumentParser:
    """The options of 2012."""
    made = argparse.ArgumentParser("create", description="Create the tables: all of them, or a copy of one.")
    add = made.add_argument
    add("-c", "--connfile", type=Path, required=True, help="connection file")
    add("-l", "--listtabs", action="store_true", help="list the tables there are")
    add("-t", "--template", choices=sorted(TEMPLATES), help="loc: the table of jobs; ce: that of identities; default: all tables")
    add("-n", "--name", help="name of the table (default: the template's own)")
    add("-s", "--slice", type=int, metavar="N", help="only the first N columns")
    what = made.add_mutually_exclusive_group()
    what.add_argument("-i", "--onlyindices", action="store_true", help="only the indices, of a table that is there")
    what.add_argument("-j", "--noindices", action="store_true", help="the table without indices")
    add("-d", "--dryrun", action="store_true", help="only print the SQL")
    add("-u", "--tablespace", help="tablespace for the indices (PostgreSQL, Oracle)")
    add(
        "-p", "--partition", metavar="COLUMN,UNIXTIME", help="partitions by month; UNIXTIME is the first second after the first one"
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit status."""
    options = parser().parse_args(arguments)
    return run(lambda: _create(options))


def _create(options: argparse.Namespace) -> None:
    start_logging("create", level=30)
    url = absolute_url(options.connfile)
    made = Making(options, _dialect(url), dialect_of(make_url(url)))
    made.check()
    wanted = _wanted(options)
    if options.dryrun:
        for statement in (s for table in wanted for s in made.statements(table)):
            _say(f"{statement};")
        return
    store = Store(url)
    try:
        if options.listtabs:
            _list(store)
        elif options.onlyindices:
            _make_indices(store, wanted[0], made)
        elif options.template and options.name not in {None, TEMPLATES[options.template].name}:
            store.dialect.prepare(store.engine)
            _make_copy(store, wanted[0], made)
        else:
            _say("created" if store.create() else "was there already, in this program's version")
    finally:
        store.close()


@dataclass(frozen=True, slots=True)
class Making:
    """What is to be made, how SQLAlchemy writes the SQL of the database, and what else the database is asked for."""

    options: argparse.Namespace
    sql: SqlDialect
    database: Dialect

    def check(self) -> None:
        """Raises: ConfigError for options that do not go together, or that the database has no notion of."""
        options, kind = self.options, self.database.name
        if options.partition is not None and self.database.partitions is None:
            raise ConfigError(f"--partition: {kind} has no partitions; leave it out")
        if options.tablespace and kind not in WITH_TABLESPACES:
            raise ConfigError(f"--tablespace is for PostgreSQL and Oracle, and the connection file names a database of {kind}")
        if options.tablespace and not _NAME.fullmatch(options.tablespace):
            raise ConfigError(f"--tablespace {options.tablespace}: letters, digits and _ (40 at most)")
        names = ("name", "slice", "onlyindices", "noindices", "tablespace", "partition")
        given = [f"--{name}" for name in names if getattr(options, name)]
        if given and not options.template:
            raise ConfigError(f"{', '.join(given)}: say of which table, with --template loc or ce")
        if not options.template:
            return
        template = TEMPLATES[options.template]
        name = options.name or template.name
        if not _NAME.fullmatch(name) or (name in tables.metadata.tables and name != template.name):
            raise ConfigError(f"--name {name}: letters, digits and _ (40 at most), and no table of the schema but {template.name}")
        if options.slice is not None and not 1 <= options.slice <= len(template.columns):
            raise ConfigError(f"--slice {options.slice}: table {template.name} has columns 1 to {len(template.columns)}")
        if options.partition is not None:
            self._first_month(template.columns.keys()[: options.slice])
        own_table = name == template.name and not (options.dryrun or options.onlyindices)
        if own_table and (other := [option for option in given if option != "--name"]):
            raise ConfigError(f"{', '.join(other)}: table {name} is a part of the schema and made whole; give the copy a --name")

    def _first_month(self, kept: Sequence[str]) -> tuple[str, Month]:
        """The column to partition by, and the month of the first partition.  Raises: ConfigError."""
        asked, template = self.options.partition, TEMPLATES[self.options.template]
        name, _, time = asked.partition(",")
        by = RECORD_TYPES[template.name].time_column
        if name != by or by not in kept:
            raise ConfigError(
                f"--partition {asked}: {template.name} has partitions by {by}, which is in its keys; keep that column"
            )
        if not (time.isascii() and time.isdigit() and len(time) <= MOST_DIGITS):
            raise ConfigError(f"--partition {asked}: a comma and a Unix time follow the column, such as {by},1335830400")
        month = Month.at(max(int(time) - 1, 0))
        if month.end != int(time):
            raise ConfigError(f"--partition {asked}: a partition ends with its month; {month} ends before {month.end} (UTC)")
        return name, month

    def statements(self, table: Table) -> Iterator[str]:
        """The SQL that makes a table, its indices and its partitions."""
        options, partitions = self.options, self.database.partitions
        suffix, following = "", list[str]()
        if partitions is not None and options.partition is not None:
            column, month = self._first_month(table.columns.keys())
            suffix, following = partitions.clause(table.name, column, [month])
        elif partitions is not None and table.name in tables.RECORD_TABLES:
            suffix, following = partitions.clause(table.name, RECORD_TYPES[table.name].time_column, [])
        if not options.onlyindices:
            yield f"{str(CreateTable(table).compile(dialect=self.sql)).strip()} {suffix}".strip()
        if not options.noindices:
            yield from (self.index(index) for index in sorted(table.indexes, key=lambda one: str(one.name)))
        if not options.onlyindices:
            yield from following

    def index(self, index: Index) -> str:
        """The SQL that makes an index; those of copies have no condition, before which a tablespace would have to be named."""
        statement = str(CreateIndex(index).compile(dialect=self.sql)).strip()
        return f"{statement} TABLESPACE {self.options.tablespace}" if self.options.tablespace else statement


def _list(store: Store) -> None:
    """The tables there are; partitions are a part of theirs."""
    with store.reading() as connection:
        hidden = set() if store.dialect.partitions is None else store.dialect.partitions.hidden_tables(connection)
        for name in sorted(set(inspect(connection).get_table_names()) - hidden):
            _say(name)


def _dialect(url: str) -> SqlDialect:
    """As the store has it set up; Oracle's without its driver, as far as SQL goes."""
    try:
        parsed = make_url(url)
        return statements_of(parsed) if parsed.get_backend_name() == "oracle" else Store(url).engine.dialect
    except (ArgumentError, ImportError) as error:
        raise ConfigError(f"the connection file names a kind of database that is not known: {error}") from error


def _wanted(options: argparse.Namespace) -> list[Table]:
    if not options.template:
        return list(tables.metadata.sorted_tables)
    template = TEMPLATES[options.template]
    return [copy_of(template, options.name or template.name, options.slice, keyed_by_time=options.partition is not None)]


def copy_of(template: Table, name: str, columns: int | None = None, *, keyed_by_time: bool = False) -> Table:
    """The template's first columns (all: None) under another name, with the key and the indices whose columns are there."""
    kept = list(template.columns)[:columns]
    copy = Table(name, MetaData(), *(_copied(column, keyed_by_time=keyed_by_time) for column in kept))
    for constraint in template.constraints:
        if isinstance(constraint, UniqueConstraint) and set(constraint.columns.keys()) <= set(copy.columns.keys()):
            copy.append_constraint(UniqueConstraint(*constraint.columns.keys(), name=f"{name}_key"))
    for index in sorted(template.indexes, key=lambda index: str(index.name)):
        names = [column.name for column in index.columns]
        if set(names) <= set(copy.columns.keys()):
            own_name = str(index.name).replace(template.name, name, 1)
            Index(own_name, *(copy.columns[n] for n in names))
    return copy


def _copied(column: Column[object], *, keyed_by_time: bool) -> Column[object]:
    """Keys of partitioned tables hold the time, those of others the id alone."""
    is_key = column.primary_key and (keyed_by_time or column.name == "id")
    return Column(
        column.name, column.type, primary_key=is_key, autoincrement=False if is_key else "auto",
        nullable=column.nullable, server_default=column.server_default,
    )  # fmt: skip


def _make_copy(store: Store, table: Table, made: Making) -> None:
    with store.writing() as connection:
        if inspect(connection).has_table(table.name):
            raise ConfigError(f"there is a table {table.name} already: give another --name, or drop it")
        for statement in made.statements(table):
            connection.exec_driver_sql(statement)
    _say(f"created {table.name}")


def _make_indices(store: Store, table: Table, made: Making) -> None:
    with store.writing() as connection:
        if not inspect(connection).has_table(table.name):
            raise ConfigError(f"there is no table {table.name}: run create without --onlyindices first")
        there = {index["name"] for index in inspect(connection).get_indexes(table.name)}
        columns = {column["name"] for column in inspect(connection).get_columns(table.name)}
        usable = [index for index in table.indexes if set(index.columns.keys()) <= columns]
        missing = sorted((index for index in usable if index.name not in there), key=lambda index: str(index.name))
        for index in missing:
            connection.exec_driver_sql(made.index(index))
    _say(f"created {', '.join(str(index.name) for index in missing)}" if missing else "every index was there already")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
