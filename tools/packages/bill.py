"""The bill of materials (CycloneDX) of what the packages vendor: `make lock` writes it beside the locks.

cyclonedx-py reads the libraries as they are installed, so that it knows their licences; what is installed is what the locks name.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.packages.build import BUILD, wheels
from tools.packages.layout import ROOMS, SOURCE, version
from tools.packages.lock import path_of
from tools.packages.stage import install_locked

BILL = SOURCE / "tools/packages/batchacct.cdx.json"


def write(cyclonedx: str) -> Path:
    """Writes the bill; the same locks give the same bytes."""
    with tempfile.TemporaryDirectory() as temporary:
        libraries = Path(temporary) / "libraries"
        for room in ROOMS:
            if path_of(room).is_file():
                install_locked(room, wheels(BUILD / "wheels"), libraries)
        # what cyclonedx-py asks for the libraries of an environment
        interpreter = Path(temporary) / "python"
        interpreter.write_text(f'#!/bin/sh\nPYTHONPATH={libraries} exec {sys.executable} -S "$@"\n', encoding="utf-8")
        interpreter.chmod(0o755)
        options = ["--output-reproducible", "--spec-version", "1.6", "--output-format", "JSON", "--mc-type", "application"]
        done = subprocess.run(  # noqa: S603 - cyclonedx-py, on a folder of ours
            [cyclonedx, "environment", *options, interpreter],
            check=True,
            stdout=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
    bill = json.loads(done.stdout)
    bill["metadata"]["component"] = {"type": "application", "bom-ref": "batchacct", "name": "batchacct", "version": version()}
    for component in (*bill["components"], *bill["metadata"]["tools"]["components"]):
        component.pop("externalReferences", None)  # home pages: the name and version tell which it is
    BILL.write_text(json.dumps(bill, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return BILL


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--cyclonedx", default="cyclonedx-py", help="the program")
    path = write(parser.parse_args().cyclonedx)
    print(f"{path.name}: {len(json.loads(path.read_text(encoding='utf-8'))['components'])} libraries")  # noqa: T201 - as `lock` does


if __name__ == "__main__":
    main()
