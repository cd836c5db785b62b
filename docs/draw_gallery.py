"""Draws docs/gallery: `python -m docs.draw_gallery` runs the demo and the commands of the page; writes the page and pictures.

The demo has no processes; those of the pictures of programs are made up here, a few of each job, and collected as a node's are.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
from PIL import Image
from sqlalchemy import select

from batchacct.cli.main import group
from batchacct.clock import NOW_VARIABLE
from batchacct.config import PATH_VARIABLE, load_config
from batchacct.store import Store
from batchacct.store.tables import job

FOLDER = Path(__file__).parent / "gallery"
WIDTH, COLOURS = 880, 256
"""Of the pictures in the page: smaller than they are drawn, so that all of them stay below 400 kB."""

CONFIGURED = """
[[capacity]]
cluster = "lsf1"
cores = 160

[[source]]
name = "nodes"
parser = "procs"
paths = ["{spool}"]
cluster = "lsf1"
"""
PROGRAMS = {
    "/cvmfs/exp/bin/reco": 5,
    "/cvmfs/exp/bin/simulate": 4,
    "/usr/bin/python3.11": 2,
    "/opt/tools/merge": 1,
    "/usr/bin/root": 1,
}
"""What the jobs of the pictures ran, and the share of each in their CPU time."""

VIEWS = {
    "stack": ("CPU hours by VO", "report --by vo --period 2026-10 --top 5"),
    "stack-spread": ("The same, spread over the time that jobs ran", "report --by vo --period 2026-10 --top 5 --spread"),
    "lines-log": ("Waiting time of queues, logarithmic", "report --by queue --measure wait --kind lines --log --begin 2026-10-18"),
    "efficiency": ("CPU efficiency of VOs", "report --by vo --measure efficiency --begin 2026-10-18 --top 5"),
    "bars": ("Forty users", "report --by user --kind bars --period 2026-10 --top 40"),
    "compare": ("A week and the week before", "report --by vo --begin 2026-10-25 --end 2026-11-01 --compare previous"),
    "utilisation": ("Share of the capacity", "report --by day --measure utilisation --begin 2026-10-17 --zone Europe/Zurich"),
    "heatmap": ("Hours by weekday", "report --measure core --kind heatmap --spread --zone Europe/Zurich --begin 2026-10-18"),
    "started": ("Jobs that started, by hour", "report --by queue --measure started --period 2026-10-28"),
    "one-bin": ("One bin", "report --by vo --bins month --period 2026-10"),
    "programs": ("What ran inside the jobs", "report programs --begin 2026-10-18 --end 2026-11-01 --top 4"),
    "no-data": ("A month of which nothing is known", "report --by vo --period 2026-08"),
}
"""Name of the picture, what it shows, the command that draws it."""

HEAD = """# Gallery

Every view of `batchacct report`, drawn by `python -m docs.draw_gallery` from the generated logs of `batchacct demo`. How to ask for
them: [reports](../how-to/reports.md).
"""


def main() -> None:
    """Writes the page and its pictures, in place of those that are there."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "demo"
        group.main(["demo", "--folder", str(folder)], standalone_mode=False)
        configuration = folder / "batchacct.toml"
        spool = folder / "logs" / "procs-n1.jsonl"
        spool.write_text("".join(_processes(configuration)), encoding="utf-8")
        known = configuration.read_text(encoding="utf-8")
        configuration.write_text(known + CONFIGURED.replace("{spool}", str(spool)), encoding="utf-8")
        group.main(["collect", "--once"], standalone_mode=False)
        assert os.environ[NOW_VARIABLE]
        assert os.environ[PATH_VARIABLE] == str(configuration)
        lines = [HEAD]
        for name, (title, command) in VIEWS.items():
            drawn = folder / f"{name}.png"
            group.main([*shlex.split(command), "--plot", str(drawn)], standalone_mode=False)
            _smaller(drawn, FOLDER / drawn.name)
            lines += [
                f"## {title}",
                "",
                "```sh",
                f"batchacct {command} --plot {drawn.name}",
                "```",
                "",
                f"![{title}]({drawn.name})",
                "",
            ]
    (FOLDER / "README.md").write_text("\n".join(lines), encoding="utf-8")
    size = sum(path.stat().st_size for path in FOLDER.glob("*.png"))
    click.echo(f"wrote {len(VIEWS)} pictures, {size / 1000:,.0f} kB", err=True)


def _processes(configuration: Path) -> Iterator[str]:
    """The lines of a node daemon's file: of each job that ran three programs, which share its CPU time."""
    chance = random.Random(1)  # noqa: S311 - nothing secret
    store = Store(load_config(configuration).database.resolved())
    of = (job.c.lrms, job.c.lrms_job_id, job.c.join_id, job.c.array_index, job.c.user_name, job.c.start_at, job.c.end_at)
    try:
        with store.reading() as connection:
            jobs = connection.execute(select(*of, job.c.cpu_duration_s).where(job.c.cpu_duration_s > 0).order_by(job.c.id)).all()
    finally:
        store.close()
    for number, run in enumerate(jobs):
        for part in range(3):
            (program,) = chance.choices(list(PROGRAMS), list(PROGRAMS.values()))
            pid, start_ns = 1000 + 3 * number + part, run.start_at * 10**9 + part
            columns = {
                "v": 1, "record_key": f"n1/boot/{pid}/{start_ns}/1", "lrms": run.lrms, "lrms_job_id": run.lrms_job_id,
                "join_id": run.join_id, "array_index": run.array_index, "job_from": "cgroup", "host": "n1", "boot_id": "boot",
                "pid": pid, "user_name": run.user_name, "kind": "program", "started_at": run.start_at, "start_ns": start_ns,
                "end_ns": run.end_at * 10**9, "logged_at": run.end_at, "elapsed_s": float(run.end_at - run.start_at),
                "cpu_user_s": run.cpu_duration_s / 3, "cpu_system_s": 0.0, "program": program, "command": Path(program).name[:15],
                "ended_by": "exit", "exit_code": 0, "processes": 1, "seen_by": ["connector"],
            }  # fmt: skip
            yield json.dumps({name: value for name, value in columns.items() if value is not None}) + "\n"


def _smaller(drawn: Path, path: Path) -> None:
    with Image.open(drawn) as picture:
        height = picture.height * WIDTH // picture.width
        small = picture.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS)
        small.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
