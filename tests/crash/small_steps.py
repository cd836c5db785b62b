"""The `batchacct` commands, one after the other, in steps so small that a few hundred jobs make many transactions to interrupt.

Says `ready` on standard output when everything is imported and the work begins.
"""

from __future__ import annotations

import sys

from batchacct.cli import collecting  # noqa: F401 - imported before the work is said to begin
from batchacct.cli.main import main
from batchacct.parsing import reading
from cecol import blah  # noqa: F401
from loccol import lsf  # noqa: F401
from pub import command, joining, outbox, sending  # noqa: F401

if __name__ == "__main__":
    assert reading.read_blocks.__kwdefaults__ is not None
    reading.read_blocks.__kwdefaults__["block_bytes"] = 20_000
    joining.RECORDS_PER_STEP = 200
    outbox.RECORDS_PER_STEP = 150
    sending.CONFIRM_EVERY = 3
    wanted = sys.argv[1:]
    print("ready", flush=True)
    for name in wanted:
        sys.argv = ["batchacct", name, "--once"]
        main()
