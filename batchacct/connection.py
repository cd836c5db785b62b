"""The connection file: where the database is, in a file that only its owner and group may read.

Its first line is an SQLAlchemy URL, or, as in the 2012 batchacct, `username/password@dsn`, which means Oracle
(jeromebelleman/batchacct, README): username up to the first `/`, password up to the first `@` after it, the rest is the DSN. A
password with `@` in it is written in double quotes, as for Oracle's own programs. With the kind of database before it
(`postgresql username/password@host:port/database`) the same shape means another one.
"""

from __future__ import annotations

import importlib.util
import re
import stat
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from batchacct.errors import ConfigError

_DRIVERS = {
    "oracle": ("oracle+oracledb", "oracledb", "oracle"),
    "oracle+oracledb": ("oracle+oracledb", "oracledb", "oracle"),
    "oracle+cx_oracle": ("oracle+cx_oracle", "cx_Oracle", "cx_oracle"),
    "postgresql": ("postgresql", "psycopg", "postgres"),
    "mariadb": ("mariadb", "pymysql", "mysql"),
    "mysql": ("mysql", "pymysql", "mysql"),
}
"""What may stand before `username/password@dsn`: the URL's scheme, the module of the driver, the extra that installs it."""

_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^/:@()\s\[\]]+))(?::(?P<port>[0-9]{1,5}))?/(?P<name>[^/:\s()?]+)")
"""`host/name`, `host:port/name`, `[2001:db8::1]:port/name`."""


def database_url(path: Path) -> str:
    """The database URL of a connection file.

    Raises: ConfigError if it cannot be read, holds a password for everybody to read, is empty, or means a database whose driver
    is missing.
    """
    first_line, is_open = _first_line(path, "connection file")
    try:
        url = check_url(first_line) if re.match(r"[A-Za-z][\w+]*://", first_line) else _url_of_login(first_line)
    except ConfigError as error:
        raise ConfigError(f"connection file {path}: {error.message}") from error
    if is_open and holds_password(url):
        raise _open_to_all(path, "connection file")
    return url


def holds_password(url: str) -> bool:
    """Whether there is a password in a database URL: where one stands before the host, or as an option of the driver."""
    parsed = make_url(url)
    return bool(parsed.password) or any("passw" in name.lower() for name in parsed.query)


def secret_line(path: Path, what: str) -> str:
    """The first line of a file that holds a password.  Raises: ConfigError if it cannot be read, or if everybody can."""
    first_line, is_open = _first_line(path, what)
    if is_open:
        raise _open_to_all(path, what)
    return first_line


def _first_line(path: Path, what: str) -> tuple[str, bool]:
    """It, without blanks at its ends, and whether everybody may read it.  Raises: ConfigError if it cannot be read."""
    try:
        mode = path.stat().st_mode
        return path.read_text(encoding="utf-8").split("\n", 1)[0].strip(), bool(mode & stat.S_IROTH)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{what} {path} cannot be read: {error}") from error


def _open_to_all(path: Path, what: str) -> ConfigError:
    return ConfigError(f"{what} {path} may be read by everybody and holds a password: run `chmod o-r {path}`")


def check_url(url: str) -> str:
    """The URL as it is.  Raises: ConfigError, which does not repeat it (it may hold a password), if it is none."""
    try:
        make_url(url)
    except (ArgumentError, ValueError) as error:
        raise ConfigError("this is no database URL; one is for example sqlite:////var/lib/batchacct/batchacct.db") from error
    return url


def _url_of_login(line: str) -> str:
    """The URL for `username/password@dsn`, with or without a kind before it.  Raises: ConfigError, which does not repeat it."""
    kind, login = "oracle", line
    if told := re.fullmatch(r"([a-z][a-z0-9_+]*)[ \t]+(\S.*)", line):
        kind, login = told.groups()
    parts = re.fullmatch(r'([^/]+)/(?:"([^"]+)"|([^@]*))@(.+)', login)
    if parts is None:
        raise ConfigError("its first line is neither a database URL nor username/password@dsn")
    if kind not in _DRIVERS:
        raise ConfigError(f"what stands before username/password@dsn is none of {', '.join(_DRIVERS)}")
    user, quoted, plain, dsn = parts.groups()
    scheme, module, extra = _DRIVERS[kind]
    if importlib.util.find_spec(module) is None:
        raise ConfigError(
            f"username/password@dsn means {'Oracle' if kind == 'oracle' else kind}, whose driver is missing: "
            f"pip install 'batchacct[{extra}]'. For another database write its kind before it, such as "
            "`postgresql username/password@host:port/database`, or its URL"
        )
    url = _oracle_url if kind.startswith("oracle") else _server_url
    return url(scheme, user, quoted or plain, dsn.strip()).render_as_string(hide_password=False)


def _server_url(scheme: str, user: str, password: str, dsn: str) -> URL:
    address = _ADDRESS.fullmatch(dsn)
    if address is None:
        raise ConfigError(f"what follows username/password@ is not host:port/database, as it is for {scheme}")
    host = address["v6"] or address["host"]
    return URL.create(scheme, user, password, host, _port(address), address["name"])


def _oracle_url(scheme: str, user: str, password: str, dsn: str) -> URL:
    """A DSN is host:port/service, a name out of tnsnames.ora, or all that stands there for such a name."""
    if address := _ADDRESS.fullmatch(dsn):
        host = address["v6"] or address["host"]
        return URL.create(scheme, user, password, host, _port(address), query={"service_name": address["name"]})
    if re.fullmatch(r"[A-Za-z][\w.-]*", dsn):
        return URL.create(scheme, user, password, dsn)
    return URL.create(scheme, user, password, query={"dsn": dsn})


def _port(address: re.Match[str]) -> int | None:
    return int(address["port"]) if address["port"] else None
