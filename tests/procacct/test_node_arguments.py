"""What is kept of a command line that was read from /proc: a first argument may be a secret, if the program is no interpreter."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from procacct.node import proc_files
from procacct.node.proc_files import Arguments, kept_words

SENSOR = Path(proc_files.__file__).parents[1] / "sensor/interpreters.c"
NAMES = re.findall(r'\{"(\w+)", "', SENSOR.read_text(encoding="ascii"))


@pytest.mark.parametrize("policy", ["program", "redacted"])
@pytest.mark.parametrize(
    "program",
    ["/usr/bin/shred", "/usr/bin/shasum", "/opt/node_exporter", "/usr/bin/luac", "/usr/sbin/php-fpm8.2", "/usr/bin/perldoc",
     "/usr/bin/python3-config", "/usr/bin/showkey", "/usr/bin/sha256sum"],
)  # fmt: skip
def test_the_first_argument_of_what_is_no_interpreter_is_left_out(program: str, policy: Arguments) -> None:
    assert kept_words((program, "s3cr3t-token"), policy, program) == (program,)
    assert kept_words((program, "s3cr3t-token"), policy, None) == (program,)


@pytest.mark.parametrize("name", [*NAMES, "fish", "-bash", "python3.11", "ksh93", "php8.2", "lua5.4"])
def test_an_interpreters_script_is_kept(name: str) -> None:
    assert len(NAMES) > 10
    assert kept_words((name, "run.x", "secret"), "program", f"/usr/bin/{name}") == (name, "run.x")
    assert kept_words((name, "-c", "secret"), "program", f"/usr/bin/{name}") == (name,)
