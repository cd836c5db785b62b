"""Pins what the packages vendor, with the hash of every file of it: `make lock`.

A lock for each package that brings libraries; no library is in two of them. uv resolves for the Python of
the packages; the hashes are those of all files of a release, so that other machines may be built for, too.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from tools.packages.layout import CORE, LOCKS, PYTHON, ROOMS, Room, metadata

HEAD = "# Made by `make lock`, of setup.cfg: what {package} vendors.\n"


def requirements(room: Room) -> list[str]:
    """What a room asks for, as in setup.cfg."""
    setup = metadata()
    always = setup["options"]["install_requires"].split("\n")
    taken = {name for other in ROOMS for name in other.distributions}
    own = (line for line in always if line and (_name(line) in room.distributions or (room is CORE and _name(line) not in taken)))
    extra = (line for name in room.extras for line in setup["options.extras_require"][name].split("\n") if line)
    return [*own, *extra]


def path_of(room: Room) -> Path:
    return LOCKS / f"{room.module}.txt"


def locked(path: Path) -> dict[str, str]:
    """Name, in small letters with hyphens, and version of each library of a lock."""
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE))


def _name(requirement: str) -> str:
    return re.split(r"[\[<>=!;, ]", requirement, maxsplit=1)[0]


def _compiled(uv: str, wanted: Iterable[str], *options: str) -> str:
    with tempfile.NamedTemporaryFile("w", suffix=".in", encoding="utf-8") as asked:
        asked.write("\n".join(wanted))
        asked.flush()
        command = [uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--only-binary", ":all:", "--no-emit-index-url"]
        done = subprocess.run(  # noqa: S603 - uv, with requirements of our own
            [*command, "--python-version", PYTHON, *options, asked.name], check=True, stdout=subprocess.PIPE, text=True
        )
    return done.stdout


def write(uv: str) -> Iterator[Path]:
    """Writes the locks; yields each."""
    with tempfile.TemporaryDirectory() as folder:
        together = Path(folder) / "together.txt"
        together.write_text(_compiled(uv, (line for room in ROOMS for line in requirements(room))), encoding="utf-8")
        of_core: dict[str, str] = {}
        for room in ROOMS:
            if not requirements(room):
                continue
            wanted = sorted({*requirements(CORE), *requirements(room)})
            without = [option for name in of_core for option in ("--no-emit-package", name)]
            text = _compiled(uv, wanted, "--constraint", str(together), "--generate-hashes", *without)
            path_of(room).write_text(HEAD.format(package=room.package) + text, encoding="utf-8")
            if room is CORE:
                of_core = locked(path_of(room))
            yield path_of(room)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--uv", default="uv", help="the program")
    LOCKS.mkdir(exist_ok=True)
    for path in write(parser.parse_args().uv):
        print(f"{path.name}: {len(locked(path))} libraries")  # noqa: T201 - what `make lock` tells


if __name__ == "__main__":
    main()
