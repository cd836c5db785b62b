"""Which application a program is: by the rules of `[[application]]`, else by the name of its file."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Sequence
from functools import lru_cache

from batchacct.config_applications import Application
from batchacct.ledger.whose import UNKNOWN


class Applications:
    """The rules, in order: the first that matches a program by its path, a loaded module or its signature decides."""

    def __init__(self, rules: Sequence[Application]) -> None:
        self._rules = [(r.name, _any_of(r.programs or ()), _any_of(r.modules), _any_of(r.signatures)) for r in rules]
        self.of = lru_cache(100_000)(self._of)

    def _of(self, program: str | None, signature: str | None, modules: str | None) -> str:
        """The name of the application; `modules` is the JSON list of a process record."""
        loaded = modules_of(modules)
        for name, programs, by_module, signatures in self._rules:
            if program and programs.fullmatch(program):
                return name
            if (signature and signatures.fullmatch(signature)) or any(by_module.fullmatch(one) for one in loaded):
                return name
        return (program or "").rpartition("/")[2] or UNKNOWN


def modules_of(text: str | None) -> tuple[str, ...]:
    """The modules of a process record: a JSON list of texts, or nothing."""
    found = json.loads(text) if text else ()
    return tuple(str(one) for one in found) if isinstance(found, list) else ()


def _any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    """What matches one of some patterns with * and ?; without any, nothing."""
    literal = (one.replace("[", "[[]") for one in patterns)
    return re.compile("|".join(fnmatch.translate(one) for one in literal) or r"(?!)")
