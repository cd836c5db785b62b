"""What the daemon's sockets have in common: a folder, and names in the file system that outlive a daemon that is killed."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

from batchacct.errors import BusyError


def make_folder(path: Path) -> None:
    """Makes the folder of a socket where it is missing (/run is empty after a boot); others may look into it."""
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True)
        path.parent.chmod(0o755)


def take_away_dead(path: Path, kind: socket.SocketKind) -> None:
    """Removes the socket of a daemon that was killed.  Raises: BusyError if it lives, OSError for what is no socket."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "something that is no socket has its name")
        with socket.socket(socket.AF_UNIX, kind) as there:
            there.settimeout(1)
            there.connect(os.fspath(path))
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        path.unlink()
        return
    raise BusyError(f"a daemon listens at {path} already: stop it first (`jobmng stop`)")
