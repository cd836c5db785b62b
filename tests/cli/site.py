"""A small site for tests of the command line: LSF and BLAH lines of one's choice, a configuration, a folder."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tests.cli.runner import Done, batchacct

NOW = 1_793_534_400
"""2026-11-01 12:00:00Z; nothing depends on when, or in which zone, the tests are run."""
DAY = 86_400
ENDED = NOW - 3 * DAY

CE = "ce01.example.org:8443/cream-lsf-grid_atlas"


def lsf(
    job: object, *, submit: object = ENDED - 7200, start: object = ENDED - 3600, end: object = ENDED, user: bytes = b"elin"
) -> bytes:
    """A JOB_FINISH line (LSF 10.1) of a job in queue `normal`, group `atlasgrp`: 600 s CPU unless times are odd."""
    return (
        f'"JOB_FINISH" "10.1" {end} {job} 20424 33554434 1 {submit} 0 0 {start} "'.encode()
        + user
        + f'" "normal" "" "" "" "lxplus01.example.org" "" "" "/dev/null" "" "149/{submit}.{job}" 0 1 "lxb0023.example.org" '
        '64 9.5 "" "./run.sh" 590.0 10.0 1415409 0 -1 0 0 353852 0 0 117950 0 -1 0 0 0 1589689 176632 -1 "" "default" 0 1 "" "" '
        '0 1415409 1782968 "" "" "" "" 0 "" 0 "" -1 "/atlasgrp/elin" "" "default" "" -1 "" "" 6160 "" 1793158736 "" "" 2 1032 "0" '
        '1033 "0" 0 -1 64 1061556 "select[ type == any] order[r15s:pg] " "" -1 "" -1 0 "" 0 0 "" 3600 "work" 0 "" 0.0 0.00 0.00 '
        '0.00 0.00 1 "lxb0023.example.org" -1 0 0 0\n'.encode()
    )


def blah(job: object, *, at: str = "2026-10-29 10:00:00", ce: str = CE, dn: bytes = b"/DC=ch/DC=cern/CN=Ada Lovelace") -> bytes:
    """A BLAH line whose time is the submit time of `lsf`'s default job."""
    head = f'"timestamp={at}" "userDN='.encode() + dn
    return head + f'" "userFQAN=/atlas/Role=NULL/Capability=NULL" "ceID={ce}" "lrmsID={job}" "localUser=20424"\n'.encode()


@dataclass(frozen=True, slots=True)
class Site:
    """Its folder holds `batchacct.toml`, `logs/` and, once published, `outgoing/`."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "batchacct.toml"

    @property
    def lsf_log(self) -> Path:
        return self.folder / "logs/lsb.acct"

    @property
    def blah_log(self) -> Path:
        return self.folder / "logs/blahp.log-20261029"

    def configure(self, *, more: str = "", ce: str = "", database: str | None = None, outgoing: Path | None = None) -> None:
        """Writes the configuration; the BLAH source has no cluster, so that `ce` (lines of [ce]) decides."""
        place = self.folder
        url = database or f'url = "sqlite:///{place}/batchacct.db"'
        self.config.write_text(
            f'site = "TEST-SITE"\n[database]\n{url}\n'
            f'[[source]]\nname = "lsf"\nparser = "lsf"\npaths = ["{place}/logs/lsb.acct*"]\ncluster = "lsf1"\n'
            f'[[source]]\nname = "ce"\nparser = "blah"\npaths = ["{place}/logs/blahp.log-*"]\n'
            f'[[cluster]]\nname = "lsf1"\n[ce]\n{ce}\n[[benchmark]]\ntype = "HEPscore23"\nvalue = 10.0\n'
            f'[publish]\npath = "{outgoing or place / "outgoing"}"\n{more}'
        )

    def write(self, jobs: Iterable[bytes], identities: Iterable[bytes] = ()) -> None:
        self.lsf_log.write_bytes(b"".join(jobs))
        self.blah_log.write_bytes(b"".join(identities))

    def run(self, *arguments: object, now: int = NOW) -> Done:
        return batchacct(*arguments, env={"BATCHACCT_CONFIG": str(self.config), "BATCHACCT_NOW": str(now)})

    def good(self, *arguments: object) -> str:
        """Runs a command that has to work, and returns its output."""
        done = self.run(*arguments)
        assert (done.status, done.err) == (0, ""), done
        return done.out

    def status(self) -> dict[str, Any]:
        return cast("dict[str, Any]", json.loads(self.run("status", "--json").out))

    def source(self, name: str) -> dict[str, Any]:
        """The books of one source."""
        return next(s for s in self.status()["sources"] if s["name"] == name)

    def messages(self) -> list[str]:
        folder = self.folder / "outgoing"
        return [path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()]
