"""A root to install packages into: a small Debian of its own, without network, and without a systemd: what units say is started.

The base is made once, by mmdebstrap, and copied. For RPM the root has a database of its own, and in it a package that stands in for
what Enterprise Linux would provide.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.packaging.units import lines

BASE_PACKAGES = (
    "systemd-standalone-sysusers,systemd-standalone-tmpfiles,python3.11,tzdata,libstdc++6,zlib1g,logrotate,sensible-utils"
)
STAND_IN = """Name: distribution
Version: 1
Release: 1
Summary: Stands in for an Enterprise Linux
License: none
BuildArch: noarch
Provides: /usr/bin/python3.11 python(abi) = 3.11 tzdata systemd /bin/sh /usr/bin/sh
Provides: libc.so.6(GLIBC_2.28)(64bit) libstdc++.so.6()(64bit) libz.so.1()(64bit)
%description
The files are Debian's, of which this database of packages knows nothing.
%files
"""
SYSTEMCTL = """#!/bin/sh
# Stands in for systemd's, of which none runs here: notes what it is asked for.
echo "$*" >> /asked-of-systemd
"""
ALONE = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"]
"""No network but a loopback of its own, no processes of the host; /proc is mounted in the root."""
ENVIRONMENT = ("PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive")
FOLDERS = {"StateDirectory": "/var/lib", "RuntimeDirectory": "/run", "CacheDirectory": "/var/cache"}
"""Folders that systemd makes for a unit, and where."""


def base(tarball: Path) -> Path:
    """The tarball of the base; made if it is not there, which takes Debian's archive."""
    if not tarball.exists():
        part = tarball.with_suffix(".part.tar")
        run(["mmdebstrap", "--quiet", "--variant=apt", f"--include={BASE_PACKAGES}", "bookworm", str(part)])
        part.rename(tarball)
    return tarball


def run(command: list[str], *, status: int = 0, folder: Path | None = None) -> str:
    """What it printed, errors among it; it has to end with the status."""
    done = subprocess.run(
        command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, timeout=1200
    )
    assert done.returncode == status, f"{command} ended with {done.returncode}:\n{done.stdout[-4000:]}"
    return done.stdout


class Root:
    def __init__(self, folder: Path, tarball: Path) -> None:
        self.path = folder
        folder.mkdir()
        run(["tar", "-x", "-f", str(tarball), "-C", str(folder)])
        (self / "/run/systemd/system").mkdir(parents=True)
        systemctl = self / "/usr/bin/systemctl"
        systemctl.write_text(SYSTEMCTL)
        systemctl.chmod(0o755)

    def inside(
        self, *command: str, user: str | None = None, variables: dict[str, str] | None = None, umask: str = "022"
    ) -> list[str]:
        """The command as it is started within: by its user, in the groups that has, without network."""
        as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else []
        given = [f"{key}={value}" for key, value in (variables or {}).items()]
        script = 'mount -t proc proc "$0/proc" && ip link set lo up && umask "$1" && shift && exec chroot "$0" /usr/bin/env -i "$@"'
        return [*ALONE, "sh", "-c", script, str(self.path), umask, *ENVIRONMENT, *given, *as_user, *command]

    def run(self, *command: str, status: int = 0, user: str | None = None) -> str:
        return run(self.inside(*command, user=user), status=status)

    def __truediv__(self, path: str) -> Path:
        return self.path / path.lstrip("/")

    def asked_of_systemd(self) -> list[set[str]]:
        """Words of each call of systemctl since this was last called, by the packages' scripts."""
        noted = self / "/asked-of-systemd"
        calls = [set(line.split()) for line in noted.read_text().splitlines()] if noted.exists() else []
        noted.unlink(missing_ok=True)
        return calls

    def unit(self, name: str) -> dict[str, list[str]]:
        """[Service] of a unit that is installed."""
        (path,) = [path for folder in ("usr/lib", "lib") for path in self.path.glob(f"{folder}/systemd/system/{name}.service")][:1]
        return lines(path, "Service")

    def start_once(self, name: str, *, status: int = 0) -> str:
        """Runs what a unit of type oneshot starts, to its end."""
        service = self.unit(name)
        assert service["Type"] == ["oneshot"]
        return run(self._started(service, {}), status=status)

    @contextlib.contextmanager
    def daemon(self, name: str) -> Iterator[Daemon]:
        """Starts what a unit starts, and waits until it says that it is ready."""
        service = self.unit(name)
        assert service["Type"] == ["notify"]
        self._make_folders(service)
        for line in service.get("ExecStartPre", []):
            self.run(*line.lstrip("+").split())
        told = self / f"/run/{name}.notify"
        told.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            # the path of the root may be longer than a socket's name can be
            here = os.open(told.parent, os.O_PATH)
            listener.bind(f"/proc/self/fd/{here}/{told.name}")
            os.close(here)
            told.chmod(0o777)
            log = self / f"/{name}.log"
            with log.open("ab") as out:
                process = subprocess.Popen(
                    self._started(service, {"NOTIFY_SOCKET": f"/run/{name}.notify", "WATCHDOG_USEC": "2000000"}),
                    stdout=out,
                    stderr=out,
                )
            daemon = Daemon(self, service["User"][0], process, listener, log)
            try:
                daemon.wait_for("READY=1")
                yield daemon
            finally:
                daemon.end()

    def _make_folders(self, service: dict[str, list[str]]) -> None:
        for key, above in FOLDERS.items():
            for name in service.get(key, []):
                mode = service.get(f"{key}Mode", ["0755"])[0]
                owner = ["-o", service["User"][0], "-g", service["Group"][0]]
                self.run("install", "-d", "-m", mode, *owner, f"{above}/{name}")

    def _started(self, service: dict[str, list[str]], variables: dict[str, str]) -> list[str]:
        """With the user, capabilities and variables of a unit; what else of it hardens takes a systemd."""
        (start,) = service["ExecStart"]
        (user,) = service["User"]
        of_unit = dict(line.replace("%C", "/var/cache").split("=", 1) for line in service.get("Environment", []))
        capabilities = [f"+{name.removeprefix('CAP_').lower()}" for name in service["CapabilityBoundingSet"][0].split()]
        bounds = ["--no-new-privs", f"--bounding-set={','.join(['-all', *capabilities])}"]
        as_root = ["setpriv", f"--regid={service['Group'][0]}", "--clear-groups", *bounds] if user == "root" else []
        return self.inside(
            *as_root,
            *start.split(),
            user=None if user == "root" else user,
            variables=of_unit | variables,
            umask=service.get("UMask", ["022"])[0],
        )

    def remove(self) -> None:
        shutil.rmtree(self.path)


class Daemon:
    """What a unit started; `told` is what it has told systemd until now."""

    def __init__(self, root: Root, user: str, process: subprocess.Popen[bytes], listener: socket.socket, log: Path) -> None:
        self.root, self.user, self.process, self.log = root, user, process, log
        self.told: list[str] = []
        self._listener = listener
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def _listen(self) -> None:
        """All the time: a daemon that nobody listens to would wait."""
        self._listener.settimeout(0.2)
        while self.process.poll() is None:
            with contextlib.suppress(TimeoutError):
                self.told.append(self._listener.recv(4096).decode())

    def wait_for(self, text: str, within_s: float = 180) -> None:
        """Until it tells systemd so, or has."""
        end = time.monotonic() + within_s
        while not any(text in message for message in self.told):
            assert self.process.poll() is None, f"it has ended: {self.log.read_text(errors='replace')}"
            assert time.monotonic() < end, f"it told {self.told}, and not {text}: {self.log.read_text(errors='replace')}"
            time.sleep(0.1)

    def run(self, *command: str) -> str:
        """Beside it: on its network, among its processes."""
        (pid,) = self._pids()
        within = ["nsenter", f"--target={pid}", "--net", "--mount", "--pid", "chroot", str(self.root.path), "/usr/bin/env", "-i"]
        return run([*within, *ENVIRONMENT, *command])

    def _pids(self) -> list[int]:
        """The process itself is the child of unshare."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def end(self) -> None:
        """As systemd does it: SIGTERM to the process itself."""
        for pid in self._pids() if self.process.poll() is None else ():
            os.kill(pid, signal.SIGTERM)
        self.process.wait(timeout=90)
        self._reader.join()
