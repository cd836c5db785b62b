"""The functions by which a program executes another, and `acc_run` and `acc_bash`: each is recorded, nothing is in between.

The sensor of app-accounting saw one of the six, and every command it saw ended with status 0, under the pid of a watcher.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from procacct.datagrams import Kind
from tests.procacct.sensor.sensed import Sensor, compiled

FAMILY = r"""
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
extern char **environ;
int main(int number, char **arguments) {
    char *own = arguments[1];
    if (number == 3) return atoi(arguments[2]);
    for (int i = 0; i < 6; i++) {
        char status[] = {'1', (char)('0' + i), 0};
        char *argv_i[] = {own, "x", status, NULL};
        pid_t child = fork();
        if (!child) {
            switch (i) {
            case 0: execve(own, argv_i, environ); break;
            case 1: execl(own, own, "x", status, NULL); break;
            case 2: execle(own, own, "x", status, NULL, environ); break;
            case 3: execlp(own, own, "x", status, NULL); break;
            case 4: execv(own, argv_i); break;
            case 5: execvp(own, argv_i); break;
            }
            _exit(99);
        }
        int told;
        pid_t ended = waitpid(child, &told, 0);
        printf("%d %d\n", ended == child, WEXITSTATUS(told));
    }
    return 0;
}
"""


def test_each_of_the_family_is_told_and_has_its_own_status(sensor: Sensor, programs: Path) -> None:
    program = compiled(programs, "family", FAMILY)
    with sensor.listening():
        done = sensor.run([program, program])
    assert done.output.decode().splitlines() == [f"1 {status}" for status in range(10, 16)]
    assert len(sensor.of("family")) == 7, "the program, and six it executed"


def test_what_cannot_be_executed_is_not_told_and_fails_as_ever(sensor: Sensor) -> None:
    with sensor.listening() as received:
        done = sensor.run(["/bin/bash", "-c", "/nonexistent/x 2>&-; echo $?; nosuch 2>&-; echo $?"])
    assert done.output == b"127\n127\n"
    assert len({one.pid for one in received if one.datagram.kind is Kind.START}) == 1


ACC = "from procacct.running import acc_run, acc_bash; import sys; sys.argv[0] = {name!r}; {name}()"


@pytest.mark.parametrize(("name", "words"), [("acc_run", ["bash", "-c"]), ("acc_bash", ["-c"])])
def test_commands_run_as_they_would_and_are_told(sensor: Sensor, name: str, words: list[str]) -> None:
    """`acc_run bash -c ...` and `acc_bash -c ...`: own pid, own status; what it starts is told as well."""
    environment = {**os.environ, "BATCHACCT_SENSOR_LIBRARY": str(sensor.library), "LD_PRELOAD": "/nonexistent/other.so"}
    code = ACC.format(name=name)
    command = [sys.executable, "-c", code, *words, "echo $$; echo $LD_PRELOAD; /bin/true; exit 7"]
    with (
        sensor.listening() as received,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process,
    ):
        output = process.communicate(timeout=60)[0].decode().splitlines()
    assert process.returncode == 7
    assert output == [str(process.pid), f"/nonexistent/other.so:{sensor.library}"]
    assert process.pid in {one.pid for one in received}
    assert len({one.pid for one in received}) == 2


def test_a_signal_reaches_the_command_itself(sensor: Sensor) -> None:
    environment = {**os.environ, "BATCHACCT_SENSOR_LIBRARY": str(sensor.library)}
    command = [sys.executable, "-c", ACC.format(name="acc_run"), "bash", "-c", "echo ready; read never"]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM


def test_acc_run_of_nothing_and_of_what_is_not_there() -> None:
    for words, status in (([], 2), (["--help"], 0), (["/nonexistent/x"], 127), (["/etc/passwd"], 126)):
        done = subprocess.run([sys.executable, "-c", ACC.format(name="acc_run"), *words], capture_output=True, check=False)
        assert done.returncode == status
