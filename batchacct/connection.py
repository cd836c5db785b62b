"""The connection file: where the database is, in a file that only its owner and group may read.

Its first line is an SQLAlchemy URL, or, as in the 2012 batchacct, `username/password@dsn`, which means Oracle
(jeromebelleman/batchacct, README): username up to the first `/`, password up to the first `@` after it, the rest is the DSN.
"""

from __future__ import annotations

import importlib.util
import re
import stat
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from batchacct.errors import ConfigError


def database_url(path: Path) -> str:
    """The database URL of a connection file.

    Raises: ConfigError if it cannot be read, is readable for everybody, is empty, or means Oracle and no driver is installed.
    """
    try:
        mode = path.stat().st_mode
        first_line = path.read_text(encoding="utf-8").split("\n", 1)[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"connection file {path} cannot be read: {error}") from error
    if mode & stat.S_IROTH:
        raise ConfigError(f"connection file {path} may be read by everybody and holds a password: run `chmod o-r {path}`")
    if re.match(r"[A-Za-z][\w+]*://", first_line):
        try:
            return check_url(first_line)
        except ConfigError as error:
            raise ConfigError(f"connection file {path}: {error.message}") from error
    user, slash, rest = first_line.partition("/")
    password, at, dsn = rest.partition("@")
    if not (user and slash and at and dsn):
        raise ConfigError(f"connection file {path}: its first line is neither a database URL nor username/password@dsn")
    return _oracle_url(user, password, dsn)


def check_url(url: str) -> str:
    """The URL as it is.  Raises: ConfigError, which does not repeat it (it may hold a password), if it is none."""
    try:
        make_url(url)
    except (ArgumentError, ValueError) as error:
        raise ConfigError("this is no database URL; one is for example sqlite:////var/lib/batchacct/batchacct.db") from error
    return url


def _oracle_url(user: str, password: str, dsn: str) -> str:
    if importlib.util.find_spec("oracledb") is None:
        raise ConfigError(
            "username/password@dsn in a connection file means Oracle, whose driver is missing: pip install 'batchacct[oracle]'. "
            "For another database write its URL there, such as postgresql://USER:PASSWORD@HOST/DATABASE"
        )
    return URL.create("oracle+oracledb", user, password, dsn).render_as_string(hide_password=False)
