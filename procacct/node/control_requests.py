"""What can be asked at the control socket, and by whom.

Root may do everything. A user makes groups of own processes, and sees, changes and takes away own groups, which nobody else's
processes get into but by birth. What is asked and what is not possible is checked before anything is changed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from batchacct import __version__
from procacct.node import group_processes as proc
from procacct.node.control import Caller, Reply, refusal
from procacct.node.group_model import Group
from procacct.node.group_rules import NAME
from procacct.node.groups import Groups

MOST_GROUPS_OF_A_USER = 256
MOST_GROUPS_OF_A_PROCESS = 16
MOST_PIDS = 4096
LAST_PID = 1 << 22
_ID = re.compile(r"[0-9a-f]{8}\.\d+|\d+")


class _Refused(Exception):  # noqa: N818 - it is no error of anything
    """The reason, as a sentence for who asked."""


class Requests:
    """Answers requests about some groups; `stop` ends the daemon, `more_status` is what it tells of itself."""

    def __init__(self, groups: Groups, *, stop: Callable[[], None], more_status: Callable[[], Mapping[str, object]] = dict) -> None:
        self._groups, self._stop, self._more_status = groups, stop, more_status
        self._known: dict[str, Callable[[dict[str, Any], Caller], Reply]] = {
            "create": self._create,
            "add": self._add,
            "remove": self._remove,
            "list": self._list,
            "show": self._show,
            "dump": self._dump,
            "stop": self._end,
            "status": self._status,
        }

    def answer(self, request: object, caller: Caller) -> Reply:
        """The answer to what somebody asks, whatever that is."""
        wanted = request.get("do") if isinstance(request, dict) else None
        if not isinstance(request, dict) or not isinstance(wanted, str) or wanted not in self._known:
            return refusal(f'a request is an object with "do", one of {", ".join(self._known)}')
        try:
            return self._known[wanted](request, caller)
        except _Refused as reason:
            return refusal(str(reason))

    def _create(self, request: dict[str, Any], caller: Caller) -> Reply:
        name = request.get("name")
        own = [group for group in self._groups.by_id.values() if group.is_by_hand and group.user_id == caller.user_id]
        if name is not None:
            if not isinstance(name, str) or not re.fullmatch(NAME, name) or _ID.fullmatch(name):
                raise _Refused("a name is of 1 to 64 letters, digits and . _ : @ + -, and not like the number of a group")
            if any(group.name == name for group in own):
                raise _Refused(f"you have a group {name} already: remove it, or choose another name")
        pids = self._own_pids(request, caller, required=False)
        if len(own) >= MOST_GROUPS_OF_A_USER and not caller.is_root:
            empty = [group for group in own if not group.pids]
            if not empty:
                raise _Refused(f"you have {len(own)} groups, and may have {MOST_GROUPS_OF_A_USER}: remove some")
            self._groups.dissolve(min(empty, key=lambda group: group.made_ns), time.time_ns())
        self._demand_room(pids, caller)
        group = self._groups.create(name, caller.user_id, time.time_ns())
        added = [pid for pid in pids if self._groups.add(group, pid, time.time_ns())]
        return self._saved({"group": _told(group), "added": added})

    def _add(self, request: dict[str, Any], caller: Caller) -> Reply:
        group = self._to_change(request, caller)
        pids = self._own_pids(request, caller, required=True)
        if request.get("tree"):
            pids += [pid for pid in _descendants(pids) if caller.is_root or proc.user_of(pid) == caller.user_id]
        self._demand_room(pids, caller)
        there = [pid for pid in pids if pid in group.pids]
        added = [pid for pid in pids if self._groups.add(group, pid, time.time_ns())]
        return self._saved({"group": _told(group), "added": added, "there": there})

    def _remove(self, request: dict[str, Any], caller: Caller) -> Reply:
        group = self._to_change(request, caller)
        if "pids" not in request:
            self._groups.dissolve(group, time.time_ns())
            return self._saved({"group": _told(group), "removed": None})
        pids = _pids(request, required=True)
        if strangers := [pid for pid in pids if pid not in group.pids]:
            raise _Refused(f"process {strangers[0]} is not in group {group.id}: `jobmng show {group.id}` tells who is")
        removed = [pid for pid in pids if self._groups.remove(group, pid, time.time_ns())]
        return self._saved({"group": _told(group), "removed": removed})

    def _list(self, _request: dict[str, Any], caller: Caller) -> Reply:
        return Reply({"ok": True, "groups": [_told(group) for group in self._visible(caller)]})

    def _show(self, request: dict[str, Any], caller: Caller) -> Reply:
        group = self._named(request, caller)
        members = [
            {"pid": one.pid, "start_ns": one.start_ns, "joined_ns": held.joined_ns, "inherited": held.inherited}
            for one, held in self._groups.members_of(group)
        ]
        return Reply({"ok": True, "group": _told(group), "members": members, "gaps": self._groups.gaps})

    def _dump(self, _request: dict[str, Any], caller: Caller) -> Reply:
        file = self._groups.job_file(None if caller.is_root else caller.user_id)
        return Reply({"ok": True, "lines": True}, file, file.close)

    def _end(self, _request: dict[str, Any], caller: Caller) -> Reply:
        if not caller.is_root:
            raise _Refused("only root may stop the daemon")
        self._stop()
        return Reply({"ok": True})

    def _status(self, _request: dict[str, Any], _caller: Caller) -> Reply:
        groups = self._groups
        return Reply(
            {
                "ok": True,
                "version": __version__,
                "host": groups.host,
                "boot_id": groups.boot_id,
                "groups": len(groups.by_id),
                "members": len(groups.of),
                "undecided": groups.undecided,
                "gaps": groups.gaps,
                "unsaved": groups.unsaved,
                **self._more_status(),
            }
        )

    def _saved(self, told: dict[str, Any]) -> Reply:
        """What was changed by hand is on the disk before it is told."""
        self._groups.save(time.time_ns())
        if self._groups.unsaved:
            told["warning"] = f"it is done, but could not be written to the disk: {self._groups.unsaved}"
        return Reply({"ok": True, **told})

    def _visible(self, caller: Caller) -> list[Group]:
        return [group for group in self._groups.by_id.values() if caller.is_root or group.user_id == caller.user_id]

    def _named(self, request: dict[str, Any], caller: Caller) -> Group:
        """The group by id, by the number in it, or by name."""
        wanted = request.get("group")
        if not isinstance(wanted, str):
            raise _Refused('"group" is the id, the number or the name of a group')
        visible = self._visible(caller)
        found = [group for group in visible if wanted in (group.id, group.id.partition(".")[2])]
        found = found or [group for group in visible if group.name == wanted]
        if len(found) > 1:
            raise _Refused(f"{len(found)} groups are called {wanted}: give one's id ({', '.join(group.id for group in found[:5])})")
        if not found:
            raise _Refused(f"you have no group {wanted[:64]!a}: `jobmng list` shows those there are")
        return found[0]

    def _to_change(self, request: dict[str, Any], caller: Caller) -> Group:
        group = self._named(request, caller)
        if not group.is_by_hand and not caller.is_root:
            raise _Refused(f"group {group.id} is made by {group.made_by}: only root may change it")
        return group

    def _own_pids(self, request: dict[str, Any], caller: Caller, *, required: bool) -> list[int]:
        pids = _pids(request, required=required)
        for pid in pids:
            user_id = proc.user_of(pid)
            if user_id is None:
                raise _Refused(f"there is no process {pid}")
            if not caller.is_root and user_id != caller.user_id:
                raise _Refused(f"process {pid} is not yours: only root may put it into a group")
        return pids

    def _demand_room(self, pids: list[int], caller: Caller) -> None:
        for pid in pids:
            if not caller.is_root and len(self._groups.groups_of(pid)) >= MOST_GROUPS_OF_A_PROCESS:
                raise _Refused(f"process {pid} is in {MOST_GROUPS_OF_A_PROCESS} groups already, and cannot be in more")


def _told(group: Group) -> dict[str, Any]:
    return {
        "id": group.id,
        "name": group.name,
        "made_by": group.made_by,
        "owner": group.owner,
        "made_at": group.made_ns // proc.SECOND_NS,
        "processes": len(group.pids),
        "processes_ever": group.members,
    }


def _pids(request: dict[str, Any], *, required: bool) -> list[int]:
    pids = request.get("pids", [])
    if not isinstance(pids, list) or (required and not pids) or len(pids) > MOST_PIDS:
        raise _Refused(f'"pids" is a list of at most {MOST_PIDS} process ids')
    if any(type(pid) is not int or not 0 < pid <= LAST_PID for pid in pids):
        raise _Refused(f'"pids" are whole numbers from 1 to {LAST_PID}')
    return list(dict.fromkeys(pids))


def _descendants(pids: list[int]) -> list[int]:
    """Children of the processes, and theirs, that run now."""
    children: dict[int, list[int]] = {}
    for one in proc.all_running():
        if not one.has_ended:
            children.setdefault(one.parent_pid, []).append(one.pid)
    found: dict[int, None] = {}
    ahead = list(pids)
    while ahead:
        for child in children.get(ahead.pop(), []):
            if child not in found and child not in pids:
                found[child] = None
                ahead.append(child)
    return list(found)
