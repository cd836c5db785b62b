"""A site to be interrupted: its logs and configuration, its commands as processes that can be killed, and what it comes to."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select

from batchacct.clock import NOW_VARIABLE
from batchacct.config import PATH_VARIABLE
from batchacct.demo.farm import write_logs
from batchacct.ledger.books import read_books
from batchacct.store.tables import identity, job, message, reject, usage, vo_mapping
from tests.apel_reader import read_message
from tests.pristine import with_schema

END_AT = 1_793_534_400
JOBS = 500
ROOT = Path(__file__).parents[2]

CONFIGURATION = """\
site = "TEST-SITE"

[database]
url = "{url}"

[[source]]
name = "lsf-master"
parser = "lsf"
paths = ["{logs}/lsb.acct*"]
cluster = "lsf1"

[[source]]
name = "ce-blah"
parser = "blah"
paths = ["{logs}/blahp.log-*"]

[ce]
"*.example.org:8443/cream-lsf-*" = "lsf1"

[[cluster]]
name = "lsf1"
machine_name = "lsf-master.example.org"
grid_queues = ["grid_*"]

[[benchmark]]
type = "HEPscore23"
value = 12.5

[[vo.rule]]
vo = "foo"
group = "x_FOO"

[publish]
path = "{outgoing}"
bunch = 25
"""


def farm_logs(folder: Path) -> Path:
    write_logs(folder, jobs=JOBS, seed=5, end_at=END_AT)
    return folder


@dataclass(frozen=True)
class Outcome:
    """What a site comes to; the same however often it was interrupted on the way."""

    jobs: int
    identities: int
    rejects: frozenset[tuple[object, ...]]
    outcomes: frozenset[tuple[object, ...]]
    totals: frozenset[tuple[object, ...]]
    published: frozenset[tuple[object, object]]


class Site:
    """`folder` takes configuration and outgoing messages; the schema is made at once."""

    def __init__(self, folder: Path, logs: Path, url: str, outgoing: Path | None = None) -> None:
        self.outgoing = outgoing or folder / "outgoing"
        folder.mkdir(parents=True, exist_ok=True)
        self.configuration = folder / "batchacct.toml"
        text = CONFIGURATION.format(url=url, logs=logs, outgoing=self.outgoing)
        self.configuration.write_text(text, encoding="utf-8")
        self.store = with_schema(url)

    def environment(self, crash_at: str = "") -> dict[str, str]:
        ours = {NOW_VARIABLE: str(END_AT), PATH_VARIABLE: str(self.configuration), "BATCHACCT_CRASH_AT": crash_at}
        return {**os.environ, **ours}

    @contextlib.contextmanager
    def running(self, *commands: str, crash_at: str = "") -> Iterator[subprocess.Popen[str]]:
        """The commands as a process, from the moment its work begins."""
        arguments = [sys.executable, "-m", "tests.crash.small_steps", *commands]
        with subprocess.Popen(
            arguments, cwd=ROOT, env=self.environment(crash_at), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process

    def run(self, *commands: str, crash_at: str = "") -> tuple[int, str]:
        """Exit status and standard error; a process that was killed has the status -9."""
        with self.running(*(commands or ("collect", "publish")), crash_at=crash_at) as process:
            _, told = process.communicate(timeout=120)
        return process.returncode, told

    def seconds(self) -> float:
        """How long all the work takes, uninterrupted."""
        with self.running("collect", "publish") as process:
            began = time.monotonic()
            _, told = process.communicate(timeout=120)
            assert process.returncode == 0, told
            return time.monotonic() - began

    def killed_after(self, seconds: float) -> bool:
        """Whether the work was still going on then, and was killed."""
        with self.running("collect", "publish") as process:
            try:
                _, told = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
            else:
                assert process.returncode == 0, told
        return process.returncode == -signal.SIGKILL

    def status(self) -> dict[str, object]:
        batchacct = Path(sys.executable).with_name("batchacct")
        told = subprocess.run(
            [batchacct, "status", "--json"], env=self.environment(), capture_output=True, text=True, check=True
        ).stdout
        values: dict[str, object] = json.loads(told)
        return values

    def messages(self) -> dict[str, bytes]:
        """The messages a sender would find: files that are not temporary, by name."""
        files = (p for p in self.outgoing.rglob("*") if p.is_file() and not p.name.endswith(".tmp"))
        return {p.name: p.read_bytes() for p in files}

    def published(self) -> Counter[tuple[object, object]]:
        """How often each record is in a message, by the receiver's key."""
        records = (r for payload in self.messages().values() for r in read_message(payload, now=END_AT))
        return Counter((r["LocalJobId"], r["EndTime"]) for r in records)

    def confirmed(self) -> tuple[int, int]:
        """(confirmed, all) messages of the outbox."""
        with self.store.reading() as connection:
            row = connection.execute(select(func.count(message.c.confirmed_at), func.count())).one()
        return row[0], row[1]

    def outcome(self) -> Outcome:
        """Everything that matters.  The books must balance, and no record may be published twice or stay behind."""
        published = self.published()
        assert not [key for key, times in published.items() if times > 1]
        with self.store.reading() as connection:
            books = read_books(connection)
            assert books.balanced, books.problems
            (out,) = books.destinations
            assert out.confirmed == out.publishable == len(published)
            vo = func.coalesce(identity.c.vo, vo_mapping.c.vo)
            totals = (
                select(vo, usage.c.outcome, func.count(), func.sum(job.c.wall_duration_s), func.sum(job.c.cpu_duration_s))
                .select_from(
                    usage.join(job, job.c.id == usage.c.job_id)
                    .outerjoin(identity, identity.c.id == usage.c.identity_id)
                    .outerjoin(vo_mapping, vo_mapping.c.id == usage.c.mapping_id)
                )
                .group_by(vo, usage.c.outcome)
            )
            outcomes = select(usage.c.outcome, usage.c.reason, func.count()).group_by(usage.c.outcome, usage.c.reason)
            rejects = select(reject.c.source, reject.c.path, reject.c.source_offset, reject.c.length, reject.c.reason)
            found = [tuple(row) for row in connection.execute(rejects)]
            assert len(found) == len(set(found))
            return Outcome(
                connection.scalar(select(func.count()).select_from(job)) or 0,
                connection.scalar(select(func.count()).select_from(identity)) or 0,
                frozenset(found),
                frozenset(tuple(row) for row in connection.execute(outcomes)),
                frozenset(tuple(map(str, row)) for row in connection.execute(totals)),
                frozenset(published),
            )

    def close(self) -> None:
        self.store.close()
