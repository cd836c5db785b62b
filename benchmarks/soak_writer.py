"""`python -m benchmarks.soak_writer FOLDER LEDGER RATE SECONDS`: the soak's other half, which writes a log and turns it.

Every few seconds; a minute each by renaming, by shifting numbers, by shifting and compressing, and by copying and truncating
between two writes. The oldest files are deleted, minutes after they were read. Every batch of lines, 20 ms' worth, stands in the
ledger: first number, count, and the time (monotonic, ns) when it was written.
"""

from __future__ import annotations

import random
import struct
import sys
import threading
import time
from pathlib import Path

from tests.faults.writer import Log, Style

ENTRY = struct.Struct("<qqq")
BATCH_S = 0.02
TURN_S = 5.0
PHASE_S = 60.0
KEPT = 40
PHASES = (Style.RENAME, Style.SHIFT, Style.COMPRESS, Style.COPY)


def write(folder: Path, ledger: Path, rate: int, seconds: float) -> None:
    """Writes `rate` lines a second, as evenly as the machine allows."""
    log, chance = Log(folder / "lsb.acct"), random.Random(1)
    never = threading.Event()
    began = turned = time.monotonic()
    total = 0
    with ledger.open("ab", buffering=0) as entries:
        while (elapsed := time.monotonic() - began) < seconds:
            due = int(elapsed * rate) - total
            if due > 0:
                log.append(due)
                entries.write(ENTRY.pack(total + 1, due, time.monotonic_ns()))
                total += due
                log.written.clear()
            if time.monotonic() - turned > TURN_S * chance.uniform(0.6, 1.4):
                turned = time.monotonic()
                log.rotate(PHASES[int(elapsed / PHASE_S) % len(PHASES)])
                _delete_oldest(log)
            never.wait(BATCH_S)
    log.close()


def _delete_oldest(log: Log) -> None:
    older = sorted(log.path.parent.glob(f"{log.path.name}[-.]*"), key=lambda path: path.stat().st_mtime)
    for path in older[:-KEPT]:
        path.unlink()


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
