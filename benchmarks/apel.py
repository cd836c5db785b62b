"""The comparison with APEL 2.5, where APEL_SRC names a checkout of apel/apel and APEL_PYTHON an interpreter that can run it.

If MariaDB is installed, their parser and client from logs to messages beside our main job on the same logs. What both published is
compared first: unless it comes to the same, nothing is said of speed. (Parsers alone, on the same lines: `benchmarks.parsers`.)
Nothing of APEL's is part of this repository.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.farm import Databases, Logs
from benchmarks.figures import Figures, seconds
from benchmarks.publish import whole_s
from benchmarks.totals import Totals, totals_of
from tests.servers import MariaServer, MissingServerError, mariadb_server

SOURCE_VARIABLE, PYTHON_VARIABLE = "APEL_SRC", "APEL_PYTHON"
MISSING = f"no comparison with APEL: {SOURCE_VARIABLE} names no checkout of apel/apel"
DATABASE, USER = "apelclient", "apel"
SITE, LRMS = "BENCH-SITE", "lsf-master.example.org"


@dataclass(frozen=True, slots=True)
class Apel:
    """A checkout, and the interpreter it runs in."""

    checkout: Path
    python: str

    @classmethod
    def installed(cls) -> Apel | None:
        """What the environment names; None if it names none."""
        checkout = os.environ.get(SOURCE_VARIABLE)
        return cls(Path(checkout).resolve(), os.environ.get(PYTHON_VARIABLE, "python3")) if checkout else None

    def child(self, *arguments: object) -> dict[str, float]:
        """What `apel_child.py` tells."""
        told: dict[str, float] = json.loads(self.run(Path(__file__).with_name("apel_child.py"), self.checkout, *arguments))
        return told

    def run(self, *arguments: object) -> str:
        """The last line of what a program in APEL's interpreter prints.  Raises: RuntimeError if it fails."""
        env = {**os.environ, "PYTHONPATH": str(self.checkout), "TZ": "UTC"}
        command = [self.python, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout.splitlines()[-1]


def measure(figures: Figures, logs: Logs, databases: Databases) -> None:
    """The whole way, if that is possible here; if it is not, that is noted."""
    apel = Apel.installed()
    if apel is None:
        figures.note(MISSING)
        return
    try:
        with mariadb_server() as server, tempfile.TemporaryDirectory(dir=databases.workdir) as folder:
            apel_s, theirs = _whole(figures, logs, apel, server, Path(folder))
    except MissingServerError as error:
        figures.note(str(error))
        return
    for kind in databases.kinds():
        ours_s, ours = whole_s(kind, logs, databases)
        if ours != theirs:
            raise RuntimeError(f"with {kind} we published {ours}; APEL: {theirs}. What is not the same is not compared")
        what = f"APEL's parser and client with MariaDB, {logs.jobs:,} jobs; the target is 30 times"
        figures.add(f"whole main job beside APEL, {kind}", logs.jobs / ours_s, "jobs/s", logs.jobs / apel_s, what)
    figures.note(f"APEL and batchacct published the same: {theirs}")


def _whole(figures: Figures, logs: Logs, apel: Apel, server: MariaServer, folder: Path) -> tuple[float, Totals]:
    """Seconds APEL takes for parsing, loading, joining and unloading, and what it published.

    Its summaries, which we do not make, are not counted.
    """
    schema = (apel.checkout / "schemas" / "client.sql").read_text(encoding="utf-8")
    server.execute(f"CREATE DATABASE {DATABASE}; CREATE USER {USER}@127.0.0.1; GRANT ALL ON {DATABASE}.* TO {USER}@127.0.0.1")
    server.execute(schema, DATABASE)
    settings = folder / "parser.cfg"
    settings.write_text(_parser_settings(logs, server), encoding="utf-8")
    loaded_s = seconds(lambda: apel.run(apel.checkout / "bin" / "parser.py", "-c", settings))
    server.execute("ANALYZE TABLE EventRecords, BlahdRecords", DATABASE)  # or its join has no plan worth the name for some seconds
    ces = sorted({ce.decode() for ce in re.findall(rb'"ceID=([^"]+)"', logs.blah.read_bytes())})
    told = apel.child("client", "127.0.0.1", server.port, USER, DATABASE, SITE, LRMS, folder, *ces)
    figures.add("APEL's parser with MariaDB", logs.jobs / loaded_s, "jobs/s")
    for step in ("join", "unload"):
        figures.add(f"APEL's client, {step}", told["records"] / told[f"{step}_s"], "records/s")
    figures.note(
        f"APEL unloaded {told['records']:,.0f} records of {logs.jobs:,} jobs; its summaries took {told['summarise_s']:.1f} s more"
    )
    return loaded_s + told["join_s"] + told["unload_s"], totals_of(folder)


def _parser_settings(logs: Logs, server: MariaServer) -> str:
    return f"""[db]
hostname = 127.0.0.1
port = {server.port}
name = {DATABASE}
username = {USER}
password =

[site_info]
site_name = {SITE}
lrms_server = {LRMS}

[blah]
enabled = true
dir = {logs.blah.parent}
filename_prefix = {logs.blah.name}
subdirs = false

[batch]
enabled = true
reparse = false
type = LSF
parallel = true
dir = {logs.acct.parent}
filename_prefix = {logs.acct.name}
subdirs = false
scale_host_factor = false

[logging]
logfile = {os.devnull}
level = WARN
console = true
"""
