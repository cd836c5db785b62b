"""A process namespace of its own with accounting on: the kernel writes what really ran there, and nothing else, into a file.

Accounting is one per process namespace (acct(2)): that of the host, and tests beside this one, have nothing to do with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.procacct.gnu_acct import missing

LIMITS = Path("/proc/sys/kernel/acct")
_DONE = "@done"


class Namespace:
    """A shell that is process 1 of its namespace."""

    def __init__(self, shell: subprocess.Popen[str]) -> None:
        self._shell = shell

    def run(self, script: str) -> list[str]:
        """Lines the script wrote to standard output; it has ended then.  Raises: AssertionError if the shell did."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{script}\necho {_DONE}\n")
        self._shell.stdin.flush()
        lines: list[str] = []
        for line in self._shell.stdout:
            if line.strip() == _DONE:
                return lines
            lines.append(line.rstrip("\n"))
        raise AssertionError(f"the shell ended: {lines}")


@contextlib.contextmanager
def namespace() -> Iterator[Namespace]:
    """Skips where it cannot be made, unless services are required; everything in it is ended at the end."""
    if os.geteuid() != 0:
        missing("a process namespace with accounting needs root")
    if not LIMITS.exists():
        missing("this kernel has no process accounting")
    if not all(map(shutil.which, ("unshare", "accton"))):
        missing("unshare or accton is not installed (packages util-linux, acct)")
    shell = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "--noprofile", "--norc"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield Namespace(shell)
    finally:
        shell.kill()
        shell.communicate()
