"""`site`: a site on each backend in turn. Its database is made once and emptied for each test, and does not wait for the disk.

What is tested on it is what the database says, not whether that survives a power cut; so it takes seconds and not minutes.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import event, make_url

from batchacct.store import Store
from tests.pristine import with_schema
from tests.pub.site import Site
from tests.servers import MariaServer


@pytest.fixture(scope="session")
def lasting_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = with_schema(f"sqlite:///{tmp_path_factory.mktemp('site')}/batchacct.db")
    event.listen(store.engine, "connect", lambda driver, _: driver.execute("PRAGMA synchronous=OFF"))
    yield from _closed(store)


@pytest.fixture(scope="session")
def lasting_postgresql(postgresql_url: str) -> Iterator[Store]:
    """A database of its own: that of `postgresql_url` is made anew by other tests."""
    yield from _closed(with_schema(make_url(postgresql_url).set(database="site").render_as_string(hide_password=False)))


@pytest.fixture(scope="session")
def lasting_mariadb(mariadb: MariaServer) -> Iterator[Store]:
    yield from _closed(with_schema(make_url(mariadb.url).set(database="batchacct_site").render_as_string(hide_password=False)))


ON_SQLITE = pytest.mark.parametrize("site", ["sqlite"], indirect=True)
"""For what is not about what a database answers: it has `site` on SQLite alone."""
SERVERS = ("postgresql", "mariadb")


@pytest.fixture(params=["sqlite", *(pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in SERVERS)])
def site(request: pytest.FixtureRequest) -> Site:
    made = Site(request.getfixturevalue(f"lasting_{request.param}"))
    made.emptied()
    return made


def _closed(store: Store) -> Iterator[Store]:
    yield store
    store.close()
