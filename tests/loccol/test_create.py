"""create and partition of 2012."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import inspect, text

from batchacct.store import Store, partitions
from batchacct.store.months import Month
from batchacct.store.tables import identity, job, metadata
from tests.scripts_2012 import Site

if TYPE_CHECKING:
    from pathlib import Path

CREATE, PARTITION = "loccol.create", "loccol.partition"


@pytest.fixture
def site(tmp_path: Path, sqlite_url: str) -> Site:
    """A site with an SQLite database that is not made yet."""
    return Site(tmp_path, sqlite_url)


@pytest.fixture
def created(site: Site) -> Site:
    assert site.call(CREATE, "-c", "conn").status == 0
    return site


def test_create_lists_the_tables(created: Site) -> None:
    listed = created.done(CREATE, "--connfile", "conn", "--listtabs").out.split()
    assert listed == sorted({*metadata.tables, "alembic_version"})


@pytest.mark.parametrize("template", ["loc", "ce"])
def test_template_under_its_own_name_makes_the_whole_schema(site: Site, template: str) -> None:
    assert site.done(CREATE, "-c", "conn", "-t", template).out == "created\n"
    Store(site.url).check()
    assert site.done(CREATE, "-c", "conn", "--template", template, "-i").out == "every index was there already\n"


def test_copies_of_a_template(created: Site) -> None:
    assert created.done(CREATE, "-c", "conn", "-t", "loc", "--name", "mine").out == "created mine\n"
    created.done(CREATE, "-c", "conn", "-t", "ce", "-n", "few", "--slice", "8")
    created.done(CREATE, "-c", "conn", "-t", "ce", "-n", "bare", "--noindices")
    store = Store(created.url)
    there = inspect(store.engine)
    assert [column["name"] for column in there.get_columns("mine")] == job.columns.keys()
    assert [column["name"] for column in there.get_columns("few")] == identity.columns.keys()[:8]
    assert [index["name"] for index in there.get_indexes("mine")] == ["mine_join"]
    assert there.get_unique_constraints("mine")[0]["column_names"] == ["logged_at", "record_key", "revision"]
    assert [there.get_indexes("bare"), there.get_indexes("few")] == [[], []]
    assert created.done(CREATE, "-c", "conn", "-t", "ce", "-n", "bare", "--onlyindices").out == "created bare_join\n"
    assert created.done(CREATE, "-c", "conn", "-t", "ce", "-n", "few", "-i").out == "every index was there already\n"
    assert created.call(CREATE, "-c", "conn", "-t", "ce", "-n", "bare").status == 3
    assert created.call(CREATE, "-c", "conn", "-t", "ce", "-n", "none", "-i").status == 3
    store.close()


def test_dry_run_prints_the_sql_of_the_database_and_asks_it_nothing(site: Site) -> None:
    whole = site.done(CREATE, "-c", "conn", "--dryrun").out
    assert whole.count("CREATE TABLE") == len(metadata.tables)
    assert not (site.folder / "batchacct.db").exists()
    site.write("conn", "postgresql://u:p@nowhere.invalid/d\n").chmod(0o640)
    copy = site.done(CREATE, "-c", "conn", "-t", "loc", "-n", "mine", "-d", "--tablespace", "fast").out
    assert "native BYTEA" in copy
    assert "CREATE INDEX mine_join ON mine (join_id) TABLESPACE fast;" in copy
    assert "CREATE INDEX" not in site.done(CREATE, "-c", "conn", "-t", "loc", "-d", "-j").out
    assert "CREATE TABLE" not in site.done(CREATE, "-c", "conn", "-t", "loc", "-d", "-i").out


def test_copy_runs_as_printed_on_each_database(tmp_path: Path, store_url: str) -> None:
    site = Site(tmp_path, store_url)
    printed = site.done(CREATE, "-c", "conn", "-t", "loc", "-n", "mine", "-d").out
    store = Store(store_url)
    store.dialect.prepare(store.engine)
    with store.writing() as connection:
        for statement in printed.rstrip(";\n").split(";\n"):
            connection.execute(text(statement))
        assert inspect(connection).has_table("mine")
    store.close()
    site.done(CREATE, "-c", "conn", "-t", "loc", "-n", "other")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--partition", "logged_at,1335830400"),
        ("-t", "loc", "-n", "mine", "-p", "logged_at,1335830400"),
        ("-t", "loc", "-n", "mine", "-u", "fast"),
        ("-t", "loc", "-n", "mine", "-s", "99"),
        ("-t", "loc", "-n", "mine", "-s", "0"),
        ("-t", "loc", "-s", "3"),
        ("-t", "loc", "-j"),
        ("-t", "loc", "-n", "identity"),
        ("-t", "loc", "-n", "a-b"),
        ("-n", "mine"),
        ("-i",),
    ],
)
def test_create_refuses_what_it_cannot_do(site: Site, arguments: tuple[str, ...]) -> None:
    outcome = site.call(CREATE, "-c", "conn", *arguments)
    assert outcome.status == 3, outcome
    assert outcome.err.startswith("create: ")
    assert not (site.folder / "batchacct.db").exists()


def test_create_options_that_exclude_each_other(site: Site) -> None:
    assert site.call(CREATE, "-c", "conn", "-t", "loc", "-i", "-j").status == 2
    assert site.call(CREATE, "-c", "conn", "-t", "other").status == 2


@pytest.fixture
def parted(tmp_path: Path, store_url: str) -> Site:
    """A site whose database has partitions, and the schema."""
    made = Site(tmp_path, store_url, now=Month(2012, 6).start + 1_000_000)
    if store_url.startswith("sqlite"):
        pytest.skip("SQLite has no partitions")
    made.done(CREATE, "-c", "conn")
    return made


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("end_at,1335830400", "job has partitions by logged_at, which is in its keys"),
        ("logged_at,1335614400", "2012-04 ends before 1335830400 (UTC)"),
        ("logged_at", "a comma and a Unix time follow the column"),
        ("logged_at,soon", "a comma and a Unix time follow the column"),
        ("logged_at,99999999999999", "a comma and a Unix time follow the column"),
        ("logged_at,0", "ends before"),
    ],
)
def test_partitions_that_cannot_be(site: Site, asked: str, said: str) -> None:
    site.write("conn", "postgresql://u:p@nowhere.invalid/d\n").chmod(0o640)
    outcome = site.call(CREATE, "-c", "conn", "-t", "loc", "-n", "mine", "-p", asked)
    assert (outcome.status, said in outcome.err) == (3, True), outcome
    kept = site.call(CREATE, "-c", "conn", "-t", "loc", "-n", "mine", "-s", "3", "-p", "logged_at,1335830400")
    assert "keep that column" in kept.err


def test_a_copy_with_partitions_which_are_added_to(parted: Site) -> None:
    made = ("-c", "conn", "-t", "loc", "-n", "mine", "-p", "logged_at,1335830400")
    assert "mine1335830400" in parted.done(CREATE, *made, "--dryrun").out
    assert parted.done(CREATE, *made).out == "created mine\n"
    store = Store(parted.url)
    with store.reading() as connection:
        assert partitions.months(store, connection, "mine") == [Month(2012, 4)]
    printed = parted.done(PARTITION, "-c", "conn", "-t", "mine", "-d", "-p", "1").out
    assert all(month.partition("mine") in printed for month in (Month(2012, 5), Month(2012, 6), Month(2012, 7)))
    outcome = parted.done(PARTITION, "-c", "conn", "-t", "mine", "-p", "1", "-l", "p.log")
    assert (outcome.out, outcome.err) == ("", "")
    assert "INFO mine: made 2012-05, mine1338508800" in parted.text("p.log")
    with store.reading() as connection:
        assert partitions.months(store, connection, "mine") == [Month(2012, 4) + n for n in range(4)]
        keys = inspect(connection).get_pk_constraint("mine")["constrained_columns"]
    assert keys == ["id", "logged_at"]
    assert "mine: has its partitions, the last of them 2012-07" in parted.done(PARTITION, "-c", "conn", "-t", "mine", "-p", "1").err
    assert parted.done(CREATE, "-c", "conn", "--listtabs").out.split() == sorted({*metadata.tables, "alembic_version", "mine"})
    store.close()


def test_partition_of_the_tables_of_the_schema(parted: Site) -> None:
    for name, options in (("job", ("--table", "loc")), ("identity", ("-t", "ce")), ("part", ())):
        said = parted.done(PARTITION, "--connfile", "conn", "--plan", "0", *options).err
        assert f"{name}: made 2012-06, {name}1341100800" in said
    wrong = parted.call(PARTITION, "-c", "conn", "-t", "usage")
    assert (wrong.status, "usage is no table that is partitioned" in wrong.err) == (3, True)


def test_partition_where_there_are_none(created: Site) -> None:
    assert "sqlite has no partitions: there is nothing to do" in created.done(PARTITION, "-c", "conn", "-t", "loc").err


def test_partition_without_the_schema(tmp_path: Path, store_url: str) -> None:
    """A copy may be alone in its database; what is of the schema is not looked for where that is not."""
    site = Site(tmp_path, store_url, Month(2012, 6).start)
    told = (
        "run `batchacct db create` or `python -m loccol.create -c conn`; for a copy made by `create --name`, say which with --table"
    )
    for options in ((), ("-t", "loc"), ("-d",)):
        refused = site.call(PARTITION, "-c", "conn", *options)
        assert (refused.status, told in refused.err) == (8, True), refused
    if store_url.startswith("sqlite"):
        return
    site.done(CREATE, "-c", "conn", "-t", "loc", "-n", "mine", "-p", "logged_at,1335830400")
    assert told in site.call(PARTITION, "-c", "conn").err
    assert "mine: made 2012-05, mine1338508800" in site.done(PARTITION, "-c", "conn", "-t", "mine", "-p", "1").err
