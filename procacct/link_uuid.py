"""The UUID of a link that follows from its inputs, for builds that have to be reproducible."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

from procacct.link_line import LinkLine

NAMESPACE = uuid.UUID("6d9a1f52-7b0e-4c3a-9d64-3f0c2b8e7a11")


def given_uuid(text: str) -> str:
    """A UUID in the usual spelling.  Raises: ValueError if it is none."""
    return str(uuid.UUID(text))


def uuid_of_inputs(line: LinkLine) -> str:
    """The same for the same inputs and options, in whatever folder and under whatever temporary names.  Raises: OSError."""
    return str(uuid.uuid5(NAMESPACE, _digest(line)))


def _digest(line: LinkLine) -> str:
    digest = hashlib.sha256()
    for name in line.inputs:
        path = Path(name)
        content = path.read_bytes() if path.is_file() else name.encode("utf-8", "surrogateescape")
        digest.update(hashlib.sha256(content).digest())
    for name, value in line.options:
        text = f"{name}={value or ''}"
        if name not in ("-o", "--output", "--plugin", "--plugin-opt") and "/" not in text:
            digest.update(text.encode("utf-8", "surrogateescape") + b"\0")
    digest.update(Path(line.output).name.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
