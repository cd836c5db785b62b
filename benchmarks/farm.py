"""What is measured on: a site with one LSF cluster and a BLAH log, its configuration, and empty databases for it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import text

from batchacct.cli.collecting import collector_of
from batchacct.collector import Collector, collect_once
from batchacct.config import Config, load_config
from batchacct.demo.farm import VO_MAP
from batchacct.store import Store
from benchmarks.large_logs import JOBS_A_DAY, write_large
from tests.fix_stores import empty
from tests.servers import MissingServerError, mariadb_server, postgresql

NOW = 1_767_225_600
"""The time it is taken to be, 2026-01-01: long after the last job, so that nothing waits for its identity."""

SQLITE, POSTGRESQL, MARIADB = "SQLite", "PostgreSQL", "MariaDB"


@dataclass(frozen=True, slots=True)
class Logs:
    """A pair of large logs of so many jobs."""

    jobs: int
    acct: Path
    blah: Path

    @classmethod
    def made(cls, workdir: Path, jobs: int, seed: int, jobs_a_day: int = JOBS_A_DAY) -> Logs:
        """Those of this size and seed, so many a day: written at the first call, found again by later ones."""
        folder = workdir / (f"logs-{jobs}-{seed}" if jobs_a_day == JOBS_A_DAY else f"logs-{jobs}-{seed}-{jobs_a_day}-a-day")
        if not folder.exists():
            unfinished = folder.with_suffix(".tmp")
            shutil.rmtree(unfinished, ignore_errors=True)
            write_large(unfinished, jobs, seed, jobs_a_day)
            unfinished.rename(folder)
        return cls(jobs, folder / "lsb.acct", folder / "blahp.log-20120101")


def configuration(folder: Path, logs: Logs, url: str) -> Path:
    """Writes the site's configuration into `folder`, where its messages go too; the path of the file."""
    rules = "\n".join(f'[[vo.rule]]\nvo = "{vo}"\ngroup = "{group}"' for group, vo in sorted(VO_MAP.items()))
    path = folder / "batchacct.toml"
    content = f'''site = "BENCH-SITE"
database = {{ url = "{url}" }}
source = [
  {{ name = "lsf-master", parser = "lsf", paths = ["{logs.acct.resolve()}"], cluster = "lsf1" }},
  {{ name = "ce-blah", parser = "blah", paths = ["{logs.blah.resolve()}"] }},
]
ce = {{ "*.example.org:8443/cream-lsf-*" = "lsf1" }}
cluster = [{{ name = "lsf1", machine_name = "lsf-master.example.org", grid_queues = ["grid_*"] }}]
benchmark = [{{ type = "HEPscore23", value = 12.5 }}]
publish = {{ path = "{folder.resolve()}/outgoing" }}

{rules}
'''
    path.write_text(content, encoding="utf-8")
    return path


@dataclass
class Databases:
    """Empty databases for one measurement each; servers are started when they are first asked for."""

    workdir: Path
    servers: ExitStack = field(default_factory=ExitStack)
    urls: dict[str, str] | None = None
    """Of the servers, by kind."""
    missing: str | None = None

    def kinds(self) -> tuple[str, ...]:
        """Those that are installed."""
        if self.urls is None:
            self.urls = {}
            for kind, start in ((POSTGRESQL, postgresql), (MARIADB, _mariadb)):
                try:
                    self.urls[kind] = self.servers.enter_context(start())
                except MissingServerError as error:
                    self.missing = f"{self.missing}; {error}" if self.missing else str(error)
        return (SQLITE, *self.urls)

    @contextmanager
    def empty(self, kind: str, logs: Logs) -> Iterator[Site]:
        """A site with nothing in its database; all of it is gone at the end."""
        folder = Path(tempfile.mkdtemp(prefix="site-", dir=self.workdir))
        url = f"sqlite:///{folder.resolve()}/batchacct.db"
        try:
            if kind != SQLITE:
                assert self.urls is not None
                url = self.urls[kind]
                _emptied(url)
            config_path = configuration(folder, logs, url)
            store = Store(url)
            try:
                store.create()
                yield Site(folder, config_path, load_config(config_path), store)
            finally:
                store.close()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Site:
    """A configured site with its store."""

    folder: Path
    config_path: Path
    config: Config
    store: Store

    def collectors(self) -> list[Collector]:
        return [collector_of(self.config, keys) for keys in self.config.source]

    def collect(self) -> None:
        """Everything in the logs.  Raises: RuntimeError if any of it could not be read."""
        for collector in self.collectors():
            done = collect_once(self.store, collector, now)
            if done.errors or done.counts["rejected"]:
                raise RuntimeError(f"the benchmark's own logs cannot be read: {done.errors or done.counts}")


def now() -> int:
    """Unix seconds: always `NOW`."""
    return NOW


@contextmanager
def _mariadb() -> Iterator[str]:
    with mariadb_server() as server:
        yield server.url


def _emptied(url: str) -> None:
    empty(url)
    server = Store(url)
    if server.dialect.name == "postgresql":
        with server.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("CHECKPOINT"))
    server.close()
