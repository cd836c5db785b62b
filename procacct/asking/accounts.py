"""Accounts of this host by their numbers, for tables that people read."""

from __future__ import annotations

import functools
import grp
import pwd


@functools.cache
def user_name(user_id: int) -> str:
    """The name of an account, or its number where it has none here."""
    try:
        return pwd.getpwuid(user_id).pw_name
    except (KeyError, OverflowError):
        return str(user_id)


@functools.cache
def group_name(group_id: int) -> str:
    """The name of a group of accounts, or its number where it has none here."""
    try:
        return grp.getgrgid(group_id).gr_name
    except (KeyError, OverflowError):
        return str(group_id)


def user_id_of(name: str) -> int | None:
    """The number of an account by its name, or by the number itself."""
    if name.isdecimal():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None
