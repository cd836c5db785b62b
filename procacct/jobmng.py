"""`jobmng`: groups of processes of this host, by hand; it asks procacctd."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from batchacct import __version__
from batchacct.errors import BatchacctError, BusyError, ConfigError, IncompleteError
from procacct.node import group_processes as proc
from procacct.node.control import SOCKET
from procacct.node.control_client import ask, asked

POLL_S = 0.3
MOST_ROUNDS = 100
NEAR_NS = 2 * proc.SECOND_NS
PID = click.IntRange(1, 1 << 22)
as_json = click.option("--json", "as_json", is_flag=True, help="The daemon's answer, as JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__)
@click.option(
    "--socket", "path", type=click.Path(path_type=Path), default=SOCKET, show_default=True, help="Control socket of procacctd."
)
@click.pass_context
def jobmng(ctx: click.Context, path: Path) -> None:
    """Groups of processes of this host: what a process of a group starts is of that group, too.

    A process may be in several groups. GROUP is an id, the number in it, or a name. Users manage groups of their own
    processes, root all.
    """
    ctx.obj = path


@jobmng.command()
@click.argument("name", required=False)
@click.option("--pid", "pids", type=PID, multiple=True, help="A process to begin with (`$$` is the shell); may be repeated.")
@as_json
@click.pass_obj
def create(path: Path, name: str | None, pids: tuple[int, ...], as_json: bool) -> None:
    """Makes a group, and prints its id."""
    request = {"name": name} if name else {}
    _tell(ask(path, "create", pids=list(pids), **request), as_json, lambda told: click.echo(told["group"]["id"]))


@jobmng.command()
@click.argument("group")
@click.argument("pids", type=PID, nargs=-1, required=True)
@click.option("--tree", is_flag=True, help="Their children that run already, too, and those of these.")
@as_json
@click.pass_obj
def add(path: Path, group: str, pids: tuple[int, ...], tree: bool, as_json: bool) -> None:
    """Puts processes into a group; what they start from now on is in it as well."""
    _tell(ask(path, "add", group=group, pids=list(pids), tree=tree), as_json, _echo_added)


@jobmng.command()
@click.argument("group")
@click.argument("pids", type=PID, nargs=-1)
@as_json
@click.pass_obj
def remove(path: Path, group: str, pids: tuple[int, ...], as_json: bool) -> None:
    """Takes processes out of a group; without PIDS, the group itself away. Nothing is ended by it."""
    request = {"pids": list(pids)} if pids else {}
    _tell(ask(path, "remove", group=group, **request), as_json, lambda told: _echo_done(told, "removed"))


@jobmng.command("list")
@as_json
@click.pass_obj
def list_(path: Path, as_json: bool) -> None:
    """Lists the groups: your own, for root all."""
    columns = ("id", "name", "made by", "owner", "made", "processes", "ever")

    def show(told: dict[str, Any]) -> None:
        rows = [(*(one[k] or "" for k in ("id", "name", "made_by", "owner")), *_numbers(one)) for one in told["groups"]]
        _echo_table("Groups", columns, rows)

    _tell(ask(path, "list"), as_json, show)


@jobmng.command()
@click.argument("group")
@as_json
@click.pass_obj
def show(path: Path, group: str, as_json: bool) -> None:
    """Shows the processes of a group that run now."""

    def show_members(told: dict[str, Any]) -> None:
        rows = [
            (
                str(one["pid"]),
                _time(one["start_ns"]),
                _time(one["joined_ns"]),
                "parent" if one["inherited"] else told["group"]["made_by"],
            )
            for one in told["members"]
        ]
        _echo_table(f"Group {told['group']['id']} {told['group']['name'] or ''}", ("pid", "started", "joined", "by"), rows)
        _echo_gaps([gap for gap in told["gaps"] if gap[1] >= told["group"]["made_at"] * proc.SECOND_NS])

    _tell(ask(path, "show", group=group), as_json, show_members)


@jobmng.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.pass_obj
def dump(path: Path, file: Path) -> None:
    """Writes the job file: a line `GROUP PID START END` for each process, in Unix seconds, with tabs; END is - of what runs."""
    with asked(path, "dump") as (_, lines):
        if str(file) == "-":
            shutil.copyfileobj(lines, sys.stdout.buffer)
            return
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as out:
                shutil.copyfileobj(lines, out)
            temporary.replace(file)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise ConfigError(f"{file} cannot be written: {error.strerror or error}. Name a file where you may write") from error


@jobmng.command()
@click.argument("group")
@click.option("--timeout", type=click.FloatRange(min=0), help="Seconds to wait at most.  [default: as long as it takes]")
@click.pass_obj
def wait(path: Path, group: str, timeout: float | None) -> None:
    """Waits until no process of a group runs any more."""
    end = None if timeout is None else time.monotonic() + timeout
    wanted = ask(path, "show", group=group)["group"]["id"]
    while number := ask(path, "show", group=wanted)["group"]["processes"]:
        if end is not None and time.monotonic() >= end:
            raise BusyError(f"{number} processes of group {wanted} run still: `jobmng show {wanted}` lists them")
        time.sleep(POLL_S)


@jobmng.command()
@click.argument("group")
@click.option("-s", "--signal", "name", default="TERM", show_default=True, help="Name or number of the signal.")
@click.pass_obj
def kill(path: Path, group: str, name: str) -> None:
    """Sends a signal to every process of a group but this one, with the rights of who calls it."""
    number, failed = _signal(name), []
    seen: set[tuple[int, int]] = set()
    for _ in range(MOST_ROUNDS):
        members = {(one["pid"], one["start_ns"]) for one in ask(path, "show", group=group)["members"]}
        fresh = members - seen - {one for one in members if one[0] == os.getpid()}
        if not fresh:
            break
        failed += [pid for pid, start_ns in sorted(fresh) if not _sent(pid, start_ns, number)]
        seen |= fresh
    if failed:
        raise IncompleteError(f"{len(failed)} processes are not yours to send signals to, {failed[0]} the first: let root do it")


@jobmng.command()
@as_json
@click.pass_obj
def status(path: Path, as_json: bool) -> None:
    """Tells how the daemon is."""

    def show_status(told: dict[str, Any]) -> None:
        for key, value in told.items():
            if key not in ("ok", "gaps"):
                click.echo(f"{key.replace('_', ' ')}: {'-' if value is None else value}")
        _echo_gaps(told["gaps"])

    _tell(ask(path, "status"), as_json, show_status)


@jobmng.command()
@click.pass_obj
def stop(path: Path) -> None:
    """Stops the daemon; only root may."""
    ask(path, "stop")


def main() -> None:
    """Entry point of `jobmng`: errors on standard error, each with its exit status."""
    try:
        jobmng.main(prog_name="jobmng", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except BatchacctError as error:
        click.echo(f"jobmng: {error.message}", err=True)
        sys.exit(error.exit_code)


def _tell(told: dict[str, Any], as_json: bool, show_it: Callable[[dict[str, Any]], None]) -> None:
    if as_json:
        click.echo(json.dumps({key: value for key, value in told.items() if key != "ok"}))
    else:
        show_it(told)
    if warning := told.get("warning"):
        click.echo(f"jobmng: {warning}", err=True)


def _echo_table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """As the tables of `batchacct`, without its imports: this command is called in scripts, a hundred times."""
    click.echo(title)
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        click.echo("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _echo_done(told: dict[str, Any], key: str) -> None:
    what = "" if told[key] is None else f" {len(told[key])} of its processes:"
    click.echo(f"group {told['group']['id']}:{what} {key}")


def _echo_added(told: dict[str, Any]) -> None:
    there = sorted(set(told.get("there", ())))
    if told["added"] or not there:
        _echo_done(told, "added")
    if there:
        click.echo(f"already a member of group {told['group']['id']}: {' '.join(map(str, there))}")


def _echo_gaps(gaps: list[list[int]]) -> None:
    for first, last in gaps:
        click.echo(f"Between {_time(first)} and {_time(last)} events are missing: processes of then may be in no group.")


def _numbers(group: dict[str, Any]) -> tuple[str, str, str]:
    return _time(group["made_at"] * proc.SECOND_NS), str(group["processes"]), str(group["processes_ever"])


def _time(at_ns: int) -> str:
    return dt.datetime.fromtimestamp(at_ns // proc.SECOND_NS, dt.UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _signal(name: str) -> signal.Signals:
    try:
        return signal.Signals(int(name)) if name.isdigit() else signal.Signals[f"SIG{name.upper().removeprefix('SIG')}"]
    except (KeyError, ValueError) as error:
        raise ConfigError(f"there is no signal {name}: give a name such as TERM or KILL, or a number") from error


def _sent(pid: int, start_ns: int, number: signal.Signals) -> bool:
    """Whether all is done: the signal sent, or the process gone. A pid that is another's meanwhile is left alone."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        found = proc.running(pid)
        if found is not None and abs(proc.start_ns(found.start_ticks) - start_ns) < NEAR_NS:
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    finally:
        os.close(handle)
    return True


if __name__ == "__main__":
    main()
