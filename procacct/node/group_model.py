"""Groups and their members in memory, and the records of memberships that ended. Nothing here reads or writes a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

BY_HAND = "hand"
SECOND_NS = 1_000_000_000

Record = dict[str, Any]
"""A record of type `process_group`, columns by name; what is not known is left out."""


@dataclass(slots=True, eq=False)
class Group:
    """A group; `members` counts those it ever had, `is_own` that it ends with its last one (a rule's `each`)."""

    id: str
    name: str | None
    made_by: str
    owner: str
    user_id: int
    made_ns: int
    is_own: bool = False
    members: int = 0
    pids: set[int] = field(default_factory=set)

    @property
    def is_by_hand(self) -> bool:
        return self.made_by == BY_HAND


@dataclass(slots=True, eq=False)
class Membership:
    """That a process is in a group, since when, and whether it came in with its parent."""

    group: Group
    joined_ns: int
    inherited: bool


@dataclass(slots=True, eq=False)
class Member:
    """A process in a group: forked at `start_ns` (Unix); `ticks` is that start as /proc tells it, once somebody looked."""

    pid: int
    start_ns: int
    ticks: int | None = None
    memberships: list[Membership] = field(default_factory=list)


class Memberships:
    """Who is in which group, now; a pid is in `of` while its process is in any."""

    def __init__(self, boot_id: str, host: str) -> None:
        self.boot_id, self.host = boot_id, host
        self.by_id: dict[str, Group] = {}
        self.of: dict[int, Member] = {}
        self._records: list[Record] = []

    def groups_of(self, pid: int) -> tuple[str, ...]:
        """Ids of the groups a process is in."""
        member = self.of.get(pid)
        return () if member is None else tuple(one.group.id for one in member.memberships)

    def members_of(self, group: Group) -> Iterator[tuple[Member, Membership]]:
        """Members of now, in the order of their pids."""
        for pid in sorted(group.pids):
            member = self.of[pid]
            yield member, next(one for one in member.memberships if one.group is group)

    def take_records(self) -> list[Record]:
        """Records of the memberships that ended since the last call."""
        records, self._records = self._records, []
        return records

    def join(self, member: Member, group: Group, joined_ns: int, *, inherited: bool) -> Membership:
        """The process is in the group from now on; it must not be yet."""
        membership = Membership(group, joined_ns, inherited)
        member.memberships.append(membership)
        self.of[member.pid] = member
        group.pids.add(member.pid)
        group.members += 1
        return membership

    def inherit(self, parent: Member, child: Member, joined_ns: int) -> None:
        """The child joins all groups of its parent, as far as it is not in them."""
        for one in parent.memberships:
            if child.pid not in one.group.pids:
                self.join(child, one.group, joined_ns, inherited=True)

    def leave(self, member: Member, group: Group, at_ns: int) -> None:
        """The process is no more in the group, though it lives."""
        membership = next(one for one in member.memberships if one.group is group)
        self._end(member, membership, at_ns, at_ns)
        member.memberships.remove(membership)
        if not member.memberships:
            del self.of[member.pid]

    def forget(self, pid: int, left_ns: int | None, found_ns: int) -> Member:
        """The process ended: then, or at a time nobody knows, before `found_ns`."""
        member = self.of.pop(pid)
        for one in member.memberships:
            self._end(member, one, left_ns, found_ns)
        return member

    def _end(self, member: Member, membership: Membership, left_ns: int | None, found_ns: int) -> None:
        group = membership.group
        self._records.append(self.record(member, membership, left_ns, found_ns, self.boot_id))
        group.pids.discard(member.pid)
        if group.is_own and not group.pids:
            self.by_id.pop(group.id, None)

    def record(self, member: Member, one: Membership, left_ns: int | None, found_ns: int, boot_id: str) -> Record:
        """What is told of a membership that ended, found out at `found_ns`.

        Who was taken in by hand or by rule can come again: the key of such a membership has the time at its end.
        """
        group = one.group
        key = f"{self.host}/{boot_id}/{group.id}/{member.pid}/{member.start_ns}"
        record: Record = {
            "record_key": key if one.inherited else f"{key}/{one.joined_ns}",
            "host": self.host,
            "boot_id": boot_id,
            "group_id": group.id,
            "group_name": group.name,
            "made_by": group.made_by,
            "owner": group.owner,
            "pid": member.pid,
            "start_ns": member.start_ns,
            "joined_ns": one.joined_ns,
            "left_ns": left_ns,
            "left_at": found_ns // SECOND_NS,
            "inherited": int(one.inherited),
        }
        return {name: value for name, value in record.items() if value is not None}
