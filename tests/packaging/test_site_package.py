"""A site's own parser: the example package is installed, and its parser works in every command, by name and as module:function."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "site-parser"
PROGRAM = Path(sys.executable).with_name("batchacct")
LOG = (
    "# our farm\n"
    "41;alice;short;1700000000;1700000010;1700000110;95.5\n"
    "42;bob;long;1700000000;1700000020;1700000120;1\n"
    "43;odd\n"
    "44;eve;long;1700000000;1700000020;170000;1\n"
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to put on the path: the example, built from a copy, because building leaves things beside it."""
    source = tmp_path_factory.mktemp("source") / "site-parser"
    shutil.copytree(EXAMPLE, source)
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True)
    return target


class Farm:
    def __init__(self, folder: Path, installed: Path, parser: str) -> None:
        self.environment = {**os.environ, "PYTHONPATH": str(installed), "BATCHACCT_CONFIG": str(folder / "b.toml")}
        self.log = folder / "ourbatch.log"
        self.log.write_text(LOG)
        (folder / "b.toml").write_text(
            f'site = "OUR-SITE"\n[database]\nurl = "sqlite:///{folder}/b.db"\n'
            f'[[source]]\nname = "ours"\nparser = "{parser}"\npaths = ["{self.log}"]\n'
            'cluster = "our1"\n[[cluster]]\nname = "our1"\n'
            f'[[benchmark]]\ntype = "HEPscore23"\nvalue = 10.0\n[publish]\npath = "{folder}/out"\n'
        )

    def run(self, *arguments: str, status: int = 0) -> str:
        done = subprocess.run([PROGRAM, *arguments], env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        return done.stdout


@pytest.mark.parametrize("parser", ["ourbatch", "our_farm.ourbatch:ourbatch"])
def test_the_example_package_collects(tmp_path: Path, installed: Path, parser: str) -> None:
    farm = Farm(tmp_path, installed, parser)
    farm.run("db", "create")
    farm.run("config", "check")
    farm.run("collect", "--once")
    farm.run("collect", "--once")
    assert "wall 100 s, CPU 96 s, processors 1" in farm.run("why", "41")
    rejects = farm.run("rejects", "list")
    assert "not enough values to unpack" in rejects
    assert "wall_duration_s is -1,699,830,020; it is from 0 to" in rejects
    books = json.loads(farm.run("status", "--json"))
    (source,) = books["sources"]
    assert (books["balanced"], source["units"], source["recorded"], source["skipped"], source["rejected"]) == (True, 5, 2, 1, 2)
    farm.run("publish", "--once")
    (message,) = (tmp_path / "out").rglob("*0001")
    assert "LocalJobId: 41\n" in message.read_text()


@pytest.mark.parametrize("parser", ["ourbatch", "our_farm.ourbatch:ourbatch"])
def test_the_example_package_parses_without_a_database(tmp_path: Path, installed: Path, parser: str) -> None:
    farm = Farm(tmp_path, installed, parser)
    out = farm.run("parse", "--parser", parser, str(farm.log), status=13)
    assert [json.loads(line)["lrms_job_id"] for line in out.splitlines()] == ["41", "42"]
