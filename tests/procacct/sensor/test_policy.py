"""The policy file, and what cannot be one. What the sensor makes of it is in test_redaction.py and test_recording.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batchacct.errors import ConfigError
from procacct.policy import LARGEST_BYTES, Policy, Rule, write


def test_the_file(tmp_path: Path) -> None:
    path = tmp_path / "policy"
    rules = (Rule("skip", "/usr/bin/*"), Rule("sample", "*/true", one_of=10), Rule("keep", "*", argument="x y"))
    write(path, Policy(rules=rules, environment=("OMP_*",), secrets=("Lösung",), opt_out="/var/out/%U", arguments="redacted"))
    assert path.read_text(encoding="utf-8").splitlines() == [
        "batchacct-policy 1",
        "active\tyes",
        "socket\t/run/batchacct/procacct.sensor",
        "arguments\tredacted",
        "objects\tyes",
        "opt-out\t/var/out/%U",
        "rule\tskip\t1\t/usr/bin/*",
        "rule\tsample\t10\t*/true",
        "rule\tkeep\t1\t*\tx y",
        "environment\tOMP_*",
        "secret\tlösung",
        "end",
    ]
    assert path.stat().st_mode & 0o7777 == 0o644
    before = path.stat().st_ino
    write(path, Policy())
    assert path.stat().st_ino != before, "put in place of the old one, not written into it"
    assert [file.name for file in tmp_path.iterdir()] == ["policy"]


def test_its_mode_does_not_depend_on_the_mask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write(tmp_path / "policy", Policy())
    finally:
        os.umask(before)
    assert (tmp_path / "policy").stat().st_mode & 0o7777 == 0o644


WRONG: dict[str, dict[str, object]] = {
    "arguments": {"arguments": "some"},
    "action": {"rules": (Rule("drop", "x"),)},  # type: ignore[arg-type]
    "newline": {"rules": (Rule("skip", "x\nend"),)},
    "tab": {"rules": (Rule("skip", "x\ty"),)},
    "empty pattern": {"rules": (Rule("skip", ""),)},
    "one of none": {"rules": (Rule("sample", "x", one_of=0),)},
    "variable": {"environment": ("A=b",)},
    "star within": {"environment": ("A*B",)},
    "socket": {"socket": Path("/" + "x" * 107)},
    "opt-out": {"opt_out": "/x/%s"},
    "opt-out relative": {"opt_out": "x"},
    "size": {"environment": tuple(f"NAME_{n}" for n in range(1000))},
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_said(tmp_path: Path, what: str) -> None:
    with pytest.raises(ConfigError, match=r"^Policy of the sensor: "):
        write(tmp_path / "policy", Policy(**WRONG[what]))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_the_largest(tmp_path: Path) -> None:
    rest = LARGEST_BYTES - len(Policy(environment=("A",)).text()) + 1
    assert len(Policy(environment=("A" * rest,)).text()) == LARGEST_BYTES
    with pytest.raises(ConfigError, match="come to 8192 bytes"):
        Policy(environment=("A" * (rest + 1),)).text()
