"""What the tree of processes tells the groups of processes, and asks of them (`procacct.node.groups`)."""

from __future__ import annotations

from typing import Any, Protocol


class GroupHooks(Protocol):
    """Times are Unix ns."""

    def begin(self, now_ns: int) -> None:
        """Takes up what was kept; events are listened to."""

    def on_fork(self, parent_pid: int, child_pid: int, at_ns: int) -> None: ...

    def on_exec(self, pid: int, program: str | None, at_ns: int) -> None: ...

    def on_exit(self, pid: int, at_ns: int) -> list[dict[str, Any]]:
        """Records of the memberships that ended since the last call."""

    def take_records(self) -> list[dict[str, Any]]: ...

    def lost(self, from_ns: int, until_ns: int) -> None:
        """Events between these times are missing."""

    def tick(self, now_ns: int) -> None: ...

    def save(self, now_ns: int) -> None: ...


class NoGroups:
    """Where there are none."""

    def begin(self, now_ns: int) -> None:
        pass

    def on_fork(self, parent_pid: int, child_pid: int, at_ns: int) -> None:
        pass

    def on_exec(self, pid: int, program: str | None, at_ns: int) -> None:
        pass

    def on_exit(self, pid: int, at_ns: int) -> list[dict[str, Any]]:
        return []

    def take_records(self) -> list[dict[str, Any]]:
        return []

    def lost(self, from_ns: int, until_ns: int) -> None:
        pass

    def tick(self, now_ns: int) -> None:
        pass

    def save(self, now_ns: int) -> None:
        pass
