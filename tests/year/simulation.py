"""A year as its site lives through it: each day logs are turned, read, joined and published, and now and then something happens."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from random import Random

from batchacct.demo.lines import LsfJob, lsf_line
from batchacct.errors import PublishError, StoreError
from tests.faults.receiver import Queue
from tests.services.brokers import Broker
from tests.year.books import Rejects, sums_of_month
from tests.year.damage import Damage, damaged
from tests.year.logs import Logs
from tests.year.plan import Plan
from tests.year.receiving import Receiver
from tests.year.runs import DAY_S, HOUR_S, Farms, Line, Truth, month_of
from tests.year.site import Site, earlier_release

KILLED = -9
OF_THE_COLLECTOR = (
    "append.before-commit", "append.after-position", "append.after-commit", "follow.located", "follow.before-parse",
    "follow.after-parse", "follow.after-append", "follow.state",
)  # fmt: skip
OF_THE_PUBLISHER = ("join.before-commit", "build.before-commit", "send.sealed", "send.handed-over", "send.before-confirm")
DONE, HELD = 0, 13
"""Exit statuses: all of it, and what `db archive` says of a month it holds back and `doctor` of an error."""


@dataclass(slots=True)
class Month:
    """A line of the ledger."""

    counts: Counter[str] = field(default_factory=Counter)
    events: list[str] = field(default_factory=list)


class Simulation:
    """`site` has an empty database, whose schema the earlier release makes."""

    def __init__(self, plan: Plan, site: Site, truth: Truth, *, broker: Broker, queue: str, seed: int) -> None:
        self.plan, self.site, self.broker, self.truth = plan, site, broker, truth
        self.chance = Random(seed)
        self.logs = Logs(site.folder / "logs", plan.first, seed)
        away = plan.at(plan.ce_log_late[0]), plan.at(plan.ce_log_late[1], 1)
        until = plan.at(plan.last + dt.timedelta(days=1))
        self.farms = Farms(seed, plan.tzinfo, until, plan.jobs_a_day, truth, away)
        self.receiver = Receiver(Queue(broker, queue))
        self.months: dict[str, Month] = {}
        self.damages: list[Damage] = []
        self.rejects = Rejects()
        self.doctor = ""
        self._saved_rejects = Rejects()
        self._is_away = self._is_upgraded = False

    def run(self, progress: Callable[[str], None] = lambda _: None) -> None:
        """All days, and those after it in which what waits goes out."""
        with ExitStack() as stack:
            stack.enter_context(self.site.release(earlier_release(self.site.folder / "earlier")))
            self.site.good("db", "create", now=self.plan.at(self.plan.first))
            for number in range(self.plan.days):
                day = self.plan.first + dt.timedelta(days=number)
                if day == self.plan.upgrade:
                    stack.close()
                    stack.enter_context(self.site.release())
                    self._upgrade(day)
                self._live(day, is_first=number == 0)
                progress(f"{day} {sum(self.truth.jobs.values())} jobs")
            self._end()
            self.site.close()

    def month(self, day: dt.date) -> Month:
        return self.months.setdefault(f"{day:%Y-%m}", Month())

    def _happens(self, day: dt.date, what: str) -> None:
        self.month(day).events.append(f"{day.day}: {what}")

    def _live(self, day: dt.date, *, is_first: bool) -> None:
        plan, following = self.plan, day + dt.timedelta(days=1)
        midnight, noon, end = plan.at(day), plan.at(day, 12), plan.at(following)
        if changed := plan.clocks_changed(day):
            self._happens(day, changed)
        if (day.month, day.day) == (2, 29):
            self._happens(day, "leap day")
        if not is_first:
            self.logs.turn(day, midnight)
        lines = list(self.farms.submitted(midnight, end - midnight))
        self.logs.add([*lines, *self._odd(day, lines)])
        counts = self.month(day).counts
        counts["lines"] += self.logs.go_on(noon)
        self._change(day, noon)
        self._work(day, noon)
        counts["lines"] += self.logs.go_on(end)
        if day == plan.restore[0]:
            self._save(day)
        if day.day == plan.month_closed_after and day > plan.first + dt.timedelta(days=plan.month_closed_after):
            self._close_month(day, plan.at(day, 15))

    def _odd(self, day: dt.date, lines: list[Line]) -> Iterator[Line]:
        """What is written besides: damaged lines, those of a wrong clock, copies of what was there before."""
        for line in lines:
            if line.log != "lcmaps" and self.chance.random() < self.plan.damaged_share:
                broken = damaged(line.log, line.content, self.chance)
                self.damages.append(broken)
                yield Line(line.at, line.log, broken.unit + b"\n")
        if (again := self.plan.hour_that_comes_twice(day)) is not None:
            yield from self.farms.deleted(again - 600, again + 600)
        if day in self.plan.wrong_clock:
            yield from self._wrong_clock(day)
        if day in self.plan.copied_back:
            pieces = self.logs.logs["sge"].last(30)
            self._happens(day, f"{len(pieces)} lines of SGE's log were copied back by hand")
            written_again = {piece.rstrip(b"\n") for piece in pieces}
            self.damages += [one for one in self.damages if one.log == "sge" and one.unit in written_again]
            for piece in pieces:
                yield Line(self.plan.at(day, 1), "sge", piece)

    def _wrong_clock(self, day: dt.date) -> Iterator[Line]:
        at = self.plan.at(day, 9)
        number = 900_000 + day.toordinal() % 1000
        ahead = LsfJob("long", "phys001", 20_001, at + 400 * DAY_S, at - 900, at - 600, number, cpu_us=(12_000_000, 0),
                       exec_hosts=("lxb0001.example.org",), memory_kib=8, swap_kib=8)  # fmt: skip
        back = LsfJob("long", "phys001", 20_001, at, at - 900, at + 600, number + 1, cpu_us=(12_000_000, 0),
                      exec_hosts=("lxb0001.example.org",), memory_kib=8, swap_kib=8)  # fmt: skip
        yield Line(at, "lsf", lsf_line(ahead))
        yield Line(at, "lsf", lsf_line(back))
        self.truth.did_not(ahead.event_at, "in the future")
        self.damages.append(Damage("lsf", "clock set back", lsf_line(back).rstrip(b"\n")))
        self._happens(day, "a job that ends in 400 days, and one that ended before it began: wrong clocks")

    def _change(self, day: dt.date, noon: int) -> None:
        """What begins or ends at noon."""
        for first, last in self.plan.outages:
            if day == first:
                self.broker.kill()
                self._is_away = True
                self._happens(day, f"no broker until {last}")
            elif day == last:
                self.broker.begin()
                self.broker.wait()
                self._is_away = False
        if day == self.plan.full_disk[0]:
            self._happens(
                day, "the disk of the database is full" if self.site.fill() else "(no disk of its own that could be full)"
            )
        elif day == self.plan.full_disk[1]:
            self.site.make_room()
        if day == self.plan.restore[1]:
            self._restore(day, noon)
        if day == self.plan.ce_log_late[1]:
            self._happens(day, f"the log of a CE, late since {self.plan.ce_log_late[0]}")

    def _work(self, day: dt.date, noon: int) -> None:
        """What is there is read and published; killed now and then, and begun again."""
        is_killed = (day - self.plan.first).days % self.plan.killed_every == self.plan.killed_every - 1
        if self.site.is_full:
            status, said = self.site.run("collect", "--once", now=noon)
            assert status == StoreError.exit_code, said
            assert "make room" in said.lower(), said
            return
        if is_killed:
            self._killed(day, OF_THE_COLLECTOR, "collect", noon)
        self._collect(noon)
        at = noon + HOUR_S
        if is_killed and not self._is_away:
            self._killed(day, OF_THE_PUBLISHER, "publish", at)
        if (day - self.plan.first).days % self.plan.published_every == 0:
            self._publish(day, at)
        self.month(day).counts["rejects"] += self.rejects.read(self.site)

    def _killed(self, day: dt.date, places: tuple[str, ...], command: str, now: int) -> None:
        place = f"{self.chance.choice(places)}:{self.chance.randrange(1, 4)}"
        status, said = self.site.run(command, "--once", now=now, crash_at=place)
        assert status in {DONE, KILLED}, said
        if status == KILLED:
            self.month(day).counts[f"{command} killed"] += 1

    def _collect(self, now: int) -> None:
        if self._is_upgraded:
            self.site.collect(now)
        else:
            self.site.good("collect", "--once", now=now)

    def _publish(self, day: dt.date, now: int) -> None:
        """Only in an outage it fails."""
        failed = False
        if self._is_upgraded:
            try:
                self.site.publish(now)
            except PublishError:
                failed = True
        else:
            status, said = self.site.run("publish", "--once", now=now)
            assert status in {DONE, PublishError.exit_code}, said
            failed = status != DONE
        assert failed == self._is_away
        if not self._is_away:
            self.month(day).counts += self.receiver.take(now)

    def _upgrade(self, day: dt.date) -> None:
        now = self.plan.at(day, 8)
        status, said = self.site.run("collect", "--once", now=now)
        assert status == 8, said
        assert "batchacct db migrate" in said, said
        self.site.good("db", "migrate", now=now)
        self._is_upgraded = True
        self._happens(day, "upgrade, with all that was there")

    def _save(self, day: dt.date) -> None:
        """Late in the evening, as a cron job does."""
        self.site.save(self.site.folder / "backup")
        self._saved_rejects = self.rejects.copy()
        self._happens(day, "backup")

    def _restore(self, day: dt.date, noon: int) -> None:
        """As docs/how-to/backup.md has it; collecting before publishing is what follows anyway."""
        self.site.close()
        self.site.restore(self.site.folder / "backup")
        self.month(day).counts["rejects"] -= len(self.rejects.by_id) - len(self._saved_rejects.by_id)
        self.rejects = self._saved_rejects
        self.site.good("db", "migrate", now=noon)
        self.site.good("db", "partition", now=noon)
        self.site.good("doctor", now=noon, statuses=(DONE, HELD))
        self._happens(day, f"database lost, restored as of the evening of {self.plan.restore[0]}")

    def _close_month(self, day: dt.date, now: int) -> None:
        """What is done once a month, of the month before."""
        before = day.replace(day=1) - dt.timedelta(days=1)
        month = f"{before:%Y-%m}"
        self.site.good("db", "partition", now=now)
        self.site.good("audit", "--from", f"{month}-01", "--to", f"{before}", now=now)
        self.site.good("report", "monthly", month, "--output", f"{month}.html", now=now)
        told = sums_of_month(self.site, month, now)
        wanted = self.truth_of(month)
        assert told == wanted, (month, told, wanted)
        self.site.good("sync", "--write-to", "sync", now=now)
        self.site.good("db", "archive", now=now, statuses=(DONE, HELD))
        self.site.good("db", "purge", now=now)

    def truth_of(self, month: str) -> Counter[tuple[object, str]]:
        """Jobs, wallclock and CPU by VO of those that ended in the month."""
        sums: Counter[tuple[object, str]] = Counter()
        for (_, _, end_at), row in self.truth.records.items():
            assert isinstance(end_at, int)
            if month_of(end_at) == month:
                wall_s, cpu_s, vo = row[1], row[2], row[6]
                assert isinstance(wall_s, int)
                assert isinstance(cpu_s, int)
                sums.update({(vo, "jobs"): 1, (vo, "wall"): wall_s, (vo, "cpu"): cpu_s})
        return sums

    def _end(self) -> None:
        """Nothing more is written; what waits for an identity waits no longer."""
        day = self.plan.last
        end = self.plan.at(day + dt.timedelta(days=1))
        self.logs.finish(end - 1)
        for days in (1, 5):
            now = end + days * DAY_S
            self._collect(now)
            self._publish(day, now + HOUR_S)
        self.month(day).counts["rejects"] += self.rejects.read(self.site)
        self.site.good("audit", "--from", str(self.plan.first), "--to", str(day), now=now + HOUR_S)
        self.doctor = self.site.good("doctor", now=now + HOUR_S, statuses=(DONE, HELD))
