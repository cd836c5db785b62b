"""The cluster of the tests itself: it leaves nothing behind, and says what it lacks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import REQUIRED, MissingServerError
from tests.services import slurm as services
from tests.services.slurm import slurm


def processes_of(folder: Path) -> Iterator[str]:
    """What runs with the folder in its command line, its environment or as its place."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (
                (process / "cmdline").read_bytes() + (process / "environ").read_bytes() + os.fsencode((process / "cwd").readlink())
            )
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if os.fsencode(folder) in told:
            yield f"{process.name}: {told!r}"


def test_nothing_is_left_behind() -> None:
    """Not even by a job that is running when the test fails, and that does not want to end."""
    system_places = [Path("/run/munge"), Path("/var/run/slurmd.pid"), Path("/var/spool/slurmd"), Path("/var/log/slurm_jobcomp.log")]
    there = [place.exists() for place in system_places]
    try:
        with pytest.raises(ZeroDivisionError), slurm() as cluster:
            job = cluster.submit("trap '' TERM; while :; do sleep 1; done")
            cluster.wait(job, "RUNNING")
            assert list(processes_of(cluster.folder))
            raise ZeroDivisionError
    except MissingServerError as missing:
        if REQUIRED:
            raise
        pytest.skip(str(missing))
    assert not cluster.folder.exists()
    assert list(processes_of(cluster.folder)) == []
    assert [place.exists() for place in system_places] == there


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_PATH", "/nowhere")
    with pytest.raises(MissingServerError, match="apt-get install mariadb-server munge slurm-wlm slurmdbd"), slurm():
        pass


def test_it_takes_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_PROGRAMS", {})
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MissingServerError, match="run the tests as root"), slurm():
        pass
