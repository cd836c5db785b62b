"""Asks procacctd at its control socket."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from batchacct.errors import BatchacctError, Permanent, Transient

TIMEOUT_S = 30.0


class RefusedError(Permanent, BatchacctError):
    """The daemon was asked, and does not do it; the message is its own."""

    exit_code = 32


class NoDaemonError(Transient, BatchacctError):
    """The daemon does not answer."""

    exit_code = 31


def ask(path: Path, do: str, **request: object) -> dict[str, Any]:
    """The answer to a request.  Raises: RefusedError, NoDaemonError."""
    with asked(path, do, **request) as (answer, _):
        return answer


@contextmanager
def asked(path: Path, do: str, **request: object) -> Iterator[tuple[dict[str, Any], BufferedReader]]:
    """The answer, and where the lines after it come from, if there are any.  Raises: RefusedError, NoDaemonError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as there:
        there.settimeout(TIMEOUT_S)
        try:
            there.connect(os.fspath(path))
            with contextlib.suppress(BrokenPipeError):  # it may have no place for us: then it has said so
                there.sendall(json.dumps({"do": do, **request}).encode() + b"\n")
            with there.makefile("rb") as file:
                answer = json.loads(file.readline() or b"null")
                if not isinstance(answer, dict):
                    raise NoDaemonError(f"procacctd ended the connection at {path} without an answer: its log says why")
                if not answer.get("ok"):
                    raise RefusedError(str(answer.get("error")))
                yield answer, file
        except (OSError, ValueError) as error:
            raise NoDaemonError(
                f"procacctd does not answer at {path}: {getattr(error, 'strerror', None) or error}. Does it run on this host? "
                "(`systemctl status procacctd`; another socket is given by --socket)"
            ) from error
