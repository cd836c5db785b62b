"""Commands one after the other in one process, so that Spark's driver starts once: `python -m tests.services.spark_driver JSON`.

Tells, on the last line, the exit status of each and the most memory that a Python worker of Spark had resident (MiB).
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

from batchacct.cli import main


def watch(peaks: dict[int, int], stop: threading.Event) -> None:
    while not stop.is_set():
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if b"pyspark" in (place / "cmdline").read_bytes() and b"daemon" in (place / "cmdline").read_bytes():
                    status = (place / "status").read_text()
                    high = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)
                    peaks[int(place.name)] = max(peaks.get(int(place.name), 0), high // 1024)
            except OSError:
                continue
        stop.wait(0.2)  # what is asked for is the highest it ever was


def run(arguments: list[str]) -> int:
    sys.argv = ["batchacct", *arguments]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


if __name__ == "__main__":
    peaks: dict[int, int] = {}
    stop = threading.Event()
    watcher = threading.Thread(target=watch, args=(peaks, stop), daemon=True)
    watcher.start()
    statuses = []
    for arguments in json.loads(sys.argv[1]):
        statuses.append(run(arguments))
        print(f"--- end of {arguments[0]}", flush=True)
    stop.set()
    watcher.join()
    print(json.dumps({"statuses": statuses, "peak_mib": max(peaks.values(), default=0)}))
