"""The parts of the sensor, compiled with sanitizers into a program that is asked case by case."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import IO

from procacct.datagrams import Datagram, decode
from procacct.policy import Policy
from procacct.sensor.building import SOURCES

PARTS = ("policy.c", "redaction.c", "interpreters.c", "environment.c", "datagram.c", "texts.c")


class Harness:
    """One program for each kind of question, that lives until `close`."""

    def __init__(self, folder: Path) -> None:
        self._program = folder / "harness"
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        options = [
            "-std=c11",
            "-Wall",
            "-Wextra",
            "-D_GNU_SOURCE",
            "-g",
            "-O1",
            "-fsanitize=address,undefined",
            "-fno-sanitize-recover=all",
        ]
        sources = [Path(__file__).with_suffix(".c"), *(SOURCES / part for part in PARTS)]
        subprocess.run(["gcc", *options, f"-I{SOURCES}", "-o", self._program, *sources], check=True)

    def ask(self, what: str, data: bytes, policy: bytes = b"") -> bytes:
        if what not in self._running:
            env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
            self._running[what] = subprocess.Popen([self._program, what], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        running = self._running[what]
        to, back = _of(running.stdin), _of(running.stdout)
        to.write(b"%d %d\n" % (len(policy), len(policy) + len(data)) + policy + data)
        to.flush()
        length = back.readline()
        assert length, f"the harness ended with {self._running.pop(what).wait()}"
        return back.read(int(length))

    def arguments(self, policy: Policy, arguments: list[bytes]) -> Datagram:
        return decode(self.ask("redact", b"".join(a + b"\0" for a in arguments), policy.text()))

    def environment(self, policy: Policy, variables: list[bytes]) -> Datagram:
        return decode(self.ask("environment", b"".join(v + b"\0" for v in variables), policy.text()))

    def close(self) -> None:
        for running in self._running.values():
            _of(running.stdin).close()
            assert running.wait(timeout=90) == 0
            _of(running.stdout).close()


def _of(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
