"""Draws docs/gallery: `python -m docs.draw_gallery` runs the demo and the commands of the page; writes the page and pictures."""

from __future__ import annotations

import os
import shlex
import tempfile
from pathlib import Path

import click
from PIL import Image

from batchacct.cli.main import group
from batchacct.clock import NOW_VARIABLE
from batchacct.config import PATH_VARIABLE

FOLDER = Path(__file__).parent / "gallery"
WIDTH, COLOURS = 880, 96
"""Of the pictures in the page: smaller than they are drawn, so that all of them stay below 400 kB."""

CONFIGURED = """
[[capacity]]
cluster = "lsf1"
cores = 160
"""

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
        configuration.write_text(configuration.read_text(encoding="utf-8") + CONFIGURED, encoding="utf-8")
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


def _smaller(drawn: Path, path: Path) -> None:
    with Image.open(drawn) as picture:
        height = picture.height * WIDTH // picture.width
        small = picture.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS)
        small.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
