"""A demo farm with everything the portal shows, filled once; and browsers without a window, by role."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from batchacct.config import Config, load_config
from batchacct.store import Store
from batchacct.store.read_only import read_only_store
from batchacct.store.tables import identity, job, usage
from cpuhours.portal.accounts import Account, write_accounts
from cpuhours.portal.app import create_app
from cpuhours.portal.site import Site
from cpuhours.portal.viewers import Role
from tests.cli.runner import batchacct
from tests.procacct.workload import a_membership, a_process, add_memberships, add_objects, add_processes, an_object

NOW = 1_793_534_400
"""2026-11-01 12:00:00Z, when the demo ends."""
ACCOUNT = "atlas001"
PASSWORD = "correct-horse-battery"
LONGEST_DEADLINE_S = 60


@dataclass(frozen=True, slots=True)
class Demo:
    """A folder with the demo's database, logs and configuration. `dn` is a grid identity with jobs under several accounts."""

    folder: Path
    dn: str
    other_dn: str

    @property
    def config_path(self) -> Path:
        return self.folder / "batchacct.toml"

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Of a plain question to the database, past all of our code."""
        with sqlite3.connect(f"file:{self.folder}/batchacct.db?mode=ro", uri=True) as connection:
            return connection.execute(query, parameters).fetchall()

    def one(self, query: str, *parameters: object) -> Any:
        return self.rows(query, *parameters)[0][0]

    def config(self, **keys: object) -> Config:
        """The demo's configuration with other keys in [portal]."""
        known = load_config(self.config_path)
        portal = known.portal.model_copy(update={"fresh": 0, "accounts_file": self.folder / "portal.accounts"} | keys)
        return known.model_copy(update={"portal": portal})


@dataclass(frozen=True, slots=True)
class Portal:
    """A site and clients of it, in this process."""

    demo: Demo
    site: Site
    app: Flask

    @classmethod
    def of(cls, demo: Demo, *, deadline_s: int = LONGEST_DEADLINE_S, **keys: object) -> Portal:
        config = demo.config(**keys)
        site = Site.of(read_only_store(config.database.resolved(), deadline_s), config)
        return cls(demo, site, create_app(site))

    def client(self, name: str | None = None) -> FlaskClient:
        """Somebody's browser, logged in if a name is given."""
        client = self.app.test_client()
        if name is not None:
            account = self.site.accounts.named(name)
            assert account is not None
            client.set_cookie("portal-session", self.site.sessions.begin(name, account.proof))
        return client

    def get(self, name: str | None, address: str, **words: Any) -> TestResponse:
        return self.client(name).get(address, **words)

    def close(self) -> None:
        self.site.desk.store.close()


def make_demo(folder: Path) -> Demo:
    """Runs `batchacct demo` and adds what ran in one of its jobs, and accounts of every role."""
    done = batchacct("demo", "--folder", folder, "--jobs", 500)
    assert done.status == 0, done.err
    store = Store(f"sqlite:///{folder}/batchacct.db")
    try:
        _add_processes(store)
        dn, other = _identities(store)
    finally:
        store.close()
    write_accounts(folder / "portal.accounts", accounts(dn))
    return Demo(folder, dn, other)


def accounts(dn: str) -> Mapping[str, Account]:
    """`admin`, `olga` (officer), `atlas001` and `anna` (users), `grid` (by identity), `both` (by account and identity)."""
    return {
        "admin": Account(Role.ADMINISTRATOR),
        "olga": Account(Role.OFFICER),
        ACCOUNT: Account(Role.USER),
        "anna": Account(Role.USER),
        "grid": Account(Role.USER, None, (), (dn,)),
        "both": Account(Role.USER, None, (ACCOUNT,), (dn,)),
        "nobody": Account(Role.USER, None, ("no-such-account",)),
    }


def _identities(store: Store) -> tuple[str, str]:
    """The DN with most jobs, and another one."""
    with store.reading() as connection:
        joined = select(identity.c.dn).join(usage, usage.c.identity_id == identity.c.id).order_by(identity.c.dn)
        names = list(connection.scalars(joined))
    by_count = sorted(set(names), key=lambda name: (-names.count(name), name))
    return by_count[0], by_count[1]


def _add_processes(store: Store) -> None:
    """Two programs of the newest job of `anna`, one of somebody else, and a group of processes with one of them in it."""
    with store.reading() as connection:
        newest = select(job).where(job.c.user_name == "anna", job.c.state == "completed", job.c.array_index.is_(None))
        run = connection.execute(newest.order_by(job.c.logged_at.desc()).limit(1)).one()
    of_run: dict[str, Any] = {"cluster": run.cluster, "user_name": "anna"}
    start = run.start_at
    add_processes(
        store,
        a_process(run.join_id, start + 1, start + 9, pid=50, program="/home/anna/reco", cpu_user_s=30.0, object_set="s1", **of_run),
        a_process(run.join_id, start + 2, start + 9, pid=51, parent_pid=50, program="/usr/bin/sort", cpu_user_s=10.0, **of_run),
        a_process(None, start + 3, start + 9, pid=52, program="/home/bruno/secret", user_name="bruno", user_id=2000),
    )  # fmt: skip
    add_objects(store, an_object("s1", "/lib64/libc.so.6", start))
    add_memberships(store, a_membership(51, start + 2, "g1", left_at=start + 12))


def table_of(response: TestResponse) -> list[list[str]]:
    """The texts of the cells of the first table of a page, row by row; its head first."""
    from lxml import html

    (table, *_) = html.fromstring(response.text).iter("table")
    return [[" ".join(cell.text_content().split()) for cell in row if cell.tag in {"th", "td"}] for row in table.iter("tr")]


def figures_of(rows: Sequence[Sequence[str]], column: str) -> dict[str, float]:
    """Name in the first column -> figure in another."""
    place = rows[0].index(column)
    return {row[0]: float(row[place].replace(",", "") or "nan") for row in rows[1:]}


def json_of(response: TestResponse) -> Any:
    return json.loads(response.data)
