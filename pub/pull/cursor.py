"""Where a client is in the ledger, as a text that it keeps for us and need not understand.

Rows of the ledger are numbered by the step of the join that wrote them, and within it by their jobs; steps are committed in the
order of their numbers (`batchacct.store.sent`). So one place says what a client has had: what is written later, corrections of that
among it, stands behind that place. Records that were refused on the way are named in the cursor, some of them, as long as their
rows stand: a mended clock or setting may make them fit, and their rows do not move for that.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass, field

import numpy as np

from batchacct.store.sent import Numbers

AGAIN_AT_MOST = 64
"""So many refused records a cursor names: it stands twice in the head of an answer, of which proxies take no more than 4 KiB."""

_VERSION = 1
_HEAD = struct.Struct(">B8sqq")
_CHECK_BYTES = 4
_NONE: Numbers = np.empty(0, np.int64)


class CursorError(Exception):
    """A text that is no cursor, or one of another question; the message says which."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """All rows up to (`step`, `job_id`) were looked at; `steps` and `jobs` are rows among them that are to be tried again."""

    step: int = 0
    job_id: int = 0
    steps: Numbers = field(default_factory=_NONE.copy)
    jobs: Numbers = field(default_factory=_NONE.copy)

    def text(self, question: bytes) -> str:
        """The cursor for a client that asked this question (`digest`)."""
        rows = np.stack([self.steps, self.jobs]).astype(">i8").tobytes()
        content = _HEAD.pack(_VERSION, question, self.step, self.job_id) + rows
        return base64.urlsafe_b64encode(content + _check(content)).decode().rstrip("=")


def digest(*question: str) -> bytes:
    """What tells questions apart: a place in the answer to one is none in that to another."""
    told = hashlib.blake2b(digest_size=8)
    for part in question:
        told.update(len(part.encode()).to_bytes(4, "big") + part.encode())
    return told.digest()


def read_cursor(text: str, question: bytes) -> Cursor:
    """Raises: CursorError."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise CursorError(_DAMAGED) from error
    content, check = raw[:-_CHECK_BYTES], raw[-_CHECK_BYTES:]
    if len(content) < _HEAD.size or check != _check(content) or (len(content) - _HEAD.size) % 16:
        raise CursorError(_DAMAGED)
    version, asked, step, job_id = _HEAD.unpack_from(content)
    if version != _VERSION:
        raise CursorError("this cursor is of another version of batchacct: begin anew, without `after`")
    if asked != question:
        raise CursorError(
            "this cursor belongs to another destination, format or period: go on with those it was given for, or begin anew, "
            "without `after`"
        )
    steps, jobs = np.frombuffer(content, ">i8", offset=_HEAD.size).astype(np.int64).reshape(2, -1)
    return Cursor(step, job_id, steps, jobs)


_DAMAGED = "this is no cursor: give `after` as it came in Batchacct-Next, or begin anew, without it"


def _check(content: bytes) -> bytes:
    """It tells what was damaged on the way, and is no signature: a place of one's own making is as good as any."""
    return hashlib.blake2b(content, digest_size=_CHECK_BYTES).digest()
