"""Becoming the user of the daemons: what root may read tells nothing of what they may."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from contextlib import suppress

from batchacct.errors import ConfigError

USUAL = "batchacct"
ASK_WITHIN_S = 5.0


def become(name: str | None) -> None:
    """Makes this process that user's, for good, with the groups that the unit of the collector gives it.

    Without a name: the user `batchacct`, where there is one and this is root.  Raises: ConfigError.
    """
    if os.geteuid() != 0:
        if name is not None and pwd.getpwuid(os.geteuid()).pw_name != name:
            raise ConfigError(
                f"only root can look at everything as another user: run it by `runuser -u {name} -- batchacct doctor`"
            )
        return
    try:
        account = pwd.getpwnam(name or USUAL)
    except KeyError:
        if name is not None:
            raise ConfigError(f"there is no user {name}: name the one that the daemons run as") from None
        return
    if account.pw_uid == os.geteuid():
        return
    os.setgroups([*os.getgrouplist(account.pw_name, account.pw_gid), *_groups_of_unit()])
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)


def _groups_of_unit() -> list[int]:
    """Those of SupplementaryGroups=, by which it may read the logs."""
    command = ["systemctl", "show", "--property=SupplementaryGroups", "--value", "batchacct-collect.service"]
    found: list[int] = []
    with suppress(OSError, subprocess.TimeoutExpired):
        told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ASK_WITHIN_S)  # noqa: S603
        for one in told.stdout.split():
            with suppress(KeyError):
                found.append(grp.getgrnam(one).gr_gid)
    return found
