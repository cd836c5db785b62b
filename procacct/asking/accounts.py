"""Accounts of this host by their numbers, for tables that people read."""

from __future__ import annotations

import functools
import grp
import pwd

MOST_DIGITS = 10


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


def is_number(name: str) -> bool:
    """Whether it is the number of an account, which has 32 bits."""
    return name.isdecimal() and len(name) <= MOST_DIGITS


def user_id_of(name: str) -> int | None:
    """The number of an account by its name, or by the number itself."""
    if is_number(name):
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None
