"""Runs checks: all at the same time, each in a thread, and none longer than there is time for."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from batchacct.doctor.contract import CHECKS, Check, Examined, Finding, NotKnownError, error, not_applicable
from batchacct.errors import BatchacctError, PluginError
from batchacct.parsing import registry

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """A finding, and the check it is of."""

    check: str
    finding: Finding


def registered() -> dict[str, Check]:
    """Those there are, by name; in the place of a broken one something that tells so."""
    return {name: _loaded(name) for name in registry.names(CHECKS)}


def examine(checks: Mapping[str, Check], examined: Examined, timeout_s: float) -> list[Told]:
    """What the checks find, in the order of their names; one that has not ended in time is an error."""
    runs = [_Run(name, check, examined) for name, check in sorted(checks.items())]
    until = time.monotonic() + timeout_s
    for run in runs:
        run.start()
    told: list[Told] = []
    for run in runs:
        run.join(max(until - time.monotonic(), 0))
        told += [Told(run.name, finding) for finding in (_hangs(run.name, timeout_s) if run.is_alive() else run.findings)]
    return told


class _Run(threading.Thread):
    """A check at work; one that hangs (a dead file server) is left behind when the process ends."""

    def __init__(self, name: str, check: Check, examined: Examined) -> None:
        super().__init__(name=name, daemon=True)
        self._check, self._examined = check, examined
        self.findings: list[Finding] = []

    def run(self) -> None:
        try:
            self.findings = list(self._check(self._examined))
        except NotKnownError as unknown:
            self.findings = [not_applicable(self.name, f"not checked: {unknown}")]
        except BatchacctError as failed:
            self.findings = [error(self.name, failed.message, "do what it says, then run `batchacct doctor` again")]
        except Exception as failed:
            log.debug("check %s", self.name, exc_info=True)
            said = f"the check itself failed: {type(failed).__name__}: {failed}"
            self.findings = [error(self.name, said, "report it to who wrote the check, with the output of `batchacct -vv doctor`")]


def _hangs(name: str, timeout_s: float) -> Iterable[Finding]:
    todo = "see whether a file system or a server that it asks hangs; if it is only slow, give it more time with --timeout"
    yield error(name, f"no answer within {timeout_s:g} s", todo)


def _loaded(name: str) -> Check:
    try:
        return cast("Check", registry.load(CHECKS, name))
    except PluginError as broken:
        told = _told_of(name, broken)

        def tell(examined: Examined, /) -> Iterable[Finding]:
            del examined
            yield told

        return tell


def _told_of(name: str, broken: PluginError) -> Finding:
    """A room may not be installed here: then there is nothing of it to be checked."""
    cause = broken.__cause__
    if isinstance(cause, ModuleNotFoundError) and f"({cause.name}." in broken.message:
        return not_applicable(name, f"{cause.name} is not installed")
    return error(name, broken.message, "install what it needs, or uninstall it")
