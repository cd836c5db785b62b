"""`create` of 2012: makes the tables. Run it as `python -m loccol.create`.

Without a template it makes the whole schema, as `batchacct db create` does. The templates `loc` and `ce` are the tables `job`
and `identity`: under their own names they are a part of the schema, which is made whole; under another (`--name`) they are
copies for a site's own purposes, of all columns or the first N (`--slice`).
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from sqlalchemy import Column, Index, MetaData, Table, UniqueConstraint, inspect, make_url
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import ArgumentError
from sqlalchemy.schema import CreateIndex, CreateTable

from batchacct.errors import ConfigError
from batchacct.scripts import absolute_url, run, start_logging
from batchacct.store import Store, tables
from batchacct.store.dialects.choice import statements_of

TEMPLATES = {"loc": tables.job, "ce": tables.identity}

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
    add("-u", "--tablespace", help="tablespace for the indices (PostgreSQL)")
    add("-p", "--partition", metavar="COLUMN,UNIXTIME", help="comes with a later release")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit status."""
    options = parser().parse_args(arguments)
    return run(lambda: _create(options))


def _create(options: argparse.Namespace) -> None:
    start_logging("create", level=30)
    url = absolute_url(options.connfile)
    dialect = _dialect(url)
    _check(options, dialect)
    wanted = _wanted(options)
    if options.dryrun:
        indices_only, without = options.onlyindices, options.noindices
        for statement in (s for table in wanted for s in _statements(table, indices_only, without)):
            _say(f"{str(statement.compile(dialect=dialect)).strip()};")
        return
    store = Store(url)
    try:
        if options.listtabs:
            with store.reading() as connection:
                for name in sorted(inspect(connection).get_table_names()):
                    _say(name)
        elif options.onlyindices:
            _make_indices(store, wanted[0])
        elif options.template and options.name not in {None, TEMPLATES[options.template].name}:
            store.dialect.prepare(store.engine)
            _make_copy(store, wanted[0], with_indices=not options.noindices)
        else:
            _say("created" if store.create() else "was there already, in this program's version")
    finally:
        store.close()


def _check(options: argparse.Namespace, dialect: Dialect) -> None:
    """Raises: ConfigError for options that do not go together or that this release does not have."""
    if options.partition is not None:
        raise ConfigError("--partition: partitions come with a later release; leave it out")
    if options.tablespace and dialect.name != "postgresql":
        raise ConfigError(f"--tablespace is for PostgreSQL, and the connection file names a database of {dialect.name}")
    given = [f"--{name}" for name in ("name", "slice", "onlyindices", "noindices", "tablespace") if getattr(options, name)]
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
    own_table = name == template.name and not (options.dryrun or options.onlyindices)
    if own_table and (other := [option for option in given if option != "--name"]):
        raise ConfigError(f"{', '.join(other)}: table {name} is a part of the schema and made whole; give the copy a --name")


def _dialect(url: str) -> Dialect:
    try:
        return statements_of(make_url(url))
    except (ArgumentError, ImportError) as error:
        raise ConfigError(f"the connection file names a kind of database that is not known: {error}") from error


def _wanted(options: argparse.Namespace) -> list[Table]:
    if not options.template:
        return list(tables.metadata.sorted_tables)
    template = TEMPLATES[options.template]
    return [copy_of(template, options.name or template.name, options.slice, options.tablespace)]


def copy_of(template: Table, name: str, columns: int | None = None, tablespace: str | None = None) -> Table:
    """The template's first columns (all: None) under another name, with the key and the indices whose columns are there."""
    kept = list(template.columns)[:columns]
    copy = Table(name, MetaData(), *(_copied(column) for column in kept))
    for constraint in template.constraints:
        if isinstance(constraint, UniqueConstraint) and set(constraint.columns.keys()) <= set(copy.columns.keys()):
            copy.append_constraint(UniqueConstraint(*constraint.columns.keys(), name=f"{name}_key"))
    for index in sorted(template.indexes, key=lambda index: str(index.name)):
        names = [column.name for column in index.columns]
        if set(names) <= set(copy.columns.keys()):
            own_name = str(index.name).replace(template.name, name, 1)
            Index(own_name, *(copy.columns[n] for n in names), postgresql_tablespace=tablespace)
    return copy


def _copied(column: Column[object]) -> Column[object]:
    return Column(
        column.name, column.type, primary_key=column.primary_key, autoincrement=False if column.primary_key else "auto",
        nullable=column.nullable, server_default=column.server_default,
    )  # fmt: skip


def _statements(table: Table, indices_only: bool, without_indices: bool) -> Iterator[CreateTable | CreateIndex]:
    if not indices_only:
        yield CreateTable(table)
    if not without_indices:
        yield from (CreateIndex(index) for index in sorted(table.indexes, key=lambda index: str(index.name)))


def _make_copy(store: Store, table: Table, *, with_indices: bool) -> None:
    with store.writing() as connection:
        if inspect(connection).has_table(table.name):
            raise ConfigError(f"there is a table {table.name} already: give another --name, or drop it")
        for statement in _statements(table, indices_only=False, without_indices=not with_indices):
            connection.execute(statement)
    _say(f"created {table.name}")


def _make_indices(store: Store, table: Table) -> None:
    with store.writing() as connection:
        if not inspect(connection).has_table(table.name):
            raise ConfigError(f"there is no table {table.name}: run create without --onlyindices first")
        there = {index["name"] for index in inspect(connection).get_indexes(table.name)}
        columns = {column["name"] for column in inspect(connection).get_columns(table.name)}
        usable = [index for index in table.indexes if set(index.columns.keys()) <= columns]
        made = sorted((index for index in usable if index.name not in there), key=lambda index: str(index.name))
        for index in made:
            connection.execute(CreateIndex(index))
    _say(f"created {', '.join(str(index.name) for index in made)}" if made else "every index was there already")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
