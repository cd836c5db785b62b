"""Imports a 2012 database in children that are killed at the points of a task, and at last in one that is not.

Run as `python -m tests.importing.killing TASK`: a process of its own, with what an import needs loaded before the first child.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import traceback
from typing import Any
from unittest import mock

from batchacct.cli import importing  # noqa: F401 - imported before the first child
from batchacct.cli.main import main as batchacct
from batchacct.importing import feed, running
from cecol import ce_2012  # noqa: F401
from loccol import loc_2012  # noqa: F401

ROWS_PER_ANSWER = 50


def in_child(task: dict[str, Any], crash_at: str | None) -> int:
    """How it ended; a negative number is the signal that killed it."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.environ["BATCHACCT_CONFIG"] = task["config"]
            if crash_at is not None:
                os.environ["BATCHACCT_CRASH_AT"] = crash_at
            sys.argv = ["batchacct", "import", "2012", "--url", task["url"], "--zone", task["zone"]]
            batchacct()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:  # noqa: BLE001 - a forked child must not go on
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(task: dict[str, Any]) -> None:
    small = functools.partial(feed.TableFeed, rows_per_answer=ROWS_PER_ANSWER)
    mock.patch.object(running, "TableFeed", small).start()
    killed = 0
    for point in task["points"]:
        status = in_child(task, point)
        assert status in (0, -signal.SIGKILL), status
        killed += status != 0
    assert in_child(task, None) == 0
    print(json.dumps({"killed": killed}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
