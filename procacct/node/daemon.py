"""The node daemon: reads what the kernel and the sensors tell, makes rows of it, and puts them into the spool.

One thread. In each round the events are read first, then the ended tasks, then the sensors' messages: so of every process whose
end is among the events all the rest is there, too (`procacct.node.waiting`). While there are many events it sleeps between two
rounds, as a wake-up costs the host more than an event; of few it reads at once, so that a short program can be seen in /proc.
"""

from __future__ import annotations

import logging
import selectors
import time
from collections.abc import Callable

from batchacct.notify import Notifier
from batchacct.reload import reload, tell_for_the_start
from batchacct.signals import END, Signals
from procacct.node.aggregation import Aggregation
from procacct.node.alone import Alone
from procacct.node.clocks import SECOND_NS, Clocks
from procacct.node.config import NodeConfig
from procacct.node.control import ControlServer
from procacct.node.control_requests import Requests
from procacct.node.group_memory import GroupMemory
from procacct.node.groups import Groups
from procacct.node.looking import Looking
from procacct.node.losses import OVERFLOW, UNSENT, USAGE_LOST, Losses
from procacct.node.objects import ObjectSets
from procacct.node.proc_files import boot_id, booted_s, forks_since_boot
from procacct.node.reloading import merged
from procacct.node.rescan import Rescan, rows_of_another_boot
from procacct.node.rows import VERSION, Row, Rows
from procacct.node.sources import Sources, write_policy
from procacct.node.spool import GROUPS, OBJECTS, PROCESSES, Spool
from procacct.node.state import Saved, State
from procacct.node.status import Prometheus, Status
from procacct.node.tree import Tree
from procacct.node.users import UserNames

log = logging.getLogger(__name__)

LONGEST_SLEEP_S = 1.0
SAVE_EVERY_NS = 2 * SECOND_NS
SAVE_SHARE = 400
"""The state is written so much more seldom than writing it takes: at most a quarter of a hundredth of the time."""


class Daemon:
    """Everything is opened when it is made.  Raises: ConfigError, BusyError for what cannot be opened and has to be."""

    def __init__(self, config: NodeConfig, read_again: Callable[[], NodeConfig] | None = None) -> None:
        """`read_again`: the configuration as it is then, for SIGHUP."""
        self._config = config
        self._read_again = read_again or (lambda: config)
        self._prompt = _Prompt(config.events.prompt_per_s)
        self._is_ended = self._has_begun = False
        boot = boot_id()
        now_ns = time.time_ns()
        spool = config.spool
        self.clocks = Clocks()
        self.rows = Rows(config.host_name, boot, UserNames().name_of, config.cluster)
        self.spool = Spool(
            spool.path,
            boot,
            rotate_bytes=spool.rotate_bytes,
            rotate_s=spool.rotate_s,
            most_bytes=spool.most_bytes,
            keep_s=config.spool_keep_s,
        )
        self.state = State(config.state)
        self.objects = ObjectSets(config.host_name, lambda row: self.spool.add(OBJECTS, row), lambda: int(time.time()))
        self.sums = Aggregation(config.sum_above_per_s, lambda row: self.spool.add(PROCESSES, row))
        self.out = _Out(self.spool, self.sums, outside_jobs=config.outside_jobs)
        self.groups = Groups(
            boot, config.host_name, rules=config.group, memory=GroupMemory(config.state / "groups"), start_of=self._start_of
        )
        self.sources = Sources(config, self.objects)
        try:
            self.looking = Looking(self.clocks, config.arguments)
            self.tree = Tree(self.rows, self.looking, self.groups, self.out, hears_ends=self.sources.taskstats is not None)
            self.rescan = Rescan(self.tree, self.rows, self.looking)
            self.alone = Alone(self.tree, self.looking) if self.sources.connector is None else None
            self.losses = Losses(self.rows, self.spool, now_ns, self.sources.heard)
            self.status = Status(self)
            requests = Requests(self.groups, stop=self.stop, more_status=self.status.as_dict)
            self.control = ControlServer(config.control.socket, requests.answer)
        except BaseException:
            self.sources.close()
            raise
        self._prometheus = None if config.prometheus_file is None else Prometheus(config.prometheus_file, self.status)
        self._boot = boot
        self._to_rescan = False
        self._timers: list[_Timer] = []
        self._watchdog: _Timer | None = None

    def begin(self) -> None:
        """Takes up what an earlier daemon left, and what runs."""
        write_policy(self._config)
        now_ns = time.time_ns()
        saved = self.state.load()
        connector = self.sources.connector
        if saved is not None:
            if saved.boot_id == self._boot:
                self.spool.number_from(saved.numbers)
            written = self.spool.written_since(saved.boot_id, saved.position)
            lost_sums = sum(count for key, count in saved.sums.items() if key not in written)
            self.spool.owe(saved.untold + lost_sums, saved.alive_ns)
            if saved.boot_id == self._boot:
                if connector is not None:
                    connector.go_on_from(saved.last_seen)
                    connector.hear_each_cpu()
                    self.rescan.take_up(saved.processes, written, now_ns)
            else:
                rows = Rows(self.rows.host, saved.boot_id, UserNames().name_of, self._config.cluster)
                for row in rows_of_another_boot(rows, saved.processes, written, now_ns):
                    self.spool.add(PROCESSES, row)
                if not saved.stopped:
                    self.spool.add(PROCESSES, self.losses.host_down(saved.saved_ns, (booted_s() or 0) * SECOND_NS))
        if connector is not None and not self.tree.processes:
            self.rescan.look_around(now_ns)
        self.groups.begin(now_ns)
        self.round()
        if saved is not None and saved.boot_id == self._boot:
            self._tell_down(saved, now_ns)
        elif saved is None and (alive_ns := self.state.last_alive_ns()) is not None:
            self.spool.add(PROCESSES, self.losses.down(alive_ns, now_ns, 0))  # as after a power cut: nobody knows what ran
        self.out.groups(self.groups.take_records())
        self._save(now_ns)
        self.state.wait()
        self._timers = self._made_timers(now_ns)
        self._has_begun = True
        log.info(
            "%s: %d processes run; process events %s, taskstats %s", self.rows.host, len(self.tree.processes),
            "heard" if connector else "not heard", "heard" if self.sources.taskstats else "not heard",
        )  # fmt: skip

    def _tell_down(self, saved: Saved, now_ns: int) -> None:
        """A gap row of the time in which no daemon ran.

        Some kernels count events also while nobody listens, all count forks: the larger number was lost at least.
        """
        lost = 0 if self.sources.connector is None else self.sources.connector.lost
        self.losses.forgive(OVERFLOW, lost)
        forks = forks_since_boot()
        if forks is not None and saved.forks is not None:
            lost = max(lost, forks - saved.forks)
        self.spool.add(PROCESSES, self.losses.down(saved.alive_ns, now_ns, lost))

    def run(self, signals: Signals, notifier: Notifier) -> None:
        """Until it is told to end."""
        selector = selectors.EpollSelector()
        for source in (self.sources.connector, self.sources.sensors, self.control):
            if source is not None:
                selector.register(source, selectors.EVENT_READ)
        for one in self.sources.taskstats.sockets if self.sources.taskstats else []:
            selector.register(one, selectors.EVENT_READ)
        notifier.ready()
        if notifier.watchdog_s:
            self._watchdog = _Timer(int(notifier.watchdog_s * SECOND_NS / 2), lambda _: notifier.watchdog(), 0)
            self._timers.append(self._watchdog)
        while not self._is_ended:
            ready = selector.select(self._until_due_s())
            if ready and not self._prompt.is_allowed():
                time.sleep(self._config.events.drain_ms / 1000)
            self.round()
            number = signals.wait(0)
            if number in END:
                break
            if number is not None:
                reload(lambda: self.take_over(self._read_again()), notifier)
        notifier.stopping()
        selector.close()

    def stop(self) -> None:
        self._is_ended = True

    def take_over(self, changed: NodeConfig) -> None:
        """Goes on by another configuration, as far as that can be done without a start."""
        keys, waiting = merged(self._config, changed)
        tell_for_the_start(waiting)
        now_ns = time.time_ns()
        self._config = keys
        write_policy(keys)
        self.sources.reader.may_stand_for(keys.sensor.most_weight)
        self.looking.arguments = keys.arguments
        self.sums.above_per_s = keys.sum_above_per_s
        self.out.outside_jobs = keys.outside_jobs
        self.spool.bound(
            rotate_bytes=keys.spool.rotate_bytes,
            rotate_s=keys.spool.rotate_s,
            most_bytes=keys.spool.most_bytes,
            keep_s=keys.spool_keep_s,
        )
        self.groups.take_rules(keys.group, now_ns)
        self._prompt = _Prompt(keys.events.prompt_per_s)
        self._timers = self._made_timers(now_ns)

    def round(self) -> None:
        """Reads what is there, and does what is due."""
        now_mono = self.clocks.take()
        to_real_ns = self.clocks.to_real_ns
        connector, taskstats, tree = self.sources.connector, self.sources.taskstats, self.tree
        tree.waiting.now_ns = now_mono
        events, all_read = connector.drain() if connector is not None else ([], True)
        if taskstats is not None:
            tasks, all_ends = taskstats.drain()
            tree.waiting.add_tasks(tasks)
            all_read = all_read and all_ends
        messages, all_told = self.sources.sensors.drain(to_real_ns)
        if self.alone is not None:
            self.alone.take(messages)
            self.rescan.settle(now_mono + to_real_ns)
        else:
            tree.waiting.add_told(messages)
            if events:
                self.status.lag_ns = max(now_mono - events[0][3], 0)
            tree.events(events)
            tree.settle(now_mono, all_read=all_read and all_told)
            if all_read:
                self.rescan.settle(now_mono + to_real_ns)
        self.control.turn()
        self._do_due(now_mono + to_real_ns)
        self.spool.flush(now_mono + to_real_ns)

    def end(self) -> None:
        """The last round; what runs is kept for the next start. One that did not begin leaves what the one before it kept."""
        if self._has_begun:
            self._keep()
        self.control.close()
        self.sources.close()
        self.state.close()

    def _keep(self) -> None:
        self.round()
        now_ns = time.time_ns()
        self.sums.flush()
        self._tell_losses(now_ns)
        self.out.groups(self.groups.take_records())
        self.groups.save(now_ns)
        self.spool.close()
        self._save(now_ns, stopped=True)
        self._note_alive(now_ns)

    def _start_of(self, pid: int) -> int | None:
        process = self.tree.processes.get(pid)
        return None if process is None else process.fork_ns

    def _made_timers(self, now_ns: int) -> list[_Timer]:
        keys = self._config
        timers = [
            _Timer(SECOND_NS, self._each_second, now_ns),
            _Timer(int(keys.events.rescan_s * SECOND_NS), self._rescan_if_lost, now_ns),
            _Timer(int(keys.spool.sync_s * SECOND_NS), lambda _: self.spool.sync(), now_ns),
            _Timer(int(keys.sum_s * SECOND_NS), lambda _: self.sums.flush(), now_ns),
        ]
        self._save_timer = _Timer(SAVE_EVERY_NS, self._save, now_ns)
        if (prometheus := self._prometheus) is not None:
            timers.append(_Timer(int(keys.prometheus_s * SECOND_NS), lambda _: prometheus.write(), now_ns))
        return [*timers, self._save_timer, *([] if self._watchdog is None else [self._watchdog])]

    def _until_due_s(self) -> float:
        now_ns = time.time_ns()
        return min(LONGEST_SLEEP_S, max(0.0, min(timer.due_ns - now_ns for timer in self._timers) / SECOND_NS))

    def _do_due(self, now_ns: int) -> None:
        for timer in self._timers:
            timer.do(now_ns)

    def _each_second(self, now_ns: int) -> None:
        self._note_alive(now_ns)
        self._tell_losses(now_ns)
        self.groups.tick(now_ns)
        self.out.groups(self.groups.take_records())
        self.sums.forget_quiet(now_ns // SECOND_NS)
        if self.alone is not None:
            self.rescan.check_gone()
        else:
            self.rescan.check_leaders()

    def _note_alive(self, now_ns: int) -> None:
        connector = self.sources.connector
        self.state.alive(self._boot, now_ns, {} if connector is None else connector.last_seen)

    def _tell_losses(self, now_ns: int) -> None:
        connector, taskstats = self.sources.connector, self.sources.taskstats
        found: list[Row | None] = []
        lost = 0 if connector is None else connector.lost
        before = self.losses.gaps
        since_ns = self.losses.clean_ns(OVERFLOW)
        found.append(self.losses.note(OVERFLOW, lost, now_ns))
        if self.losses.gaps > before:
            self._to_rescan = True
            self.groups.lost(since_ns, now_ns)
        if taskstats is not None:
            found.append(self.losses.note(USAGE_LOST, self.tree.without_usage, now_ns))
        found.append(self.losses.note(UNSENT, self.sources.reader.unsent, now_ns))
        found.append(self.losses.of_spool(now_ns))
        for row in found:
            if row is not None:
                self.spool.add(PROCESSES, row)

    def _rescan_if_lost(self, now_ns: int) -> None:
        if self._to_rescan:
            self._to_rescan = False
            self.rescan.look_around(now_ns)

    def _save(self, now_ns: int, *, stopped: bool = False) -> None:
        began = time.monotonic_ns()
        self.spool.flush(now_ns)
        self.state.save(self._boot, self.spool, self.tree.processes.values(), now_ns, self.sums.pending, stopped=stopped)
        took_ns = time.monotonic_ns() - began
        if self._timers:
            self._save_timer.every_ns = max(SAVE_EVERY_NS, SAVE_SHARE * took_ns)


class _Out:
    """Rows of processes by way of the sums, records of groups straight into the spool."""

    def __init__(self, spool: Spool, sums: Aggregation, *, outside_jobs: bool) -> None:
        self._spool, self._sums, self.outside_jobs = spool, sums, outside_jobs
        self.left_out = 0

    def process(self, row: Row) -> None:
        if not self.outside_jobs and "lrms" not in row:
            self.left_out += 1
        else:
            self._sums.add(row)

    def groups(self, records: list[Row]) -> None:
        for record in records:
            self._spool.add(GROUPS, {"v": VERSION, **record})


class _Timer:
    """Something that is done every so often."""

    def __init__(self, every_ns: int, action: Callable[[int], None], now_ns: int) -> None:
        self.every_ns, self._action = every_ns, action
        self.due_ns = now_ns + every_ns

    def do(self, now_ns: int) -> None:
        if now_ns >= self.due_ns or self.due_ns - now_ns > self.every_ns:  # the clock may have been set back
            self.due_ns = now_ns + self.every_ns
            self._action(now_ns)


class _Prompt:
    """Whether events are read at once: so many times a second."""

    def __init__(self, per_s: int) -> None:
        self._per_s = per_s
        self._left = float(per_s)
        self._at = time.monotonic()

    def is_allowed(self) -> bool:
        now = time.monotonic()
        self._left = min(self._per_s, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
