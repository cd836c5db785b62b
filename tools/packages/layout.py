"""What the packages are and where their files go: the one place that says it, for RPM and DEB alike.

The libraries that are vendored stand in a folder for each package that brings some, so that a package is what its folders are.
Nothing of it is on the Python path of anybody else, and of theirs nothing is on ours: see `stage.launcher`.
"""

from __future__ import annotations

import configparser
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parents[2]
LOCKS = Path(__file__).parent / "locks"
PYTHON = "3.11"
"""Of Enterprise Linux 9 (python3.11) and Debian 12; the packages' dependencies name it, too."""
HOME = "/usr/lib/batchacct"
OURS = f"{HOME}/python"
VENDORED = f"{HOME}/vendor"
SITE = "/usr/local/lib/batchacct/python"
"""Where a site puts plug-ins of its own: `pip install --no-deps --target` there."""
SCHEMA = f"{HOME}/schema"
"""The number of the schema that the installed program has; an older program is not installed over it."""
SCRIPTS_2012 = "/usr/libexec/batchacct"


@dataclass(frozen=True, slots=True)
class Room:
    """One package of code: what it imports beyond the core's libraries, and what it has of 2012 and of systemd.

    `distributions` are names of `install_requires`, `extras` those of setup.cfg, whose libraries this package brings.
    """

    module: str
    package: str
    summary: str
    distributions: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    units: tuple[str, ...] = ()


CORE = Room(
    "batchacct",
    "batchacct",
    "accounting for batch farms: collector, database, ledger",
    extras=("postgres", "mysql", "oracle", "smime", "stomp"),
    units=("batchacct-collect", "batchacct-migrate", "batchacct-partition"),
)
"""What install_requires names, but for what the rooms have taken out of it, is the core's."""
ROOMS = (
    CORE,
    Room("loccol", "batchacct-loccol", "logs of batch systems", scripts=("acct", "create", "partition")),
    Room("cecol", "batchacct-cecol", "identities of computing elements", scripts=("whisk",)),
    Room(
        "pub",
        "batchacct-pub",
        "join, message formats, transports",
        extras=("ams", "http"),
        scripts=("join",),
        units=("batchacct-publish", "batchacct-publish-once", "batchacct-serve"),
    ),
    Room(
        "cpuhours",
        "batchacct-cpuhours",
        "reports, plots, the portal",
        distributions=("matplotlib",),
        extras=("portal",),
        scripts=("cpuhours",),
        units=("batchacct-portal",),
    ),
    Room(
        "procacct",
        "batchacct-procacct",
        "which programs ran inside the jobs",
        units=("procacctd", "procacct-receive", "procacct-ship"),
    ),
)
PACKAGES = {room.module: room.package for room in ROOMS}


def metadata() -> configparser.ConfigParser:
    """setup.cfg: the one home of dependencies, commands and entry points."""
    parser = configparser.ConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign] # names of distributions and entry points keep their case
    parser.read(SOURCE / "setup.cfg", encoding="utf-8")
    return parser


def version() -> str:
    """The version, read and not imported: no library has to be there."""
    text = (SOURCE / "batchacct/__init__.py").read_text(encoding="utf-8")
    (found,) = re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    return str(found)


def schema() -> str:
    """The number of the newest migration, as in 0007."""
    return max(path.name[:4] for path in (SOURCE / "batchacct/store/migrations/versions").glob("[0-9]*.py"))


def python() -> str:
    """The distribution's interpreter.  Raises: SystemExit if another version runs this: compiled libraries are for one."""
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    if running != PYTHON:
        raise SystemExit(
            f"the packages are for Python {PYTHON}, and this is {running}: make clean, then make PYTHON=python{PYTHON} ..."
        )
    return f"/usr/bin/python{PYTHON}"


def entry_points(module: str) -> Iterator[tuple[str, list[str]]]:
    """Groups and lines `name = module:object` of a room."""
    for group, text in metadata()["options.entry_points"].items():
        lines = [line for line in text.strip().splitlines() if _module_of(line) == module]
        if lines:
            yield group, lines


def commands(module: str) -> dict[str, str]:
    """Programs of a room: name, and `module:function`."""
    lines = dict(entry_points(module)).get("console_scripts", [])
    return {name.strip(): target.strip() for name, _, target in (line.partition("=") for line in lines)}


def _module_of(line: str) -> str:
    return line.partition("=")[2].strip().partition(".")[0]
