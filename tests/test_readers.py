"""Who only reads, the portal and `serve`, may have an account that can do nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, make_url, text

from batchacct.config import load_config
from batchacct.errors import StoreError
from batchacct.httpd import Request
from batchacct.ledger.state import read_state
from batchacct.store import Store
from batchacct.store.read_only import read_only_store
from batchacct.store.tables import setting
from cpuhours.portal.job_rows import Wanted, jobs_of
from cpuhours.portal.viewers import Role, Viewer
from pub.pull.endpoint import Endpoint
from tests.pub.site import DAY, T0, Site, a_job, an_identity
from tests.servers import MariaServer

READER = "batchacct_reader"


@pytest.fixture(params=["postgresql", "mariadb"])
def filled(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A site on a server with a reader, as docs/how-to/run-as-a-service.md makes it."""
    site = Site(request.getfixturevalue(f"lasting_{request.param}"))
    site.emptied()
    site.jobs(a_job(1), a_job(2))
    site.identities(an_identity(1))
    site.publish()
    if request.param == "mariadb":
        server: MariaServer = request.getfixturevalue("mariadb")
        server.execute(f"CREATE USER {READER}@127.0.0.1; GRANT SELECT ON batchacct_site.* TO {READER}@127.0.0.1")
        yield site
        server.execute(f"DROP USER {READER}@127.0.0.1")
        return
    _do(site.store, f"CREATE ROLE {READER} LOGIN", f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER}")
    yield site
    _do(site.store, f"DROP OWNED BY {READER}", f"DROP ROLE {READER}")


def _do(store: Store, *statements: str) -> None:
    with store.writing() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_an_account_that_may_only_read_is_enough(filled: Site) -> None:
    url = filled.store.engine.url.set(username=READER).render_as_string(hide_password=False)
    store = read_only_store(url, 20)
    store.check()
    jobs, _ = jobs_of(store, Viewer("admin", Role.ADMINISTRATOR), Wanted(T0 - DAY, T0 + 30 * DAY), 10)
    assert sorted(one.lrms_job_id for one in jobs) == ["1", "2"]
    assert read_state(store, filled.config, filled.clock).books.balanced
    store.close()
    store = Store(url)
    endpoint = Endpoint(store, filled.config, None, lambda: filled.clock)
    for path, query in (("/v1/records", ""), ("/v1/summaries", "month=2023-11")):
        answer = endpoint.answer(Request("GET", path, query, {"Host": "127.0.0.1:9106"}, "127.0.0.1"))
        assert (answer.status, answer.headers["Batchacct-Records"] != "0") == (200, True), answer.body
    with pytest.raises(StoreError, match="Grant this user the rights"), store.writing() as connection:
        connection.execute(insert(setting).values(name="x", value="y", since=0))
    store.close()


def test_who_reads_has_the_account_of_the_others_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "batchacct.toml"
    for name in ("writer", "reader"):
        (tmp_path / name).write_text(f"postgresql://{name}@db/batchacct\n")
        (tmp_path / name).chmod(0o640)
    path.write_text(f'site = "S"\n[database]\nconnection_file = "{tmp_path}/writer"\n')
    database = load_config(path).database
    assert database.resolved_to_read() == database.resolved()
    path.write_text(f'{path.read_text()}read_only_connection_file = "{tmp_path}/reader"\n')
    database = load_config(path).database
    assert [make_url(url).username for url in (database.resolved_to_read(), database.resolved())] == ["reader", "writer"]
