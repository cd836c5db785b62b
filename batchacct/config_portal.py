"""The section of the configuration that says what the portal shows, to whom, and where it listens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, model_validator

from batchacct.addresses import checked_address
from batchacct.sections import Duration, File, Section, Zone, key

DEFAULT_ACCOUNTS = Path("/etc/batchacct/portal.accounts")


def is_socket(address: str) -> bool:
    """Whether an address is that of a Unix socket."""
    return address.startswith("/")


def _address(value: str) -> str:
    return value if is_socket(value) else checked_address(value)


class Portal(Section):
    """What `batchacct portal` shows, to whom, and where it listens."""

    address: Annotated[str, AfterValidator(_address)] = key(
        "address and port it listens at, or the full path of a Unix socket", "127.0.0.1:9107"
    )
    socket_group: str | None = key("group that may connect to the Unix socket, beside the user of the portal", None)
    https: bool = key("people reach it by HTTPS, through a proxy: cookies are sent by that alone", False)
    login: Literal["accounts", "proxy"] = key("who says who somebody is: the accounts file, or a proxy in front", "accounts")
    accounts_file: File = key(
        "accounts: roles, passwords as hashes, whose jobs are theirs; not readable for everybody", DEFAULT_ACCOUNTS
    )
    user_header: str = key("header in which the proxy names the user", "X-Remote-User", pattern=r"^[A-Za-z][A-Za-z0-9-]{0,60}$")
    secret_file: File | None = key(
        "file with the secret that the proxy shows in X-Portal-Secret; not readable for everybody; needed but for a Unix socket",
        None,
    )
    others: Literal["refused", "user"] = key("whom the proxy names and the accounts file does not: refused, or a user", "refused")
    names: Literal["shown", "hidden"] = key("whether accounting officers see accounts and DNs of people", "hidden")
    zone: Zone = key("time zone of days and months, where nobody asks for another", "UTC")
    session_life: Duration = key("a login is good for this long", 8 * 3600, sample="8h", ge=60)
    longest_period: Duration = key("a question covers at most this", 1100 * 86_400, sample="1100d", ge=86_400)
    most_bins: int = key("... in at most so many bins", 2000, ge=1, le=20_000)
    most_rows: int = key("a download has at most so many rows", 50_000, ge=100, le=1_000_000)
    at_once: int = key("questions put to the database at the same time; others wait a little", 2, ge=1, le=16)
    fresh: Duration = key("figures are at most this old, however often they are asked for", 15, sample="15s")
    deadline: Duration = key("a statement that takes longer is given up", 20, sample="20s", ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> Portal:
        if self.socket_group is not None and not is_socket(self.address):
            raise ValueError("socket_group is for a Unix socket: give its path as address")
        return self
