"""The site of a year: its configuration, its commands, its database saved and restored; by this release or an earlier one."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

from sqlalchemy import NullPool, create_engine, make_url, text

from batchacct.cli.collecting import collectors_of, rules_for
from batchacct.clock import NOW_VARIABLE, unix_now
from batchacct.collector import collect_once
from batchacct.collector.running import lock_name
from batchacct.completing import complete_parts
from batchacct.config import PATH_VARIABLE, Config, load_config
from batchacct.store import Store
from pub.command import publish_once
from tests.forks import ROOT, Forks, forking
from tests.services.brokers import PASSCODE, USER
from tests.year.plan import Plan
from tests.year.runs import PEOPLE, SITE, Truth
from tools.packages import previous

PATIENCE_S = 600
CLUSTERS = {
    "lsf": ("lsf", "lsf/lsb.acct*"), "pbs": ("pbs", "pbs/[0-9]*"), "sge": ("sge", "sge/accounting*"),
    "slurm": ("slurm", "slurm/sacct-*"), "condor": ("htcondor", "condor/history*"),
}  # fmt: skip
"""Parser and files of each batch system."""
IDENTITIES = {
    "blah": ("blah", "cream/blahp.log-*", None), "gram": ("gram", "globus/accounting.log*", "pbs"),
    "lcmaps": ("lcmaps", "lcmaps/lcmaps.log*", "pbs"), "arc": ("arc-joblog", "arc/arex-jobs.log*", "slurm"),
    "condor-ce": ("htcondor-ce", "condor/history*", "condor"),
}  # fmt: skip
"""Parser, files and cluster of what tells who asked."""
IMPORTED = (
    "duckdb", "batchacct.archive.taking", "batchacct.cli.archiving", "batchacct.cli.auditing", "batchacct.cli.doctor",
    "batchacct.cli.status", "batchacct.usage.keeping", "cecol.arc_joblog", "cecol.gram", "cecol.htcondor_ce", "cecol.lcmaps",
    "cpuhours.command", "cpuhours.monthly", "loccol.htcondor", "loccol.pbs", "loccol.sge", "loccol.slurm_sacct", "pub.checks",
    "pub.summary_commands",
)  # fmt: skip


class CommandError(Exception):
    """A command did not end as it should."""


class Site:
    """`folder` takes everything; `url` is of an empty database; `broker` is host:port and a queue."""

    def __init__(self, folder: Path, url: str, broker: tuple[int, str], plan: Plan, truth: Truth) -> None:
        self.folder, self.url, self.zone = folder, url, plan.zone
        self.configuration = folder / "batchacct.toml"
        self.archive = folder / "archive"
        self.log = folder / "said.log"
        self.disk: Path | None = None
        """The mount point of a small file system, if the database is on one."""
        self.commands: Counter[str] = Counter()
        self.cpu_s: dict[str, float] = defaultdict(float)
        """By the first word of the command."""
        self._forks: Forks | None = None
        self._here: tuple[Config, Store] | None = None
        passcode = folder / "passcode"
        passcode.touch(mode=0o600)
        passcode.write_text(f"{PASSCODE}\n", encoding="ascii")
        self.configuration.write_text(self._text(broker, passcode, plan, truth), encoding="utf-8")

    def _text(self, broker: tuple[int, str], passcode: Path, plan: Plan, truth: Truth) -> str:
        port, queue = broker
        tables = [f'site = "{SITE}"\ndatabase = {{ url = "{self.url}" }}\nce = {{ "*/cream-lsf-*" = "lsf" }}\n']
        for name, (parser, paths) in CLUSTERS.items():
            tables.append(self._source(name, parser, paths, name))
            queues = [] if name == "condor" else ["grid_*"]
            tables.append(
                f'[[cluster]]\nname = "{name}"\nmachine_name = "{name}.example.org"\ngrid_queues = {json.dumps(queues)}\n'
            )
        tables += [self._source(name, *of) for name, of in IDENTITIES.items()]
        for (first, value), following in zip(truth.benchmarks, [*(day for day, _ in truth.benchmarks[1:]), None], strict=True):
            until = "" if following is None else f"valid_until = {following}\n"
            tables.append(f'[[benchmark]]\ntype = "HEPscore23"\nvalue = {value}\nvalid_from = {first}\n{until}')
        tables += [f'[[vo.rule]]\nvo = "{vo}"\nuser = "{begin}*"\n' for begin, vo in PEOPLE if vo]
        tables.append(
            '[[vo.issuer]]\nissuer = "https://atlas-auth.cern.ch/"\nvo = "atlas"\n[join]\ngrace = "6h"\nmax_hold = "4d"\n'
        )
        tables.append(
            f'[archive]\npath = "{self.archive}"\n[retention]\nkeep = "{plan.keep}"\npersonal_data = "{plan.personal_data}"\n'
        )
        options = f'brokers = ["127.0.0.1:{port}"]\ndestination = "{queue}"\nlogin = "{USER}"\npasscode_file = "{passcode}"\n'
        tables.append('[publish]\nlocal_job_id = "{cluster}:{id}"\nlocal_job_id_array = "{cluster}:{id}-{index}"\n')
        tables.append('[[destination]]\nname = "main"\ntransport = "stomp"\nbunch = 100\n[destination.options]\n')
        tables.append(f"{options}timeout = 10\nretry_for = 0\nheart_beat = 0\n")
        return "\n".join(tables)

    def _source(self, name: str, parser: str, paths: str, cluster: str | None) -> str:
        of = f'cluster = "{cluster}"\n' if cluster else ""
        logs = self.folder / "logs" / paths
        return f'[[source]]\nname = "{name}"\nparser = "{parser}"\npaths = ["{logs}"]\nzone = "{self.zone}"\n{of}'

    @contextmanager
    def release(self, root: Path = ROOT) -> Iterator[None]:
        """Commands are those of the release that is there."""
        there = [name for name in IMPORTED if "." not in name or (root / name.replace(".", "/")).with_suffix(".py").exists()]
        with forking(root, there) as forks:
            self._forks = forks
            yield
        self._forks = None

    def run(self, *words: str, now: int, crash_at: str = "", settings: Mapping[str, Any] | None = None) -> tuple[int, str]:
        """A command of `batchacct` to its end: its status, -9 if it was killed, and what it said."""
        assert self._forks is not None
        self.log.write_text("", encoding="utf-8")
        environment = {
            PATH_VARIABLE: str(self.configuration),
            NOW_VARIABLE: str(now),
            "BATCHACCT_CRASH_AT": crash_at,
            "TZ": self.zone,
        }
        started = self._forks.start(
            "batchacct", *words, log=self.log, environment=environment, folder=self.folder, settings=settings
        )  # fmt: skip
        assert started.has_ended(PATIENCE_S), f"batchacct {' '.join(words)} goes on for more than {PATIENCE_S} s"
        self.cpu_s[words[0]] += started.cpu_s()
        self.commands[words[0]] += 1
        status = started.wait()
        return status, self.log.read_text(encoding="utf-8", errors="replace")

    def good(self, *words: str, now: int, statuses: Sequence[int] = (0,)) -> str:
        """A command that has to end so; what it said.  Raises: CommandError."""
        status, said = self.run(*words, now=now)
        if status not in statuses:
            raise CommandError(f"batchacct {' '.join(words)}: status {status}\n{said[-4000:]}")
        return said

    def told(self, *words: str, now: int, statuses: Sequence[int] = (0,)) -> dict[str, Any]:
        """What it says as JSON."""
        said = self.good(*words, "--json", now=now, statuses=statuses)
        found: dict[str, Any] = json.loads(said[said.index("{") :])
        return found

    def store(self) -> Store:
        return Store(self.url)

    def collect(self, now: int) -> None:
        """`collect --once` by this process, which stays: a new one each time costs seconds.  Raises: CommandError."""
        with _clock(now):
            config, store = self._resident()
            began = time.process_time()
            collectors, broken = collectors_of(config, ())
            problems = [error.message for error in broken]
            for collector in collectors:
                with store.lock(lock_name(collector.source.name)):
                    problems += [error.message for error in collect_once(store, collector, unix_now).errors]
            complete_parts(store, rules_for(config, {one.source.name for one in collectors}), now)
            self._took("collect, resident", began)
        if problems:
            raise CommandError("; ".join(problems))

    def publish(self, now: int) -> None:
        """`publish --once`, likewise.  Raises: PublishError."""
        with _clock(now):
            config, store = self._resident()
            began = time.process_time()
            publish_once(store, config, unix_now)
            self._took("publish, resident", began)

    def _took(self, what: str, began: float) -> None:
        self.commands[what] += 1
        self.cpu_s[what] += time.process_time() - began

    def _resident(self) -> tuple[Config, Store]:
        if self._here is None:
            self._here = load_config(self.configuration), self.store()
        return self._here

    def close(self) -> None:
        """Ends what is resident: the next one opens the database anew."""
        if self._here is not None:
            self._here[1].close()
            self._here = None

    @property
    def is_full(self) -> bool:
        return self.disk is not None and (self.disk / "ballast").exists()

    def fill(self) -> bool:
        """Leaves no room on the disk of the database, if it has one of its own."""
        self.close()  # which would make some, of the write-ahead log
        if self.disk is None:
            return False
        with (self.disk / "ballast").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        return True

    def make_room(self) -> None:
        if self.disk is not None:
            (self.disk / "ballast").unlink()

    def save(self, to: Path) -> None:
        """A backup, as docs/how-to/backup.md has it."""
        to.unlink(missing_ok=True)
        place = make_url(self.url)
        if place.get_backend_name() == "sqlite":
            with sqlite3.connect(str(place.database)) as connection:
                connection.execute(f"VACUUM INTO '{to}'")
            connection.close()
        else:
            _succeed("pg_dump", "--format=custom", f"--file={to}", f"--dbname={_postgresql(place.database, self.url)}")

    def restore(self, backup: Path) -> None:
        """The database as it was then, in the place of what is there."""
        place = make_url(self.url)
        if place.get_backend_name() == "sqlite":
            path = Path(str(place.database))
            for name in (f"{path}-wal", f"{path}-shm"):
                Path(name).unlink(missing_ok=True)
            shutil.copyfile(backup, path)
            return
        server = create_engine(place.set(database="template1"), isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE {place.database}"))
            connection.execute(text(f"CREATE DATABASE {place.database}"))
        _succeed("pg_restore", "--exit-on-error", f"--dbname={_postgresql(place.database, self.url)}", backup)


def _postgresql(database: str | None, url: str) -> str:
    return make_url(url).set(drivername="postgresql", database=database).render_as_string(hide_password=False)


def _succeed(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise CommandError(f"{command[0]}: {done.stderr}")


def earlier_release(folder: Path) -> Path:
    """A tree with an earlier release, as `tools.packages.previous` writes it, whose commands can be forked.

    Its entry points have to be found as those of an installed distribution are.
    """
    previous.write(folder)
    described = folder / "batchacct-0.0.9.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: batchacct\nVersion: {previous.VERSION}\n", encoding="ascii")
    setup = (folder / "setup.cfg").read_text(encoding="utf-8")
    found = re.search(r"^\[options\.entry_points\]\n((?:[^\[\n].*\n|\n)*)", setup, re.MULTILINE)
    assert found is not None
    groups = [line.removesuffix("=").strip() for line in found[1].splitlines()]
    lines = [f"[{line}]" if "=" not in line else line for line in groups if line and not line.startswith("#")]
    (described / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "tests").mkdir()
    for name in ("__init__.py", "forkserver.py"):
        shutil.copyfile(ROOT / "tests" / name, folder / "tests" / name)
    return folder


@contextmanager
def _clock(now: int) -> Iterator[None]:
    with mock.patch.dict(os.environ, {NOW_VARIABLE: str(now)}):
        yield


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[bool]:
    """A file system of its own on a folder, so that it can be full; whether that could be."""
    mounted = os.geteuid() == 0 and not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=False, capture_output=True
    ).returncode  # fmt: skip
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)
