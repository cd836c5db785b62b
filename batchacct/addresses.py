"""Addresses to listen at, as the configuration has them."""

from __future__ import annotations


def host_and_port(address: str) -> tuple[str, int]:
    """`127.0.0.1:9105`, `[::1]:9105`, apart.  Raises: ValueError for what is no such address."""
    host, _, port = address.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f"{address!r} is no address and port, such as 127.0.0.1:9105")
    return host.removeprefix("[").removesuffix("]"), int(port)


def checked_address(value: str) -> str:
    """The address as it is.  Raises: ValueError."""
    host_and_port(value)
    return value
