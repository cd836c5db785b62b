"""Told to end, or to read its configuration again; and that no source is ever collected by two."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select

from batchacct.config import PATH_VARIABLE
from batchacct.errors import BusyError
from batchacct.store.tables import identity, load
from tests.faults.farm import Farm, source_table
from tests.faults.proxy import Line, proxy
from tests.faults.writer import Style, job_line
from tests.forks import Forked

MEGABYTES = 80


def lsf(farm: Farm, name: str = "lsf", files: str = "lsb.acct*") -> str:
    return source_table(name, "lsf", farm.logs / files)


def reloaded(farm: Farm, process: Forked, says: str) -> None:
    """Has it read its configuration again, and waits until it says so."""
    before = farm.said().count(says)
    process.send(signal.SIGHUP)
    farm.until(f"it says {says!r}", lambda: farm.said().count(says) > before)


# --- SIGTERM -------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_told_to_end_in_the_midst_of_a_large_log(sqlite_farm: Farm) -> None:
    farm = sqlite_farm
    lines = (MEGABYTES << 20) // len(job_line(100_000))
    log = farm.log()
    for _ in range(lines // 10_000):
        log.append(10_000)
    process = farm.start()
    farm.until("it has begun", lambda: farm.count() > 0)
    began = time.monotonic()
    assert process.terminate() == 0
    assert time.monotonic() - began < 30, "systemd gives it 90"
    assert 0 < farm.count() < len(log.written), "it did not read to the end first"
    process = farm.start()
    farm.until("all is stored", lambda: farm.count() >= len(log.written), within_s=120)
    assert process.terminate() == 0
    farm.check(log)


def test_the_command_itself_ends_within_seconds(farm: Farm) -> None:
    """Not forked by the tests' server: with an interpreter that has to come to its own end."""
    log = farm.log()
    batchacct = Path(sys.executable).with_name("batchacct")
    environment = {**os.environ, PATH_VARIABLE: str(farm.configuration)}
    with (farm.folder / "collect.log").open("ab") as output:
        process = subprocess.Popen([batchacct, "collect"], env=environment, stderr=output)
    try:
        log.append(20)
        farm.until_stored(log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
    assert farm.said().splitlines()[-1].endswith(" INFO ended")
    farm.check(log)


# --- SIGHUP --------------------------------------------------------------------------------------------------------------------


def test_sources_are_added_changed_and_removed(farm: Farm) -> None:
    log, other, blah = farm.log(), farm.log("other.acct", first=10_001), farm.log("blahp.log-20240101")
    process = farm.start()
    for one in (log, other, blah):
        one.append(20)
    farm.until_stored(log)

    farm.configure(lsf(farm), source_table("blah", "blah", farm.logs / "blahp.log-*"))
    reloaded(farm, process, "configuration read again")
    farm.until_stored(blah)

    farm.configure(source_table("lsf", "lsf", farm.logs / "*.acct*"), source_table("blah", "blah", farm.logs / "blahp.log-*"))
    log.append(20)
    reloaded(farm, process, "configuration read again")
    farm.until("the other log is stored, too", lambda: farm.count() == len(log.written) + len(other.written))

    farm.configure(source_table("lsf", "lsf", farm.logs / "*.acct*"))
    reloaded(farm, process, "configuration read again")
    blah.append(20)
    blah.rotate(Style.DAILY)
    log.append(20)
    log.rotate(Style.SHIFT)
    other.append(20)
    farm.until("both logs are stored", lambda: farm.count() == len(log.written) + len(other.written))
    assert farm.count(identity) == 20, "nobody collects that source any more"
    assert process.terminate() == 0

    farm.configure(source_table("lsf", "lsf", farm.logs / "*.acct*"), source_table("blah", "blah", farm.logs / "blahp.log-*"))
    with farm.start():
        farm.until_stored(blah)
    farm.check(log, other, blah)


def test_a_broken_configuration_is_told_and_the_old_one_stays(farm: Farm) -> None:
    log = farm.log()
    process = farm.start()
    log.append(20)
    farm.until_stored(log)
    good = farm.configuration.read_text(encoding="utf-8")
    for broken in (good.replace("parser", "parzer"), good + "\n[", ""):
        farm.configuration.write_text(broken, encoding="utf-8")
        reloaded(farm, process, "the configuration stays as it was")
        log.append(20)
        farm.until_stored(log)
    farm.configuration.unlink()
    reloaded(farm, process, "the configuration stays as it was")
    farm.configuration.write_text(good, encoding="utf-8")
    reloaded(farm, process, "configuration read again")
    log.append(20)
    farm.until_stored(log)
    assert process.terminate() == 0
    farm.check(log)


def test_many_reloads_under_load_lose_nothing(farm: Farm) -> None:
    log = farm.log()
    process = farm.start()
    log.append(50)
    farm.until_stored(log)
    for turn in range(10):
        log.append(50)
        farm.configure(lsf(farm), collect={"heartbeat": f"{turn + 1}h"})
        process.send(signal.SIGHUP)
        log.rotate((Style.RENAME, Style.SHIFT, Style.COPY)[turn % 3])
        log.append(50)
        process.has_ended(within_s=0.1)
    farm.until_stored(log)
    assert process.terminate() == 0
    farm.check(log)


# --- one collector a source ----------------------------------------------------------------------------------------------------


def refused(farm: Farm, *names: str) -> None:
    """A second collector: it is refused, and says of which source."""
    output = f"refused-{time.monotonic_ns()}.log"
    assert farm.start(*names, output=output).wait() == BusyError.exit_code, farm.said(output)
    assert "another process is doing `collect lsf` on this database" in farm.said(output)


def test_a_second_collector_is_refused(farm: Farm) -> None:
    farm.configure(lsf(farm), source_table("blah", "blah", farm.logs / "blahp.log-*"))
    log, blah = farm.log(), farm.log("blahp.log-20240101")
    log.append(20)
    blah.append(20)
    first = farm.start("lsf")
    farm.until_stored(log)
    refused(farm)
    refused(farm, "lsf")
    second = farm.start("blah", output="second.log")
    farm.until_stored(blah)
    log.append(20)
    farm.until_stored(log)
    first.kill()
    farm.until("the lock is gone with its process", lambda: takes_over(farm))
    log.append(20)
    farm.until_stored(log)
    refused(farm, "lsf")
    assert second.terminate() == 0
    farm.check(log, blah)


def takes_over(farm: Farm) -> bool:
    """Starts a collector of `lsf`; False if it is refused."""
    process = farm.start("lsf", output="third.log")
    return not process.has_ended(within_s=1)


def test_collecting_once_beside_a_collector_is_refused(farm: Farm) -> None:
    log = farm.log()
    log.append(20)
    with farm.start():
        farm.until_stored(log)
        assert farm.run("batchacct", "collect", "--once", output="once.log").wait() == BusyError.exit_code
    farm.check(log)
    assert farm.run("batchacct", "collect", "--once", output="once.log").wait() == 0


def test_a_second_collector_is_refused_while_the_first_waits_for_the_database(farm: Farm) -> None:
    if farm.store.dialect.name != "postgresql":
        pytest.skip("an SQLite database that one may use, the other may, too")
    log = farm.log()
    port = farm.store.engine.url.port
    assert port is not None
    direct = farm.configuration.read_text(encoding="utf-8")
    with proxy(port) as between:
        farm.configure(lsf(farm), url=farm.url.replace(f":{port}/", f":{between.port}/"))
        process = farm.start()
        log.append(20)
        farm.until_stored(log)
        between.set(Line.STALLED)
        log.append(20)
        farm.configuration.write_text(direct, encoding="utf-8")
        refused(farm)
        between.set(Line.THROUGH)
        farm.until_stored(log)
        assert process.terminate() == 0
    farm.check(log)
    with farm.store.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(load)) or 0
