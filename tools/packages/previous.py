"""A source tree of an earlier schema, to upgrade from: `python -m tools.packages.previous FOLDER`.

No release was made yet, so an earlier commit's code, numbered 0.0.9, is packed as this one's is: with the rpm, deb, tools and
manual of now. Once there is a release, its own packages take the place of this.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tools.packages.layout import ROOMS, SOURCE

BEFORE = "3837089a218b^"
"""The last commit with schema 0006: process records came with 0007."""
VERSION = "0.0.9"
OF_NOW = ("rpm", "deb", "tools", "docs", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE")
"""Folders and files."""


def write(folder: Path) -> Path:
    """Makes the tree anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    wanted = [*(room.module for room in ROOMS), "setup.cfg", "pyproject.toml"]
    packed = subprocess.run(["git", "-C", SOURCE, "archive", BEFORE, *wanted], check=True, stdout=subprocess.PIPE)  # noqa: S603, S607
    subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, check=True)  # noqa: S603, S607
    for source in (SOURCE / name for name in OF_NOW):
        if source.is_dir():
            shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)
    version = folder / "batchacct/__init__.py"
    text = version.read_text(encoding="utf-8")
    version.write_text(re.sub('__version__ = ".+"', f'__version__ = "{VERSION}"', text), encoding="utf-8")
    return folder


if __name__ == "__main__":
    write(Path(sys.argv[1]))
