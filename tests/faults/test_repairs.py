"""What an administrator does beside a collector that runs: mends a file, mistypes a key, replaces the database."""

from __future__ import annotations

import shutil
import signal
import socket
from pathlib import Path

from batchacct.errors import BusyError
from batchacct.store.tables import job
from tests.faults.farm import Farm, source_table


def test_a_file_that_was_mended_is_read_again_as_the_message_says(farm: Farm) -> None:
    """The source is stopped, the command in the message is run beside the collector, and the collector goes on by itself."""
    log = farm.log()
    process = farm.start()
    log.append(20)
    farm.until_stored(log)
    content = bytearray(log.path.read_bytes())
    at = content.rfind(b'"lxb')
    content[at : at + 4] = b'"LXB'
    with log.path.open("r+b") as file:
        file.write(content)
    farm.until("the source is stopped", lambda: "it was truncated or edited" in str(farm.state().get("last_error")))
    log.append(5)
    repair = farm.run("batchacct", "collect", "--once", "--from-start", str(log.path), "lsf", output="repair.log")
    assert repair.wait() == 0, farm.said("repair.log")
    log.append(5)
    farm.until("all is read", lambda: farm.count(job) == 31)  # 30 jobs, and the one as it was before
    farm.until("the error is over", lambda: farm.state().get("last_error") is None)
    assert "source=lsf is read again" in farm.said()
    assert process.terminate() == 0


def test_a_mistyped_parser_leaves_everything_as_it_was(sqlite_farm: Farm) -> None:
    farm = sqlite_farm
    log = farm.log()
    process = farm.start()
    log.append(10)
    farm.until_stored(log)
    text = farm.configuration.read_text(encoding="utf-8")
    farm.configuration.write_text(text.replace('parser = "lsf"', 'parser = "lsff"'), encoding="utf-8")
    process.send(signal.SIGHUP)
    farm.until("it is told", lambda: "the configuration stays as it was: parser 'lsff' is not installed" in farm.said())
    log.append(10)
    farm.until_stored(log)
    assert process.terminate() == 0
    farm.check(log)


def test_a_mistyped_parser_stops_its_source_alone_and_status_tells(sqlite_farm: Farm) -> None:
    farm = sqlite_farm
    log = farm.log()
    farm.configure(source_table("lsf", "lsf", farm.logs / "lsb.acct*"), source_table("other", "blahh", farm.logs / "blahp.log-*"))
    process = farm.start()
    log.append(10)
    farm.until_stored(log)
    (other,) = [one for one in farm.status()["following"] if one["source"] == "other"]
    assert "parser 'blahh' is not installed; did you mean blah?" in other["last_error"]
    assert process.terminate() == 0


def test_an_address_that_is_taken_keeps_nothing_from_being_collected(sqlite_farm: Farm) -> None:
    farm = sqlite_farm
    log = farm.log()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        farm.configure(source_table("lsf", "lsf", farm.logs / "lsb.acct*"), collect={"metrics_address": address})
        process = farm.start()
        log.append(10)
        farm.until_stored(log)
        farm.until("it says so", lambda: f"metrics cannot be served at {address}" in farm.said())
        assert farm.start(output="second.log").wait() == BusyError.exit_code, farm.said("second.log")
    assert process.terminate() == 0
    farm.check(log)


def test_a_database_that_is_replaced_by_a_backup_is_caught_up(sqlite_farm: Farm) -> None:
    farm = sqlite_farm
    path = farm.folder.parent / "batchacct.db"
    log = farm.log()
    log.append(10)
    assert farm.run("batchacct", "collect", "--once", output="once.log").wait() == 0
    farm.store.close()
    backup = shutil.copy(path, path.with_name("backup.db"))
    process = farm.start()
    log.append(10)
    farm.until_stored(log)
    farm.store.close()
    for name in ("batchacct.db-wal", "batchacct.db-shm"):
        path.with_name(name).unlink(missing_ok=True)
    Path(backup).replace(path)
    farm.until("it is noticed", lambda: "was deleted or replaced while it was in use" in farm.said())
    log.append(10)
    farm.until_stored(log)
    assert process.terminate() == 0
    farm.check(log)
