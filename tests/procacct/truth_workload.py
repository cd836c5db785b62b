"""What runs while everybody looks: `truth_workload.py FOLDER ROUNDS`, with the programs of truth_workload.c in the folder.

Processes of every kind, and many: shells and pipelines, a compiler's, Python's, static and setuid programs, chains of execs,
threads, daemons, crashes. Orphans become children of this process (prctl(2), PR_SET_CHILD_SUBREAPER), which ends when all have
ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import subprocess
import sys
from pathlib import Path

SUBREAPER = 36
NOBODY = 65534

SHELL = """
for i in 1 2 3 4 5 6 7 8; do /bin/true; done
/bin/false; (exit 4); (exit 5); : | (exit 6)
seq 50 | sort -rn | head -5 | wc -l
echo a b c | tr a-c d-f | sed s/d/x/ | awk '{print $1}' | cat
sh -c 'exit 3'; sh -c 'exec sh -c "exec env true"'; bash -c 'exec -a other /bin/true'
x=$(echo $(echo $(echo deep)))
/nonexistent/program 2>&1; nonexistent-program 2>&1
for name in TERM KILL HUP USR1 PIPE; do sh -c "kill -$name \\$\\$"; done
env -i /bin/true; env -i /bin/sh -c '/bin/true; exit 8'
(sleep 0.02 & sleep 0.01 & wait)
sh -c '(sleep 0.05; exit 2) &'
setsid sh -c '/bin/true & exit 1'
printf '#!/bin/sh\\n#\\nexit 12\\n' > "$1/script"; chmod +x "$1/script"; "$1/script"
ln -sf /bin/true "$1/a-link-of-more-than-fifteen"; "$1/a-link-of-more-than-fifteen"
find "$1" -maxdepth 1 -name '*.c' -exec /bin/true {} \\; -exec wc -c {} +
"""

PYTHON = """
import os, subprocess, sys, threading
for code in (0, 1, 255):
    pid = os.fork()
    if not pid:
        os._exit(code)
    os.waitpid(pid, 0)
subprocess.run(["/bin/true"])
os.waitpid(os.posix_spawn("/bin/echo", ["echo", "spawned"], os.environ), 0)
threads = [threading.Thread(target=subprocess.run, args=(["/bin/true"],)) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
os.closerange(0, 100)
sys.exit(7)
"""

SOURCE = '#include <stdio.h>\nint main(void) { puts("compiled"); return 21; }\n'

MODES = (
    "exit 0", "exit 33", "_exit 34", "signal 9", "signal 15", "signal 6", "segv", "abort", "chain 5", "threads", "threads-left",
    "thread-exec", "thread-fork", "leader-first", "vfork", "daemon", "burn 15", "memory 20",
)  # fmt: skip


def _run(*command: str | Path, user: int | None = None) -> None:
    """Runs it to its end, and notes what the kernel says it used: pid, status, user and system time, memory (KiB), faults."""
    quiet = subprocess.DEVNULL
    groups = None if user is None else ()
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet, user=user, group=user, extra_groups=groups)
    pid, status, used = os.wait4(process.pid, 0)
    process.returncode = status
    with Path("used").open("a") as file:
        file.write(f"{pid} {status} {used.ru_utime} {used.ru_stime} {used.ru_maxrss} {used.ru_minflt} {used.ru_majflt}\n")


def _round(folder: Path, number: int) -> None:
    _run("bash", "-c", SHELL, "round", folder)
    for program in ("dynamic", "static"):
        for mode in MODES:
            _run(folder / program, *mode.split())
    for program in ("dynamic", "setuid", "static-setuid") if os.geteuid() == 0 else ():
        _run(folder / program, "exit", "11", user=NOBODY)
    if number % 4 == 0:
        _run(sys.executable, "-S", "-c", PYTHON)
        (folder / "made.c").write_text(SOURCE)
        _run("gcc", "-O1", "-o", folder / "made", folder / "made.c")
        _run(folder / "made")


def main() -> None:
    folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in range(rounds):
        _round(folder, number)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


if __name__ == "__main__":
    main()
