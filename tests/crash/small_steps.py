"""The `batchacct` commands, one after the other, in steps so small that a few hundred jobs make many transactions to interrupt."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from batchacct.cli.main import main as batchacct
from batchacct.parsing import reading
from pub import joining, outbox, sending


def main(commands: Sequence[str]) -> int:
    assert reading.read_blocks.__kwdefaults__ is not None
    reading.read_blocks.__kwdefaults__["block_bytes"] = 20_000
    joining.RECORDS_PER_STEP = 200
    outbox.RECORDS_PER_STEP = 150
    sending.CONFIRM_EVERY = 3
    for name in commands:
        sys.argv = ["batchacct", name, "--once"]
        batchacct()
    return 0
