"""What `procacctd --check` tells of a host: as root of the host all works here, and what does not says what to do."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from procacct.node.installation import checks
from tests.procacct import event_log
from tests.servers import REQUIRED

ASK = "import json; from procacct.node.installation import checks; print(json.dumps([(c.name, c.works, c.told) for c in checks()]))"
is_fit = pytest.mark.skipif(not REQUIRED and not event_log.works(), reason="the kernel tells this user no process events")
is_root = pytest.mark.skipif(os.geteuid() != 0, reason="other users and namespaces need root")


@is_fit
def test_all_works_here(tmp_path: Path) -> None:
    found = checks((tmp_path / "spool",), {tmp_path / "run" / "control": socket.SOCK_STREAM})
    assert [(one.name, one.works) for one in found if not one.works] == []
    assert {one.name for one in found if one.needed} == {
        "process events",
        f"folder {tmp_path}/spool",
        f"socket {tmp_path}/run/control",
    }


@is_fit
@is_root
def test_in_a_container_no_events_are_told() -> None:
    told = _asked("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    works, why = told["process events"]
    assert not works
    assert "not in a container" in why


@is_root
def test_another_user_lacks_rights() -> None:
    told = _asked("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--")
    for name in ("taskstats", "BSD accounting", "rights"):
        works, why = told[name]
        assert not works
        assert "CAP_" in why


def test_sockets_and_folders(tmp_path: Path) -> None:
    left = tmp_path / "left"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(left))
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(tmp_path / "asked"))
        listening.listen()
        others = dict.fromkeys((left, tmp_path / "file", tmp_path / "file" / "control", tmp_path / "no" / "yet"), socket.SOCK_DGRAM)
        sockets = {tmp_path / "asked": socket.SOCK_STREAM} | others
        found = checks((tmp_path / "file" / "spool",), sockets)[-6:]
    assert [one.works for one in found] == [False, True, True, False, False, True]
    assert found[1].told == "a daemon listens there"
    assert "killed" in found[2].told
    assert "move it away" in found[3].told
    assert "let the user that runs procacctd do so" in found[4].told
    assert found[5].told == "can be made"


def _asked(*wrapper: str) -> dict[str, tuple[bool, str]]:
    done = subprocess.run([*wrapper, sys.executable, "-c", ASK], capture_output=True, text=True, check=True, timeout=30)
    return {name: (works, told) for name, works, told in json.loads(done.stdout)}
