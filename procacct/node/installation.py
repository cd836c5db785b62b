"""Whether what accounting for processes needs works on this host: each thing is tried, not looked up."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from batchacct.errors import BatchacctError

NETLINK_CONNECTOR = 11
NETLINK_GENERIC = 16
CN_IDX_PROC = 1
SO_RCVBUFFORCE = 33
ALL_EVENTS = struct.Struct("=IHHII" + "IIIIHH" + "I")
"""nlmsghdr, cn_msg, operation: linux/netlink.h, linux/connector.h, linux/cn_proc.h."""
LISTEN, IGNORE = 1, 2
BUFFER_BYTES = 8 << 20
WAIT_S = 2.0
NO_SOCKETS: Mapping[Path, socket.SocketKind] = MappingProxyType({})
CTRL_FAMILY = struct.Struct("=IHHIIBBHHH10s2x")
"""nlmsghdr, genlmsghdr, and the attribute CTRL_ATTR_FAMILY_NAME (2) with `TASKSTATS`: linux/genetlink.h, linux/taskstats.h."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing: whether it works; if not, what is lost by it and what to do. `needed`: without it the daemon is of no use."""

    name: str
    works: bool
    told: str
    needed: bool = False


def checks(folders: tuple[Path, ...] = (), sockets: Mapping[Path, socket.SocketKind] = NO_SOCKETS) -> list[Check]:
    """Tries everything; `folders` are to be written to, `sockets` to be made, by the daemon as which this is run."""
    found = [_checked("process events", _events, needed=True)]
    found.append(_checked("taskstats", _taskstats))
    found.append(_checked("BSD accounting", _accounting))
    found.append(_checked("rights", _rights))
    found += [_checked(f"folder {folder}", partial(_folder, folder), needed=True) for folder in folders]
    found += [_checked(f"socket {path}", partial(_socket, path, kind), needed=True) for path, kind in sockets.items()]
    return found


class _Missing(Exception):  # noqa: N818 - caught where it is raised for
    """What does not work, and what to do."""


def _checked(name: str, trial: Callable[[], str], *, needed: bool = False) -> Check:
    try:
        return Check(name, True, trial(), needed)
    except _Missing as missing:
        return Check(name, False, str(missing), needed)
    except (OSError, BatchacctError) as error:
        return Check(name, False, f"{error}", needed)


def _events() -> str:
    """A child is forked, and its fork has to be told."""
    with _netlink(
        NETLINK_CONNECTOR, CN_IDX_PROC, "the kernel has no process events: CONFIG_CONNECTOR=y and CONFIG_PROC_EVENTS=y are needed"
    ) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        one.settimeout(WAIT_S)
        with _listening(one):
            child = os.posix_spawn("/bin/true", ["true"], {})
            try:
                if _is_told(one, child):
                    return "forks are told"
            finally:
                os.waitpid(child, 0)
    raise _Missing(
        "no fork is told: the daemon has to run in the host's own pid and user namespace, not in a container, and before Linux 6.6 "
        "with CAP_NET_ADMIN"
    )


def _is_told(one: socket.socket, child: int) -> bool:
    """Whether its fork is among the events; those of others, in a container too if a daemon of the host listens, do not count."""
    end = time.monotonic() + WAIT_S
    with contextlib.suppress(TimeoutError):
        while time.monotonic() < end:
            event = one.recv(4096)
            if len(event) >= 68 and struct.unpack_from("=I", event, 36) == (1,) and struct.unpack_from("=i", event, 60) == (child,):
                return True
    return False


@contextlib.contextmanager
def _listening(one: socket.socket) -> Iterator[None]:
    one.send(_request(LISTEN))
    try:
        yield
    finally:
        one.send(_request(IGNORE))


def _request(operation: int) -> bytes:
    return ALL_EVENTS.pack(ALL_EVENTS.size, 3, 0, 0, 0, 1, 1, 0, 0, 4, 0, operation)


@contextlib.contextmanager
def _netlink(protocol: int, groups: int, if_unknown: str) -> Iterator[socket.socket]:
    try:
        one = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, protocol)
    except OSError as error:
        raise _Missing(if_unknown if error.errno == errno.EPROTONOSUPPORT else f"{error}") from error
    with one:
        try:
            one.bind((0, groups))
        except PermissionError as error:
            raise _Missing("only root, or who has CAP_NET_ADMIN, may listen on this kernel: run procacctd so") from error
        yield one


def _taskstats() -> str:
    """The family is asked for by its name, as whoever registers has to."""
    with _netlink(NETLINK_GENERIC, 0, "the kernel has no generic netlink") as one:
        one.settimeout(WAIT_S)
        one.send(CTRL_FAMILY.pack(CTRL_FAMILY.size, 16, 1, 1, 0, 3, 1, 0, 14, 2, b"TASKSTATS\0"))
        answer = one.recv(4096)
    if struct.unpack_from("=H", answer, 4)[0] == 2:  # NLMSG_ERROR
        raise _Missing(
            "the kernel has none (CONFIG_TASKSTATS=y): peak memory, bytes read and written and exact CPU times are not known"
        )
    if not _has_capability(12):
        raise _Missing("CAP_NET_ADMIN is missing: peak memory, bytes read and written and exact CPU times are not known")
    on = Path("/proc/sys/kernel/task_delayacct")
    delays = on.read_text().strip() if on.exists() else "1"
    return "ends are told" + ("" if delays == "1" else "; times of waiting are not (kernel.task_delayacct=1 turns them on)")


def _accounting() -> str:
    """Not turned on for a trial: that would stop the accounting there is."""
    if not Path("/proc/sys/kernel/acct").exists():
        raise _Missing(
            "the kernel has no BSD process accounting (CONFIG_BSD_PROCESS_ACCT=y): nothing is known of times without the daemon"
        )
    options = _kernel_options()
    if options is not None and "CONFIG_BSD_PROCESS_ACCT_V3=y" not in options:
        raise _Missing(
            "the kernel writes records without pids (CONFIG_BSD_PROCESS_ACCT_V3 is not set): they cannot be joined to jobs"
        )
    if not _has_capability(20):
        raise _Missing("CAP_SYS_PACCT is missing, to turn it on: let root do it (`accton FILE`)")
    resume, suspend, _ = Path("/proc/sys/kernel/acct").read_text().split()
    version = "version 3" if options is not None else "of a version that the kernel does not tell"
    return f"records are {version}; written while over {suspend} % of the disk are free, again from {resume} % on (kernel.acct)"


def _kernel_options() -> str | None:
    import gzip  # noqa: PLC0415 - of use here alone

    with contextlib.suppress(OSError):
        return gzip.decompress(Path("/proc/config.gz").read_bytes()).decode()
    with contextlib.suppress(OSError):
        return Path(f"/boot/config-{os.uname().release}").read_text(encoding="utf-8")
    return None


def _rights() -> str:
    """What reading of other users' processes takes, and a buffer that holds a storm of events."""
    missing = [name for name, number in (("CAP_SYS_PTRACE", 19), ("CAP_DAC_READ_SEARCH", 2)) if not _has_capability(number)]
    if missing:
        raise _Missing(
            f"{' and '.join(missing)} missing: programs and environments of others' processes are not read. Run procacctd as root"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        try:
            one.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        except PermissionError as error:
            raise _Missing(
                "CAP_NET_ADMIN is missing: the buffer is small, and events of a storm of forks are lost (and counted)"
            ) from error
    return "all there are needed"


def _has_capability(number: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


def _folder(folder: Path) -> str:
    disk = os.statvfs(_place_of(folder))
    return f"{disk.f_bavail * disk.f_frsize >> 20} MiB are free"


def _place_of(folder: Path) -> Path:
    """The folder, or the nearest above it that is there: the daemon makes what is missing."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise _Missing(f"{place} cannot be written to: let the user that runs procacctd do so")
    return place


def _socket(path: Path, kind: socket.SocketKind) -> str:
    _place_of(path.parent)
    if not path.exists():
        return "can be made"
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise _Missing("something that is no socket has its name: move it away")
    with socket.socket(socket.AF_UNIX, kind) as one:
        try:
            one.connect(os.fspath(path))
        except ConnectionRefusedError:
            return "is left by a daemon that was killed, and will be replaced"
        except OSError as error:
            raise _Missing(f"something else is in its place ({error.strerror}): move it away") from error
    return "a daemon listens there"
