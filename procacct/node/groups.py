"""Groups of processes: a child belongs to every group of its parent, and nobody leaves one unasked.

Asked for each fork, exec and exit of the node: for a process in no group that is a look into a dictionary. A process may be in
several groups. A membership has an interval, and is known by pid and start of the process: a pid that comes again is another
process, also where the end of the former one was never told.

Times are Unix ns, as whoever calls converts the kernel's; the start of a process is when its parent forked it.
"""

from __future__ import annotations

import logging
import pwd
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from procacct.node import group_processes as proc
from procacct.node.group_memory import EndedLines, GroupMemory
from procacct.node.group_model import BY_HAND, SECOND_NS, Group, Member, Membership, Memberships, Record
from procacct.node.group_rules import GroupRule, Rule, ready

log = logging.getLogger(__name__)

SAVE_EVERY_NS = 10 * SECOND_NS
MOST_GAPS = 100
ROOT = 0
SLACK_NS = 2 * proc.TICK_NS
"""A start that /proc tells, in clock ticks, can be so much before the time of its fork."""
STEP_NS = 2 * SECOND_NS
"""Where only the wall clock tells whether a process is the one that was known: that may have been set by so much."""


class JobFile:
    """Lines of the job file: group, pid, start and end (seconds, `-` of what runs), tabs between.

    Who left a group by hand is not in it: what such a process used cannot be divided. The start is that of the process, not when
    it joined: by it a record of BSD accounting is found.
    """

    def __init__(self, head: list[bytes], ended: EndedLines | None, running: list[bytes]) -> None:
        self._head, self._ended, self._running = head, ended, running

    def __iter__(self) -> Iterator[bytes]:
        return chain(self._head, self._ended or (), self._running)

    def close(self) -> None:
        if self._ended is not None:
            self._ended.close()


class Groups(Memberships):
    """The groups of a node."""

    def __init__(
        self,
        boot_id: str,
        host: str,
        *,
        rules: Iterable[GroupRule] = (),
        memory: GroupMemory | None = None,
        user_name: Callable[[int], str | None] | None = None,
        start_of: Callable[[int], int | None] = lambda _pid: None,
    ) -> None:
        """`start_of` knows when a process was forked (Unix ns), better than /proc does; None for one it does not know."""
        super().__init__(boot_id, host)
        self.gaps: list[tuple[int, int]] = []
        """Times (Unix ns) of which events are missing: who was forked then, and has lost its parent, may be in no group."""
        self.undecided = 0
        """Processes that ended before a rule could look at them."""
        self.unsaved: str | None = None
        """Why the state could not be written, when that was tried last."""
        self._set_rules(rules)
        self._memory = memory
        self._user_name = user_name or _name_of_user
        self._start_of = start_of
        self._next = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // SECOND_NS
        self._changed, self._saved_ns = False, 0

    def take_rules(self, rules: Iterable[GroupRule], now_ns: int) -> None:
        """Goes on by other rules, which look at what runs already, too. Who is in a group of a former rule stays in it."""
        self._set_rules(rules)
        self._take_in_running({one.pid: one for one in proc.all_running() if not one.has_ended}, now_ns, now_ns)

    def _set_rules(self, rules: Iterable[GroupRule]) -> None:
        self._rules: tuple[Rule, ...] = tuple(map(ready, rules))
        self._environment = any(rule.needs_environment for rule in self._rules)

    def on_fork(self, parent_pid: int, child_pid: int, at_ns: int) -> None:
        """A process was made: it joins the groups of its parent.

        It may be a member already: somebody put it into a group before this was told. Else the end of the former one was lost.
        """
        child = self.of.get(child_pid)
        if child is not None and abs(child.start_ns - at_ns) > SLACK_NS:
            self._gone(child_pid, None, at_ns)
            child = None
        parent = self.of.get(parent_pid)
        if parent is not None:
            self.inherit(parent, child or Member(child_pid, at_ns), at_ns)
            self._changed = True

    def on_exec(self, pid: int, program: str | None, at_ns: int, facts: proc.Facts | None = None) -> None:
        """A process executes a program (its resolved path, if known): rules look at it.

        Without `facts` they are read from /proc, and only if the program may be one of a rule.
        """
        for rule in self._rules:
            if not rule.may_take(program) or self._is_in(pid, rule):
                continue
            if facts is None and rule.needs_facts:
                facts = proc.facts_of(pid, environment=self._environment)
                if facts is None:
                    self.undecided += 1
                    return
            if facts is None or rule.takes(facts, self._user_name):
                self._join_rule(rule, pid, at_ns)

    def on_exit(self, pid: int, at_ns: int) -> list[Record]:
        """A process ended. Returns the records of all memberships that ended since the last call, its own among them."""
        if pid in self.of:
            self._gone(pid, at_ns, at_ns)
        return self.take_records() if self._records else []

    def create(self, name: str | None, user_id: int, at_ns: int, *, made_by: str = BY_HAND, is_own: bool = False) -> Group:
        """A new group, without members."""
        self._next += 1
        owner = self._user_name(user_id) or str(user_id)
        group = Group(f"{self.boot_id.replace('-', '')[:8]}.{self._next}", name, made_by, owner, user_id, at_ns, is_own)
        self.by_id[group.id] = group
        self._changed = True
        return group

    def add(self, group: Group, pid: int, at_ns: int) -> bool:
        """A process joins by hand; False if it is in the group already, or there is no such process."""
        if pid in group.pids:
            return False
        member = self._member(pid)
        if member is None:
            return False
        self.join(member, group, at_ns, inherited=False)
        self._changed = True
        return True

    def remove(self, group: Group, pid: int, at_ns: int) -> bool:
        """A process leaves by hand, its children stay; False if it is not in the group."""
        if pid not in group.pids:
            return False
        self.leave(self.of[pid], group, at_ns)
        self._changed = True
        return True

    def dissolve(self, group: Group, at_ns: int) -> None:
        """All leave, and the group is no more."""
        for pid in list(group.pids):
            self.remove(group, pid, at_ns)
        self.by_id.pop(group.id, None)
        self._changed = True

    def job_file(self, user_id: int | None = None) -> JobFile:
        """The job file of a user's groups, or of all; to be closed."""
        seen = [group for group in self.by_id.values() if user_id in (None, group.user_id)]
        head = [f"# group {one.id} {one.name or '-'} made by {one.made_by}, of {one.owner}\n".encode() for one in seen]
        running = [
            f"{group.id}\t{member.pid}\t{member.start_ns // SECOND_NS}\t-\n".encode()
            for group in seen
            for member, _ in self.members_of(group)
        ]
        return JobFile(head, self._memory.ended(user_id) if self._memory else None, running)

    def begin(self, now_ns: int) -> None:
        """Takes up what was written before, then looks at what runs.  Call it once events are listened to."""
        state = self._memory.load() if self._memory else None
        if state is not None:
            try:
                self._restore(state, now_ns)
            except (KeyError, TypeError, ValueError) as error:
                log.warning("the groups that were written before cannot be used, and are given up: %r in them", error)
                self.of, self.by_id, self.gaps = {}, {}, []
        self._look_around(now_ns, self.gaps[-1][0] if self.gaps else now_ns)
        self.save(now_ns)

    def lost(self, from_ns: int, until_ns: int) -> None:
        """Events between these times are missing: notes the gap, and looks at what runs."""
        self.gaps = [*self.gaps[1 - MOST_GAPS :], (from_ns, until_ns)]
        self._look_around(until_ns, from_ns)
        self._changed = True

    def tick(self, now_ns: int) -> None:
        """To be called every second or so: saves what changed without anybody's hand."""
        if self._changed and now_ns - self._saved_ns >= SAVE_EVERY_NS:
            self.save(now_ns)

    def save(self, now_ns: int) -> None:
        """Writes the state; where that fails `unsaved` says why, and it is tried again."""
        self._saved_ns = now_ns
        if self._memory is None:
            return
        try:
            self._memory.save(self._state(now_ns))
        except OSError as error:
            if self.unsaved is None:
                log.warning("the groups cannot be written to %s: %s. They are lost if the daemon ends", self._memory.folder, error)
            self.unsaved = str(error)
        else:
            self.unsaved, self._changed = None, False

    def _member(self, pid: int) -> Member | None:
        """The process, known already or as /proc shows it; None if there is none."""
        if pid in self.of:
            return self.of[pid]
        found = proc.running(pid)
        if found is None or found.has_ended:
            return None
        return Member(pid, self._start_of(pid) or proc.start_ns(found.start_ticks), found.start_ticks)

    def _gone(self, pid: int, left_ns: int | None, found_ns: int) -> None:
        member = self.forget(pid, left_ns, found_ns)
        self._changed = True
        for one in member.memberships:
            self._note_ended(member, one.group, left_ns or found_ns)

    def _note_ended(self, member: Member, group: Group, end_ns: int) -> None:
        if self._memory is not None:
            try:
                self._memory.note_ended(group.id, member.pid, member.start_ns // SECOND_NS, end_ns // SECOND_NS, group.user_id)
            except OSError as error:
                self.unsaved = str(error)

    def _is_in(self, pid: int, rule: Rule) -> bool:
        member = self.of.get(pid)
        return member is not None and any(one.group.made_by == rule.made_by for one in member.memberships)

    def _join_rule(self, rule: Rule, pid: int, at_ns: int) -> Membership | None:
        member = self._member(pid)
        if member is None:
            self.undecided += 1
            return None
        group = None if rule.each else next((one for one in self.by_id.values() if one.made_by == rule.made_by), None)
        if group is None:
            group = self.create(rule.name, ROOT, at_ns, made_by=rule.made_by, is_own=rule.each)
        self._changed = True
        return self.join(member, group, at_ns, inherited=False)

    def _look_around(self, now_ns: int, since_ns: int) -> None:
        """Forgets who is gone, and takes in who belongs to a group and is not known, forked since `since_ns` perhaps."""
        found = {one.pid: one for one in proc.all_running() if not one.has_ended}
        for pid in [pid for pid, member in self.of.items() if not _is_same(member, found.get(pid))]:
            self._gone(pid, None, now_ns)
        self._take_in_running(found, now_ns, since_ns)

    def _take_in_running(self, found: dict[int, proc.Running], now_ns: int, since_ns: int) -> None:
        fresh: set[Membership] = set()
        for one in sorted(found.values(), key=lambda one: (one.start_ticks, one.pid)):
            if one.pid not in self.of:
                self._take_in(one, since_ns, fresh)
            for rule in self._rules:
                if not self._is_in(one.pid, rule) and self._fits(rule, one.pid):
                    joined = self._join_rule(rule, one.pid, now_ns)
                    fresh |= {joined} if joined else set()

    def _take_in(self, one: proc.Running, since_ns: int, fresh: set[Membership]) -> None:
        """Groups of its parent, if it was forked after that joined, or if a rule has just found the parent.

        Where the parent is gone, and it was forked in the gap, those of the leader of its session: that is inherited, too.
        """
        start_ns = self._start_of(one.pid) or proc.start_ns(one.start_ticks)
        parent = self.of.get(one.parent_pid)
        if parent is None and start_ns >= since_ns - SLACK_NS:
            parent = self.of.get(one.session)
        for held in parent.memberships if parent else ():
            if held in fresh or start_ns >= held.joined_ns - SLACK_NS:
                member = self.of.get(one.pid) or Member(one.pid, start_ns, one.start_ticks)
                joined = self.join(member, held.group, held.joined_ns if held in fresh else start_ns, inherited=True)
                fresh |= {joined} if held in fresh else set()

    def _fits(self, rule: Rule, pid: int) -> bool:
        facts = proc.facts_of(pid, environment=self._environment)
        return facts is not None and rule.may_take(facts.program) and rule.takes(facts, self._user_name)

    def _state(self, now_ns: int) -> dict[str, Any]:
        for member in self.of.values():
            if member.ticks is None and (found := proc.running(member.pid)) is not None and _is_same(member, found):
                member.ticks = found.start_ticks
        return {
            "boot_id": self.boot_id,
            "saved_ns": now_ns,
            "next": self._next,
            "groups": [
                [one.id, one.name, one.made_by, one.owner, one.user_id, one.made_ns, one.is_own, one.members]
                for one in self.by_id.values()
            ],
            "members": [
                [one.pid, one.start_ns, one.ticks, [[held.group.id, held.joined_ns, held.inherited] for held in one.memberships]]
                for one in self.of.values()
            ],
            "gaps": self.gaps,
        }

    def _restore(self, state: dict[str, Any], now_ns: int) -> None:
        """Groups and members of the state: all of this boot, of another only to tell that they ended."""
        saved_ns, boot_id = int(state["saved_ns"]), str(state["boot_id"])
        groups = {row[0]: Group(*row) for row in state["groups"]}
        members = [(Member(pid, start, ticks), held) for pid, start, ticks, held in state["members"]]
        for member, held in members:
            for group_id, joined_ns, inherited in held:
                one, number = Membership(groups[group_id], joined_ns, inherited), groups[group_id].members
                if boot_id == self.boot_id:
                    self.join(member, one.group, joined_ns, inherited=inherited)
                    one.group.members = number
                else:
                    self._records.append(self.record(member, one, None, saved_ns, boot_id))
                    self._note_ended(member, one.group, saved_ns)
        if boot_id == self.boot_id:
            self.by_id, self._next = groups, max(int(state["next"]), len(groups))
            gaps = [(int(first), int(last)) for first, last in state["gaps"]]
            self.gaps = [*gaps[1 - MOST_GAPS :], (saved_ns, now_ns)]


def _is_same(member: Member, found: proc.Running | None) -> bool:
    if found is None:
        return False
    if member.ticks is not None:
        return member.ticks == found.start_ticks
    return abs(proc.start_ns(found.start_ticks) - member.start_ns) < STEP_NS


def _name_of_user(user_id: int) -> str | None:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return None
