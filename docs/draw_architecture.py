"""Draws docs/explanation/architecture.svg: `python -m docs.draw_architecture`; a test holds it fresh.

Colours are light ones of Okabe and Ito's palette, and say nothing alone: whose a part is stands in it, what is outside has a dashed
frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

PICTURE = Path(__file__).parent / "explanation" / "architecture.svg"
WIDTH, HEIGHT = 1295, 570
FILLS = {"outside": "#ffffff", "core": "#d6eaf8", "room": "#fbe3bf", "store": "#d3efe5"}
LINE = 19
TIP = 'viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto"'
TEXT = (
    "Logs of batch systems and computing elements, and the process rows of worker nodes, are followed by the collector, cut into "
    "blocks, and parsed; records and the position in their file go into the store in one transaction. The join reads jobs and "
    "identities from the store and writes the ledger; formats make messages of it, which are kept in the outbox of the store; "
    "transports hand them to the receivers, and the receipts are stored. Reports and the portal, the commands for operators, the "
    "archive and the pull interface ask the store."
)


@dataclass(frozen=True, slots=True)
class Box:
    """A part: place and size in px, what it is, whose it is (`FILLS`), its title and what stands below that."""

    x: int
    y: int
    width: int
    height: int
    kind: str
    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Arrow:
    """A way of data along `points`, px; `label` stands at `at`."""

    points: tuple[tuple[int, int], ...]
    label: str = ""
    at: tuple[int, int] = (0, 0)


BOXES = (
    Box(20, 30, 200, 92, "outside", "Batch systems", ("LSF, PBS, SGE, Slurm,", "HTCondor: how much")),
    Box(20, 152, 200, 92, "outside", "Computing elements", ("CREAM, ARC, Globus,", "HTCondor-CE: who")),
    Box(20, 274, 200, 92, "room", "Worker nodes", ("procacctd, sensor", "(procacct): what ran")),
    Box(
        290,
        30,
        200,
        131,
        "core",
        "Collector",
        ("follows files by content,", "asks sacct and ARC;", "cuts blocks of whole units", "(batchacct)"),
    ),
    Box(290, 235, 200, 131, "room", "Parsers", ("a block to records,", "parts and rejects", "(loccol, cecol, procacct)")),
    Box(
        620,
        30,
        200,
        336,
        "store",
        "Store",
        (
            "SQLite, PostgreSQL,",
            "MariaDB",
            "",
            "job: how much",
            "identity: who",
            "process: what ran",
            "part: a record to be",
            "reject: unreadable bytes",
            "load: which bytes",
            "followed_file: which file",
            "usage: the ledger",
            "message: the outbox",
            "",
            "(batchacct)",
        ),
    ),
    Box(930, 30, 190, 92, "room", "Join", ("job with identity,", "VO, benchmark (pub)")),
    Box(930, 152, 190, 92, "room", "Formats", ("APEL, CAR, UR, JSON,", "Parquet (pub)")),
    Box(930, 274, 190, 92, "room", "Transports", ("SSM, AMS, STOMP,", "HTTPS, files (pub)")),
    Box(1170, 274, 105, 92, "outside", "Receivers", ("APEL,", "others")),
    Box(290, 450, 200, 92, "core", "Operators", ("status, why, trace, audit,", "doctor, metrics")),
    Box(620, 450, 200, 92, "core", "Archive", ("closed months in Parquet,", "asked like the tables")),
    Box(930, 450, 190, 92, "room", "Reports, portal", ("CPU hours and more", "(cpuhours)")),
    Box(1170, 450, 105, 92, "room", "serve", ("for who pulls", "(pub)")),
)
ARROWS = (
    Arrow(((220, 76), (290, 76))),
    Arrow(((220, 198), (250, 198), (250, 105), (290, 105))),
    Arrow(((220, 320), (268, 320), (268, 135), (290, 135))),
    Arrow(((390, 161), (390, 235)), "blocks, with offsets", (398, 202)),
    Arrow(((490, 300), (620, 300)), "one transaction:", (502, 272)),
    Arrow(((820, 65), (930, 65)), "jobs, identities", (828, 58)),
    Arrow(((930, 95), (820, 95)), "usage", (856, 112)),
    Arrow(((820, 185), (930, 185)), "usage", (856, 178)),
    Arrow(((930, 215), (820, 215)), "messages", (846, 232)),
    Arrow(((820, 307), (930, 307)), "messages", (846, 300)),
    Arrow(((930, 337), (820, 337)), "receipts", (850, 354)),
    Arrow(((1120, 320), (1170, 320))),
    Arrow(((650, 366), (650, 410), (390, 410), (390, 450)), "everything", (480, 403)),
    Arrow(((720, 366), (720, 450)), "months", (728, 432)),
    Arrow(((790, 366), (790, 410), (1025, 410), (1025, 450)), "jobs, usage", (880, 403)),
    Arrow(((1025, 410), (1222, 410), (1222, 450))),
)
NOTES = (((502, 290), "records, position"),)
LEGEND = (("outside", "outside"), ("core", "the core"), ("room", "a room, a package of its own"), ("store", "the database"))


def picture() -> str:
    """The picture as SVG, with a title and a text for those who do not see it."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        'aria-labelledby="title text" font-family="sans-serif" font-size="14">'
    )
    parts = [
        head,
        '<title id="title">How batchacct is built</title>',
        f'<desc id="text">{escape(TEXT)}</desc>',
        f'<defs><marker id="tip" {TIP}><path d="M0 0L10 5L0 10z"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        *(_drawn(box) for box in BOXES),
        *(_line(arrow) for arrow in ARROWS),
        *(_words(place, text, small=True) for place, text in NOTES),
        *_legend(),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _drawn(box: Box) -> str:
    dashes = ' stroke-dasharray="6 4"' if box.kind == "outside" else ""
    frame = (
        f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="8" fill="{FILLS[box.kind]}" '
        f'stroke="#222222" stroke-width="1.5"{dashes}/>'
    )
    middle = box.x + box.width // 2
    title = f'<text x="{middle}" y="{box.y + 26}" text-anchor="middle" font-weight="bold" font-size="15">{escape(box.title)}</text>'
    at = f'x="{box.x + 14}"' if box.kind == "store" else f'x="{middle}" text-anchor="middle"'
    lines = (f'<text {at} y="{box.y + 50 + n * LINE}">{escape(line)}</text>' for n, line in enumerate(box.lines) if line)
    return "\n".join([frame, title, *lines])


def _line(arrow: Arrow) -> str:
    points = " ".join(f"{x},{y}" for x, y in arrow.points)
    line = f'<polyline points="{points}" fill="none" stroke="#222222" stroke-width="1.5" marker-end="url(#tip)"/>'
    return f"{line}\n{_words(arrow.at, arrow.label, small=True)}" if arrow.label else line


def _words(place: tuple[int, int], text: str, *, small: bool) -> str:
    return f'<text x="{place[0]}" y="{place[1]}" font-size="{12 if small else 14}">{escape(text)}</text>'


def _legend() -> list[str]:
    parts = []
    for n, (kind, text) in enumerate(LEGEND):
        y = 450 + n * 25
        parts.append(_drawn(Box(20, y, 26, 17, kind, "", ())).split("\n", maxsplit=1)[0])
        parts.append(_words((54, y + 14), text, small=False))
    return parts


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
