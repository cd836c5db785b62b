"""Rejects listed by source and as JSON, and replayed while a collector runs, by several at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.runner import batchacct
from tests.cli.site import Site, blah, lsf
from tests.scripts_2012 import until

PROGRAM = str(Path(sys.executable).with_name("batchacct"))


def test_list_of_one_source_and_as_json(site: Site) -> None:
    site.write([b"bad \xff\n", lsf(1)], [b"bad too\n", b"worse\n"])
    site.good("collect", "--once")
    assert "Rejects, 1 of 1" in site.good("rejects", "list", "--source", "lsf")
    assert "Rejects, 1 of 2" in site.good("rejects", "list", "--source", "ce", "--limit", "1")
    told = json.loads(site.good("rejects", "list", "--source", "lsf", "--json"))
    assert told["total"] == 1
    (one,) = told["rejects"]
    assert one["unit"] == "bad \\xff"
    assert (one["source"], one["path"], one["source_offset"], one["length"]) == ("lsf", str(site.lsf_log), 0, 5)
    assert one["reason"] in site.good("rejects", "show", one["id"])
    assert json.loads(site.good("rejects", "list", "--json"))["total"] == 3
    done = site.run("rejects", "list", "--source", "nosuch")
    assert (done.status, done.err) == (3, "batchacct: no source is named nosuch; there are: ce, lsf\n")


def test_a_source_that_is_configured_no_more_still_has_its_rejects(site: Site) -> None:
    site.write([b"bad\n"], [b"bad\n"])
    site.good("collect", "--once")
    site.config.write_text(site.config.read_text().replace('name = "ce"', 'name = "ce2"'))
    assert "Rejects, 1 of 1" in site.good("rejects", "list", "--source", "ce")
    assert "Rejects, 0 of 0" in site.good("rejects", "list", "--source", "ce2")


@pytest.fixture
def collector(site: Site) -> Iterator[subprocess.Popen[bytes]]:
    """A running collector of a site whose CE has no cluster yet."""
    site.configure(ce="")
    env = {name: value for name, value in os.environ.items() if not name.startswith("BATCHACCT_")}
    with (site.folder / "log").open("wb") as out:
        process = subprocess.Popen([PROGRAM, "collect", "--config", str(site.config)], env=env, stdout=out, stderr=out)
    yield process
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def test_replay_while_the_collector_runs(site: Site, collector: subprocess.Popen[bytes]) -> None:
    """Two replays at once, while lines keep coming: each unit is counted once."""
    enough = threading.Event()
    written = []

    def write() -> None:
        number = 100
        while not enough.wait(0.01):
            with site.lsf_log.open("ab") as stream:
                stream.write(lsf(number))
            written.append(number)
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with site.blah_log.open("ab") as stream:
            stream.write(b"".join(blah(number) for number in range(30)))
        until(lambda: site.status()["open_rejects"] == 30)
        site.configure(ce='"ce01.example.org:8443/*" = "lsf1"')
        replay = [PROGRAM, "rejects", "replay", "--config", str(site.config)]
        both = [subprocess.Popen(replay, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(2)]
        told = [one.communicate(timeout=60)[0] for one in both]
        assert [one.returncode for one in both] == [0, 0], told
    finally:
        enough.set()
        writer.join()
    until(lambda: int(site.source("lsf")["recorded"]) == len(written))
    assert collector.poll() is None
    collector.send_signal(signal.SIGTERM)
    assert collector.wait(30) == 0
    state = site.status()
    assert (state["balanced"], state["open_rejects"]) == (True, 0), state["problems"]
    ce = site.source("ce")
    assert (ce["recorded"], ce["rejected"], ce["rejects"]) == (30, 0, 30)
    assert batchacct("status", "--config", site.config).status == 0
