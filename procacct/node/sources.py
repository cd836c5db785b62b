"""What the daemon listens to, opened as the configuration wants it: without what cannot be had it goes on, where it may."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from batchacct.errors import ConfigError
from procacct import policy
from procacct.node.config import NodeConfig
from procacct.node.connector import Connector
from procacct.node.messages import Reader
from procacct.node.objects import ObjectSets
from procacct.node.sensor_socket import SensorSocket
from procacct.node.taskstats import Taskstats

log = logging.getLogger(__name__)

SourceT = TypeVar("SourceT")
INITIAL_PID_NAMESPACE, INITIAL_USER_NAMESPACE = 0xEFFFFFFC, 0xEFFFFFFD
"""Inodes of the initial namespaces (include/linux/proc_ns.h)."""


class Sources:
    """The connector and taskstats if they can be had, and the sensors' socket.  Raises: ConfigError, BusyError."""

    def __init__(self, config: NodeConfig, objects: ObjectSets) -> None:
        self.connector: Connector | None = None
        self.taskstats: Taskstats | None = None
        self.reader = Reader(objects.name_of, config.sensor.most_weight)
        self.sensors = SensorSocket(config.sensor.socket, self.reader, config.sensor.buffer_bytes)
        try:
            self.taskstats = _had("taskstats", config.taskstats.use, lambda: Taskstats(config.taskstats.buffer_bytes))
            self.connector = _had("process events", config.events.use, lambda: Connector(config.events.buffer_bytes))
            if self.connector is None and self.taskstats is not None:
                log.warning("taskstats is left out: without the process events nobody tells to which process an end belongs")
                self.taskstats.close()
                self.taskstats = None
        except BaseException:
            self.close()
            raise

    @property
    def heard(self) -> list[str]:
        """Their names, as rows have them."""
        there = {"connector": self.connector, "sensor": self.sensors, "taskstats": self.taskstats}
        return [name for name, source in there.items() if source is not None]

    def close(self) -> None:
        for source in (self.connector, self.taskstats, self.sensors):
            if source is not None:
                source.close()


def _had(what: str, use: str, make: Callable[[], SourceT]) -> SourceT | None:
    if use == "no":
        return None
    try:
        demand_initial_namespaces()
        return make()
    except OSError as error:
        reason = error.strerror or str(error)
        if use == "yes":
            raise ConfigError(
                f"the kernel's {what} cannot be had: {reason}. They need CAP_NET_ADMIN, the initial namespaces, and a kernel with "
                "CONFIG_PROC_EVENTS and CONFIG_TASKSTATS; or set use to auto"
            ) from error
        log.warning("without the kernel's %s: %s", what, reason)
        return None


def demand_initial_namespaces() -> None:
    """Elsewhere the kernel takes the subscription and says nothing, or sends pids that mean nothing there.  Raises: OSError."""
    for name, inode in (("pid", INITIAL_PID_NAMESPACE), ("user", INITIAL_USER_NAMESPACE)):
        if Path(f"/proc/self/ns/{name}").stat().st_ino != inode:
            raise OSError(1, f"this is not the initial {name} namespace")
    if os.geteuid() != 0 and not _has_net_admin():
        raise PermissionError(1, "CAP_NET_ADMIN is missing")


def _has_net_admin() -> bool:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> 12 & 1)
    return False


def write_policy(config: NodeConfig) -> None:
    """What the sensors are told. That it cannot be written is told, and no reason to end: they act by their defaults then."""
    try:
        policy.write(config.sensor.policy, config.sensor_policy)
    except OSError as error:
        log.warning(
            "the policy %s cannot be written: %s. Sensors go on by the one that is there", config.sensor.policy, error.strerror
        )
