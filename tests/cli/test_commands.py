"""Every command and option: help, what it does, what it prints, and the status it ends with."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from sqlalchemy import update

from batchacct.cli.main import group
from batchacct.cli.setting_up import usual_sources
from batchacct.config import load_config
from batchacct.config_sample import sample
from batchacct.store import Store
from batchacct.store.tables import message
from tests.cli.runner import batchacct
from tests.cli.site import DAY, NOW, Site, blah, lsf

PROGRAM = str(Path(sys.executable).with_name("batchacct"))


def _commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), name)
            assert found is not None
            yield from _commands(found, (*path, name))


COMMANDS = list(_commands(group))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help(path: tuple[str, ...]) -> None:
    done = batchacct(*path, "--help")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"Usage: {' '.join(('batchacct', *path))} ")
    assert "..." not in re.sub(r"\]\.\.\.|[A-Z]+\.\.\.|ARGS\]\.\.\.", "", done.out), "a help text is cut off"
    assert "(broken" not in done.out
    assert max(map(len, done.out.splitlines())) <= 80, "too wide for a terminal"


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_an_unknown_option_is_a_usage_error(path: tuple[str, ...]) -> None:
    done = batchacct(*path, "--nosuch")
    assert done.status == 2
    assert "No such option" in done.err


def test_version_and_nothing() -> None:
    assert re.fullmatch(r"batchacct, version \d+\.\d+\.\d+\n", batchacct("--version").out)
    assert batchacct().status == 2
    assert batchacct("nosuch").status == 2


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["--version"], 0), (["nosuch"], 2), (["status", "--config", "/nonexistent"], 3), (["parse", "/nonexistent"], 10)],
)
def test_the_program_itself(arguments: list[str], status: int) -> None:
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert "Traceback" not in done.stderr


def test_standard_output_on_a_full_disk() -> None:
    done = subprocess.run(["bash", "-c", f"{PROGRAM} config sample > /dev/full"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "batchacct: standard output: No space left on device\n")


def test_init(tmp_path: Path) -> None:
    config, database = tmp_path / "new/b.toml", tmp_path / "there/b.db"
    done = batchacct("init", "--config", config, "--database", f"sqlite:///{database}", "--site", "S")
    assert done.status == 0
    assert f"wrote {config}" in done.out
    assert database.is_file()
    assert load_config(config).site == "S"
    before = config.read_bytes()
    again = batchacct("init", "--config", config)
    assert again.status == 3
    assert "exists already, and is not overwritten: edit it, or name another with --config" in again.err
    assert config.read_bytes() == before
    assert batchacct("db", "create", "--config", config).out == "was there already, in this program's version\n"


@pytest.mark.parametrize(
    ("config", "url", "status", "told"),
    [
        ("/proc/nosuch/b.toml", "sqlite:////tmp/x.db", 3, "/proc/nosuch/b.toml cannot be written"),
        ("b.toml", "nonsense", 3, "this is no database URL"),
        ("b.toml", "sqlite:////proc/nosuch/b.db", 7, "the folder of the database, /proc/nosuch, cannot be made"),
        ("b.toml", "postgresql+psycopg://u:hunter2@127.0.0.1:1/d", 7, "Is the server running, and the address right?"),
        ("b.toml", "postgresql+pg8000://u:hunter2@127.0.0.1:1/d", 3, "the driver for this database is missing"),
    ],
)
def test_init_that_cannot(tmp_path: Path, config: str, url: str, status: int, told: str) -> None:
    done = batchacct("init", "--config", tmp_path / config, "--database", url)
    assert done.status == status
    assert told in done.err
    assert "hunter2" not in done.err + done.out
    is_written = (tmp_path / config).exists()
    assert (f"then run `batchacct db create --config {tmp_path / config}`" in done.out) == is_written


def test_config_sample() -> None:
    assert batchacct("config", "sample").out == sample()


def test_config_check_tells_everything(tmp_path: Path, site: Site) -> None:
    site.write([lsf(1)], [blah(1)])
    assert site.good("config", "check") == "the configuration is right\n"
    site.config.write_text(
        f'site = "S"\n[database]\nconnection_file = "{tmp_path}/none"\n[vo]\nfile = "/nonexistent"\n'
        '[[source]]\nname = "a"\nparser = "lfs"\npaths = ["/nonexistent/*"]\n'
        '[[source]]\nname = "b"\nparser = "lsf"\npaths = ["/nonexistent"]\n[publish]\nformat = "apel-9"\ntransport = "post"\n'
    )
    done = site.run("config", "check")
    assert done.status == 3
    for told in (
        "parser 'lfs' is not installed; did you mean lsf?",
        "source a: no file matches /nonexistent/*",
        "/nonexistent does not exist",
        "format 'apel-9' is not installed; did you mean apel-0.",
        "transport 'post' is not installed; installed are: ams, auditor, file, rus, sgas, ssm-directory, stomp",
        "[vo] file /nonexistent does not exist",
        f"connection file {tmp_path}/none cannot be read",
        "no [[benchmark]]: every job would be excluded from publishing",
        "8 things are wrong with the configuration, see above",
    ):
        assert told in done.err


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ('transport = "stomp"\n[publish.options]\nbrokers = ["mq1:61613"]\n', "publish.options.destination: is required"),
        (
            'transport = "stomp"\n[publish.options]\nbrokers = ["mq1:61613"]\ndestination = "/queue/a"\nlogn = "me"\n',
            "publish.options.logn: there is no such key; did you mean login?",
        ),
        ("[publish.options]\nsufix = 1\n", "publish.options.sufix: there is no such key"),
    ],
)
def test_options_of_a_transport_are_told_with_file_and_key(site: Site, keys: str, told: str) -> None:
    site.write([lsf(1)], [blah(1)])
    site.configure(more=keys)
    for command in (("config", "check"), ("publish", "--once"), ("publish", "--dry-run")):
        done = site.run(*command)
        assert done.status == 3
        assert f"configuration {site.config}:\n  {told}" in done.err


def test_plain_files_and_a_message_that_is_refused(site: Site) -> None:
    site.write([lsf(1)], [blah(1)])
    site.configure(more='transport = "file"\n[publish.options]\nsuffix = ".txt"\n')
    site.good("collect", "--once")
    site.good("publish", "--once")
    (written,) = (site.folder / "outgoing").iterdir()
    assert written.suffix == ".txt"
    store = Store(f"sqlite:///{site.folder}/batchacct.db")
    with store.writing() as connection:
        connection.execute(update(message).values(confirmed_at=None, refused_at=NOW, last_error="too large"))
    store.close()
    told = {"message": 1, "destination": "main", "records": 1, "refused_at": NOW, "reason": "too large"}
    assert site.status()["refused_messages"] == [told]
    assert "message 1 (1 records, among the unsent) was refused 2026-11-01 12:00:00Z: too large" in site.good("status")
    assert "messages handed over" in site.good("publish", "--once")
    assert len(site.status()["refused_messages"]) == 1
    site.good("publish", "--once", "--retry-refused")
    assert site.status()["refused_messages"] == []


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ('transport = "sgas"\n[publish.options]\nurl = "https://sgas.example.org/ur"\n', "set format to ur-1.0 or car-1.2"),
        ('[serve]\naddress = "0.0.0.0:9106"\n', "token"),
        ('[serve]\ntoken_file = "/nonexistent"\n', "/nonexistent"),
        ('[[vo.rule]]\nvo = ""\nqueue = "*"\n', "vo.rule[1].vo"),
        ('[[vo.rule]]\nvo = "a b;/c"\nqueue = "*"\n', "vo.rule[1].vo"),
    ],
)
def test_config_check_finds_what_would_fail_later(site: Site, keys: str, told: str) -> None:
    site.write([lsf(1)], [blah(1)])
    site.configure(more=keys)
    done = site.run("config", "check")
    assert (done.status, told in done.err) == (3, True), done


def test_config_check_asks_the_database_and_makes_none(tmp_path: Path, site: Site) -> None:
    site.write([lsf(1)], [blah(1)])
    site.configure(database=f'url = "sqlite:///{tmp_path}/other.db"')
    done = site.run("config", "check")
    assert done.status == 3
    assert "other.db does not exist: run `batchacct db create`" in done.err
    assert "1 thing is wrong" in done.err
    assert not (tmp_path / "other.db").exists()


def test_config_show_masks_a_password(site: Site) -> None:
    site.configure(database='url = "postgresql+psycopg://u:hunter2@h/d"')
    site.config.chmod(0o600)
    shown = site.good("config", "show")
    assert json.loads(shown)["database"]["url"] == "postgresql+psycopg://u:***@h/d"
    assert json.loads(shown)["join"]["grace"] == DAY
    assert "hunter2" not in shown


def test_collect_options(site: Site) -> None:
    site.write([lsf(1)], [blah(1)])
    for arguments, status, told in (
        (["collect", "--once", "nosuch"], 3, "no source is named nosuch; configured are: lsf, ce"),
        (["collect", "--once", "--from-start", "nosuch"], 3, "--from-start nosuch: no source has this file"),
        (["publish", "--retry-refused"], 3, "--retry-refused goes with --once"),
    ):
        done = site.run(*arguments)
        assert done.status == status
        assert told in done.err
    assert "ce" not in site.good("collect", "--once", "lsf").replace("source", "")
    assert site.source("lsf")["recorded"] == 1
    site.good("collect", "--once", "--from-start", site.lsf_log)
    assert (site.source("lsf")["recorded"], site.source("lsf")["known"], site.source("ce")["recorded"]) == (1, 1, 1)


def test_no_source_configured(tmp_path: Path, site: Site) -> None:
    site.config.write_text(f'site = "S"\n[database]\nurl = "sqlite:///{tmp_path}/batchacct.db"\n')
    done = site.run("collect", "--once")
    assert done.status == 3
    assert "no source is configured: add a [[source]], see `batchacct config sample`" in done.err


def test_status_json(site: Site) -> None:
    site.write([lsf(1), b"bad\n"], [blah(1)])
    site.good("collect", "--once")
    site.good("publish", "--once")
    books = site.status()
    assert set(books) == {
        "refused_messages", "sources", "jobs", "destinations", "left_out", "records_by_type", "parts_waiting", "parts_oldest_at",
        "open_rejects", "problems",
        "balanced", "now", "following", "unread_bytes", "gaps", "warnings", "database_bytes",
    }  # fmt: skip
    assert (books["balanced"], books["problems"], books["open_rejects"]) == (True, [], 1)
    assert books["jobs"]["outcomes"] == [{"outcome": "joined", "reason": "nearest identity", "jobs": 1}]
    assert [(one["confirmed"], one["unsent"]) for one in books["destinations"]] == [(1, 0)]
    assert books["sources"][1]["newest_file"] == str(site.lsf_log)
    text = site.good("status")
    assert "The books balance at every stage." in text
    assert "1 reject: see `batchacct rejects list`" in text


def test_status_tells_what_lies_unread(site: Site) -> None:
    site.write([lsf(1)], [blah(1)])
    unread = {"lsf": site.lsf_log.stat().st_size, "ce": site.blah_log.stat().st_size}
    assert site.status()["unread_bytes"] == unread
    site.good("collect", "--once")
    assert site.status()["unread_bytes"] == {"lsf": 0, "ce": 0}
    site.lsf_log.rename(site.lsf_log.with_name("lsb.acct.1"))
    site.lsf_log.write_bytes(lsf(2))
    assert site.status()["unread_bytes"] == {"lsf": len(lsf(2)), "ce": 0}


def test_after_a_rotation_a_unit_is_found_where_it_is_now(site: Site) -> None:
    site.write([lsf(1)], [blah(1)])
    site.good("collect", "--once")
    rotated = site.lsf_log.with_name("lsb.acct.1")
    site.lsf_log.rename(rotated)
    site.lsf_log.write_bytes(lsf(2))
    site.good("collect", "--once")
    assert f"read from {rotated}, byte 0" in site.good("why", "1")
    assert "job 1 on lsf1" in site.good("trace", "unit", rotated, 3)
    assert "job 2 on lsf1" in site.good("trace", "unit", site.lsf_log, 3)
    assert "no load has read it" in site.good("trace", "unit", site.folder / "other", 3)


def test_publishing_warns_of_an_identity_source_that_was_never_read(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.write([lsf(1)], [blah(1)])
    site.blah_log.unlink()
    assert site.run("collect", "--once").status == 13
    site.run("publish", "--once")
    assert "source=ce was never read to its end" in caplog.text


def test_init_makes_up_no_benchmark(tmp_path: Path) -> None:
    path = tmp_path / "batchacct.toml"
    done = batchacct("init", "--config", path, "--database", f"sqlite:///{tmp_path}/b.db", "--site", "S")
    assert done.status == 0, done
    told = batchacct("config", "check", "--config", path)
    assert "no [[benchmark]]" in told.err
    assert (tmp_path / "b.db").stat().st_mode & 0o007 == 0


def test_publish_dry_run_changes_nothing(site: Site) -> None:
    site.write([lsf(1)], [blah(1)])
    site.good("collect", "--once")
    before = site.status()
    assert "Would be published" in site.good("publish", "--once", "--dry-run")
    assert site.status() == before
    assert site.messages() == []


def test_replay_after_the_configuration_was_mended(site: Site) -> None:
    site.configure(ce="")
    site.write([lsf(1), b'"JOB_FINISH" broken\n'], [blah(1), b"still bad\n"])
    site.good("collect", "--once")
    listed = site.good("rejects", "list")
    assert "Rejects, 3 of 3" in listed
    assert "no cluster is configured for CE ce01.example.org" in listed
    number = next(n for n in (1, 2, 3) if "no cluster" in site.run("rejects", "show", n).out)
    shown = site.good("rejects", "show", number)
    assert f"{site.blah_log}, byte 0, {len(blah(1)) - 1} bytes, source ce, parser blah/1" in shown
    assert blah(1).decode() in shown
    done = site.run("rejects", "replay", number)
    assert done.status == 13
    assert f"reject {number}: no cluster is configured" in done.err

    site.configure(ce='"ce01.example.org:8443/*" = "lsf1"')
    done = site.run("rejects", "replay")
    assert (done.status, done.out) == (13, "1 replayed, 2 still rejected\n")
    assert "replayed by load" in site.good("rejects", "show", number)
    books = site.status()
    assert (books["balanced"], books["open_rejects"], books["records_by_type"]["identity"]) == (True, 2, [1, 1])
    site.good("publish", "--once")
    assert "GlobalUserName: /DC=ch/DC=cern/CN=Ada Lovelace" in "".join(site.messages())
    again = site.run("rejects", "replay", number)
    assert again.status == 3
    assert f"there is no reject {number} to replay" in again.err
    assert "Rejects, 2 of 2" in site.good("rejects", "list")
    assert "Rejects, 1 of 2" in site.good("rejects", "list", "--limit", "1")


def test_replay_of_a_source_that_is_gone(site: Site) -> None:
    site.write([b"bad\n"], [b"bad\n"])
    site.good("collect", "--once")
    site.config.write_text(site.config.read_text().replace('name = "ce"', 'name = "ce2"'))
    done = site.run("rejects", "replay")
    assert done.status == 13
    assert "source ce is not configured any more" in done.err


def test_why(site: Site) -> None:
    site.configure(ce='"*" = "lsf1"', more='[join]\ngrace = "1d"\n')
    site.config.write_text(site.config.read_text().replace('name = "lsf1"\n[ce]', 'name = "lsf1"\ngrid_queues = ["normal"]\n[ce]'))
    recent = NOW - 3600
    site.write(
        [lsf(1), lsf(2, submit=recent - 9, start=recent - 5, end=recent), b'"JOB_FINISH" "10.1" 5 3 x\n'], [blah(1), blah(4)]
    )
    site.good("collect", "--once")
    assert "not joined yet: the next `batchacct publish` looks at it" in site.good("why", 1)
    site.good("publish", "--once")
    told = site.good("why", "1")
    for part in ("job 1 on lsf1", f"read from {site.lsf_log}, byte 0", "joined: nearest identity", "Ada Lovelace",
                 "benchmark HEPscore23 10",
                 "message 1 to main (apel-0.3)", "handed over ", "receipt "):  # fmt: skip
        assert part in told
    assert "waiting: no identity yet" in site.good("why", "2")
    assert "identity source ce was read to its end at 2026-11-01 12:00:00Z" in site.good("why", "2")
    assert "see `batchacct rejects show 1`" in site.good("why", "3")
    assert "no batch record of this job has been read" in site.good("why", "4")
    never = site.good("why", "77[7]")
    assert "job 77[7]: no source has told of it" in never
    assert "source lsf was last read 2026-11-01 12:00:00Z" in never


@pytest.mark.parametrize("text", ["", " ", "a\nb", b"\xff".decode("utf-8", "surrogateescape")])
def test_why_of_what_is_no_job_id(site: Site, text: str) -> None:
    done = site.run("why", text)
    assert done.status == 3
    assert "is no job id: write one as `1234`" in done.err


def test_trace(site: Site) -> None:
    site.write([lsf(1), b"bad\n", lsf(2)], [blah(1)])
    site.good("collect", "--once")
    site.good("publish", "--once")
    message = site.good("trace", "message", 1)
    assert f"job 1: joined\n  {site.lsf_log}, byte 0" in message
    assert f"{site.blah_log}, byte 0" in message
    first = len(lsf(1))
    assert "job 1 on lsf1" in site.good("trace", "unit", site.lsf_log, 0)
    assert "job 1 on lsf1" in site.good("trace", "unit", site.lsf_log, 300)
    assert "rejected: it does not begin" in site.good("trace", "unit", site.lsf_log, first + 1)
    assert "job 2 on lsf1" in site.good("trace", "unit", site.lsf_log, first + 4)
    assert "identity for job 1" in site.good("trace", "unit", site.blah_log, 3)
    assert "no load has read it" in site.good("trace", "unit", site.lsf_log, 10**6)
    assert "no load has read it" in site.good("trace", "unit", b"\xff".decode("utf-8", "surrogateescape"), 0)


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("trace", "message", "9"), 3, "there is no message 9: `batchacct status` counts them"),
        (("rejects", "show", "9"), 3, "there is no reject 9: `batchacct rejects list` shows them"),
        (("rejects", "replay", "9"), 3, "there is no reject 9 to replay"),
        (("trace", "message", "9" * 30), 2, "is not in the range"),
        (("trace", "unit", "x", "9" * 30), 2, "is not in the range"),
        (("rejects", "show", "9" * 30), 2, "is not in the range"),
        (("rejects", "replay", "9" * 30), 2, "is not in the range"),
        (("rejects", "list", "--limit", "0"), 2, "is not in the range"),
        (("report",), 13, "there is nothing to report"),
    ],
)
def test_what_is_not_there(site: Site, arguments: tuple[str, ...], status: int, told: str) -> None:
    done = site.run(*arguments)
    assert done.status == status
    assert told in done.err


def test_log_lines_are_shown_as_they_are(site: Site) -> None:
    site.write([b"[bold]x[/bold] :warning: \x1b[31m\n"])
    site.good("collect", "--once")
    assert "[bold]x[/bold] :warning: \\x1b[31m" in site.good("rejects", "list")


def test_no_schema_yet(tmp_path: Path, site: Site) -> None:
    site.configure(database=f'url = "sqlite:///{tmp_path}/new.db"')
    done = site.run("status")
    assert done.status == 8
    assert "new.db does not exist: run `batchacct db create`" in done.err


def test_verbose(site: Site) -> None:
    for option in ("-v", "-vv"):
        assert site.run(option, "status").status == 0
    assert os.environ.get("BATCHACCT_NOW") is None


def test_init_names_what_there_is_to_follow_and_to_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Slurm can be asked, its completion log is not followed as well."""
    (tmp_path / "jobcomp.log").write_text("x")
    (tmp_path / "20260101").write_text("x")
    usual = {"pbs": (f"{tmp_path}/2026*",), "slurm-jobcomp": (f"{tmp_path}/jobcomp*",), "lsf": (f"{tmp_path}/lsb*",)}
    monkeypatch.setattr("batchacct.cli.setting_up._USUAL_LOGS", usual)
    monkeypatch.setenv("PATH", str(tmp_path))
    pbs = {"name": "pbs", "parser": "pbs", "paths": [f"{tmp_path}/2026*"], "cluster": "pbs1"}
    jobcomp = {"name": "slurm-jobcomp", "parser": "slurm-jobcomp", "paths": [f"{tmp_path}/jobcomp*"], "cluster": "slurm1"}
    assert usual_sources() == [pbs, jobcomp]
    (tmp_path / "sacct").write_text("#!/bin/sh\n")
    (tmp_path / "sacct").chmod(0o755)
    slurm = {"name": "slurm", "parser": "slurm", "feed": "sacct", "cluster": "slurm1"}
    assert usual_sources() == [pbs, slurm]


@pytest.mark.parametrize(("beside", "cluster"), [(("pbs",), "pbs1"), (("htcondor", "pbs"), "pbs1"), ((), "cluster1")])
def test_init_names_clusters_after_batch_systems(
    beside: tuple[str, ...], cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it writes is a configuration; a computing element's cluster is that of the batch system beside it."""
    for name in (*beside, "blah"):
        (tmp_path / name).write_bytes(b"x\n")
    names = ("pbs", "htcondor", "blah")
    monkeypatch.setattr("batchacct.cli.setting_up._USUAL_LOGS", {name: (f"{tmp_path}/{name}*",) for name in names})
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "batchacct.toml"
    assert batchacct("init", "--config", path, "--database", f"sqlite:///{tmp_path}/b.db", "--site", "S").status == 0
    config = load_config(path)
    assert {s.name: s.cluster for s in config.source} == {name: f"{name}1" for name in beside} | {"blah": cluster}
    assert {c.name for c in config.cluster} == {s.cluster for s in config.source}
