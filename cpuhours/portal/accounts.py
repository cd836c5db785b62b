"""The accounts file: who may look, with which role, by which password, and whose jobs are theirs. JSON, written by `portal passwd`.

Passwords are kept as scrypt hashes (werkzeug's, with a salt each); what is looked up is read anew when the file has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from werkzeug.security import check_password_hash, generate_password_hash

from batchacct.durable import replace_file
from batchacct.errors import ConfigError
from cpuhours.portal.viewers import Role, Viewer, is_identity, is_name

SHORTEST_PASSWORD, LONGEST_PASSWORD = 10, 500


@dataclass(frozen=True, slots=True)
class Account:
    """One entry of the file; `password` is a hash, None where a proxy says who somebody is."""

    role: Role
    password: str | None = None
    accounts: tuple[str, ...] = ()
    identities: tuple[str, ...] = ()

    @property
    def proof(self) -> bytes:
        """Another one once the role or the password is another, were it the same word again: what a login is held against."""
        return hashlib.sha256(f"{self.role} {self.password}".encode()).digest()

    def viewer(self, name: str, *, sees_names: bool) -> Viewer:
        """A user without accounts of the own has that of the same name."""
        own = self.accounts or (() if self.identities else (name,))
        return Viewer(name, self.role, own, self.identities, sees_names)


def read_accounts(path: Path) -> dict[str, Account]:
    """The accounts of a file by name; none if there is no file.

    Raises: ConfigError if everybody may read it, or it is none.
    """
    try:
        mode = path.stat().st_mode
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"accounts file {path} cannot be read: {error}") from error
    if mode & stat.S_IROTH:
        raise ConfigError(f"accounts file {path} may be read by everybody and holds hashes of passwords: run `chmod o-r {path}`")
    try:
        return {name: _account(name, values) for name, values in json.loads(content).items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"accounts file {path} is damaged ({error}): restore it, or remove it and run `batchacct portal passwd` for each"
        ) from error


def _account(name: str, values: Mapping[str, object]) -> Account:
    role, password = Role(str(values["role"])), values.get("password")
    lists = [tuple(str(one) for one in values.get(key, ())) for key in ("accounts", "identities")]  # type: ignore[attr-defined]
    checked(name, *lists)
    return Account(role, None if password is None else str(password), *lists)


def checked(name: str, accounts: tuple[str, ...], identities: tuple[str, ...]) -> None:
    """Raises: ValueError for names that could be taken for those of others."""
    for one in (name, *accounts):
        if not is_name(one):
            raise ValueError(f"{one!r} is no name of an account: letters, digits and . _ @ + - only")
    for one in identities:
        if not is_identity(one):
            raise ValueError(f"{one!r} is no DN, and no issuer/subject of a token")


def write_accounts(path: Path, accounts: Mapping[str, Account]) -> None:
    """The owner of the file stays who it was: root may write what another user reads.  Raises: ConfigError."""
    values = {name: asdict(account) for name, account in sorted(accounts.items())}
    try:
        before = path.stat() if path.exists() else None
        replace_file(path, (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode())
        if before is not None and os.geteuid() == 0:
            os.chown(path, before.st_uid, before.st_gid)
    except OSError as error:
        raise ConfigError(
            f"accounts file {path} cannot be written: {error.strerror}. Make its folder, run this as its owner, or name "
            "another file: [portal] accounts_file"
        ) from error


def with_password(account: Account, password: str) -> Account:
    """Raises: ConfigError for a password that is too short to be one, or absurdly long."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise ConfigError(f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters: choose another")
    return replace(account, password=generate_password_hash(password))


class Accounts:
    """The accounts of a file as it is now. For any number of threads."""

    def __init__(self, path: Path) -> None:
        """Raises: ConfigError, as `read_accounts`."""
        self._path, self._turn = path, threading.Lock()
        self._known: dict[str, Account] = {}
        self._stamp: tuple[int, int, int] | None = None
        self._nobody = generate_password_hash("nobody's")
        self.named("")

    def named(self, name: str) -> Account | None:
        """Raises: ConfigError if the file cannot be used (any more): then nobody is let in."""
        with self._turn:
            stamp = self._now()
            if stamp != self._stamp or stamp is None:
                self._known = read_accounts(self._path)
                self._stamp = stamp
            return self._known.get(name)

    def is_there(self) -> bool:
        """Whether there is any account.  Raises: ConfigError, as `named`."""
        self.named("")
        return bool(self._known)

    def entered(self, name: str, password: str) -> Account | None:
        """The account of this name and password; of one that is not there the answer takes as long."""
        account = self.named(name)
        known = self._nobody if account is None or account.password is None else account.password
        fits = check_password_hash(known, password[:LONGEST_PASSWORD])
        return account if fits and known is not self._nobody else None

    def _now(self) -> tuple[int, int, int] | None:
        try:
            state = self._path.stat()
        except OSError:
            return None
        return state.st_mtime_ns, state.st_ino, state.st_mode
