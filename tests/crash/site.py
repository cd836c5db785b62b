"""A site to be interrupted: its logs and configuration, its commands as processes that can be killed, and what it comes to."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select

from batchacct.clock import NOW_VARIABLE
from batchacct.config import PATH_VARIABLE
from batchacct.demo.farm import write_logs
from batchacct.ledger.books import read_books
from batchacct.store.tables import identity, job, message, reject, usage, vo_mapping
from tests.apel_reader import read_message
from tests.forks import Forked, Forks
from tests.pristine import with_schema

END_AT = 1_793_534_400
JOBS = 500

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

    def __init__(self, folder: Path, logs: Path, url: str, forks: Forks, outgoing: Path | None = None) -> None:
        self._forks = forks
        self.folder = folder
        self.log = folder / "log"
        self.outgoing = outgoing or folder / "outgoing"
        folder.mkdir(parents=True, exist_ok=True)
        self.configuration = folder / "batchacct.toml"
        text = CONFIGURATION.format(url=url, logs=logs, outgoing=self.outgoing)
        self.configuration.write_text(text, encoding="utf-8")
        self.store = with_schema(url)

    def environment(self, crash_at: str = "") -> dict[str, str]:
        return {NOW_VARIABLE: str(END_AT), PATH_VARIABLE: str(self.configuration), "BATCHACCT_CRASH_AT": crash_at}

    def start(self, *commands: str, crash_at: str = "") -> Forked:
        """The commands as a process; what it says is appended to `log`."""
        return self._forks.start("tests.crash.small_steps", *commands, log=self.log, environment=self.environment(crash_at))

    def run(self, *commands: str, crash_at: str = "") -> tuple[int, str]:
        """Exit status and what was said; a process that was killed has the status -9."""
        self.log.unlink(missing_ok=True)
        status = self.start(*(commands or ("collect", "publish")), crash_at=crash_at).wait(120)
        return status, self.log.read_text(encoding="utf-8")

    def seconds(self) -> float:
        """How long all the work takes, uninterrupted."""
        began = time.monotonic()
        status, told = self.run()
        assert status == 0, told
        return time.monotonic() - began

    def killed_after(self, seconds: float) -> bool:
        """Whether the work was still going on then, and was killed."""
        process = self.start("collect", "publish")
        if process.has_ended(seconds):
            assert process.wait() == 0, self.log.read_text(encoding="utf-8")
            return False
        process.kill()
        return process.status == -signal.SIGKILL

    def status(self) -> dict[str, object]:
        """What `batchacct status --json` says."""
        told = self.folder / "status.json"
        told.unlink(missing_ok=True)
        process = self._forks.start("batchacct", "status", "--json", log=told, environment=self.environment())
        assert process.wait() == 0, told.read_text(encoding="utf-8")
        values: dict[str, object] = json.loads(told.read_text(encoding="utf-8"))
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
