"""The loader of apel/apel as a daemon, configured by us, on a MariaDB with its server's schema; and what its tables hold."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

from sqlalchemy import create_engine, text

from tests.apel_reader import Job
from tests.interop.checkouts import Checkout, Daemon
from tests.interop.spool import Spool
from tests.servers import MariaServer

DATABASE, USER = "apelserver", "apel"
SIGNER = "/C=CH/O=Example/CN=publisher"


class Loader:
    """A running loader with an empty database."""

    def __init__(self, checkout: Checkout, server: MariaServer, folder: Path) -> None:
        folder.mkdir()
        self._checkout, self._server, self._folder = checkout, server, folder
        self.spool = Spool(folder / "spool")
        server.empty(DATABASE)
        server.execute(f"CREATE USER IF NOT EXISTS {USER}@127.0.0.1; GRANT ALL ON {DATABASE}.* TO {USER}@127.0.0.1")
        server.execute((checkout.folder / "schemas/server.sql").read_text(), DATABASE)
        self._engine = create_engine(f"mariadb+pymysql://{USER}@127.0.0.1:{server.port}/{DATABASE}")
        (folder / "db.cfg").write_text(f"""\
[db]
backend = mysql
hostname = 127.0.0.1
port = {server.port}
name = {DATABASE}
username = {USER}
password =
""")
        (folder / "loader.cfg").write_text(f"""\
[loader]
msgpath = {self.spool.path}
pidfile = {folder}/pid
interval = 1
save_messages = true

[logging]
logfile = {folder}/log
level = INFO
console = false
""")
        self.begin()

    def begin(self) -> None:
        folder = self._folder
        self.daemon = Daemon(
            self._checkout, folder / "log", "bin/dbloader.py", "-d", folder / "db.cfg", "-c", folder / "loader.cfg"
        )

    def load(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Gives it messages by their ids, as SSM's receiver would, and waits until it has taken them."""
        for empa_id, payload in messages:
            self.spool.add(payload.decode().rstrip("\n"), SIGNER, empa_id)
        self.settle()

    def settle(self) -> None:
        """Waits until nothing is incoming any more."""
        self.daemon.wait_until(lambda: self.spool.is_empty, "all messages are loaded")

    def call(self, procedure: str) -> None:
        """Runs one of the server's own procedures."""
        with self._engine.begin() as connection:
            connection.execute(text(f"CALL {procedure}()"))

    def rows(self, view: str) -> list[Job]:
        """What a view of the server's holds, but for when that was written: instants in Unix seconds, decimals as numbers."""
        with self._engine.connect() as connection:
            rows = connection.execute(text(f"SELECT * FROM {view}")).mappings()
            return [{name: _plain(value) for name, value in row.items() if name != "UpdateTime"} for row in rows]

    def publishers(self) -> set[object]:
        """Whose signature the jobs came with."""
        with self._engine.connect() as connection:
            return set(connection.scalars(text("SELECT DISTINCT name FROM JobRecords JOIN DNs ON DNs.id = PublisherDNID")))

    def stop(self) -> None:
        self.daemon.stop()
        self._engine.dispose()


def _plain(value: object) -> object:
    if isinstance(value, dt.datetime):
        return int(value.replace(tzinfo=dt.UTC).timestamp())
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value
