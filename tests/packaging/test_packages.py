"""What the packages are made of, as far as it can be told without building them: `make packages-check` does that."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from click.testing import CliRunner

import batchacct
from batchacct.cli.main import group
from batchacct.config_sample import sample
from batchacct.errors import ConfigError
from tests.links import dead
from tools.packages import build, layout, lock, pages, previous, stage
from tools.packages.bill import BILL
from tools.packages.layout import CORE, PYTHON, ROOMS, SOURCE, Room

ALLOWED = re.compile(
    r"(0BSD|Apache-2\.0|BSD-[23]-Clause|CC0-1\.0|LGPL-3\.0-only|MIT(-0|-CMU)?|MPL-2\.0|PSF-2\.0|Python-2\.0|UPL-1\.0|Zlib"
    r"|License :: OSI Approved :: (Apache Software|BSD|Mozilla Public|Zope Public) License.*)"
)
"""Licences of libraries: all may be given away beside a program under the Apache License, unchanged and with their texts."""
OF_DEVELOPERS = {"test", "docs", "dev"}
OF_A_SITE = {"spark", "cx_oracle"}
"""Extras that are not vendored: docs/how-to/install.md says why."""
NOT_VENDORED = {"pyspark", "py4j"}
"""Spark brings its own Python files where it is installed."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locks() -> dict[str, dict[str, str]]:
    return {room.module: lock.locked(lock.path_of(room)) for room in ROOMS if lock.path_of(room).is_file()}


def test_no_library_is_in_two_packages() -> None:
    names = [name for locked in locks().values() for name in locked]
    assert len(names) > 40
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("room", [room for room in ROOMS if lock.requirements(room)], ids=lambda room: room.module)
def test_a_lock_has_what_its_room_asks_for(room: Room) -> None:
    """A requirement that was added to setup.cfg, or raised, takes `make lock`."""
    locked = {normal(name) for name in locks()[room.module]} | {normal(name) for name in locks()[CORE.module]}
    asked = {normal(re.split(r"[\[<>=!;, ]", line, maxsplit=1)[0]) for line in lock.requirements(room)}
    assert asked <= locked
    text = lock.path_of(room).read_text(encoding="utf-8")
    assert text.count("--hash=sha256:") >= text.count("==") > 0


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.module)
def test_a_room_imports_only_what_its_package_or_the_core_brings(room: Room) -> None:
    brought = {normal(name) for module in (CORE.module, room.module) for name in locks().get(module, {})}
    distributions = packages_distributions()
    for path in (SOURCE / room.module).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in names:
                of = {normal(one) for one in distributions.get(name.partition(".")[0], ())} - {"batchacct"} - NOT_VENDORED
                assert not of or of & brought, f"{path}: {name} is of {of}, which no lock of {room.package} or the core has"


def test_every_command_and_entry_point_is_in_a_package() -> None:
    setup = layout.metadata()["options.entry_points"]
    for kind, text in setup.items():
        there = [line for room in ROOMS for name, lines in layout.entry_points(room.module) if name == kind for line in lines]
        assert sorted(there) == sorted(line for line in text.strip().splitlines() if line), kind
    found = layout.metadata()["options.packages.find"]["include"].split()
    assert sorted(found) == sorted(f"{room.module}*" for room in ROOMS)


def test_every_extra_is_vendored_or_a_sites_own() -> None:
    """A transport or database that is added to setup.cfg works from the packages, too."""
    extras = set(layout.metadata()["options.extras_require"])
    vendored = [name for room in ROOMS for name in room.extras]
    assert sorted(vendored) == sorted(extras - OF_DEVELOPERS - OF_A_SITE)


def test_every_script_of_2012_and_every_unit_is_in_a_package() -> None:
    scripts = {f"{room.module}/{name}.py" for room in ROOMS for name in room.scripts}
    written = {
        str(path.relative_to(SOURCE))
        for room in ROOMS
        for path in (SOURCE / room.module).glob("*.py")
        if 'if __name__ == "__main__"' in path.read_text(encoding="utf-8") and path.stem != "__main__"
    }
    assert scripts <= written
    assert "pub/join.py" in scripts
    units = [name for room in ROOMS for name in room.units]
    assert sorted({path.stem for path in (SOURCE / "rpm/systemd").iterdir()}) == sorted(units)


def test_a_launcher_sees_no_library_but_its_own() -> None:
    text = stage.launcher("batchacct", "batchacct.cli:main")
    assert text.startswith(f"#!/usr/bin/python{PYTHON} -IS\n")
    compile(text, "batchacct", "exec")
    assert "'/usr/lib/batchacct/python', '/usr/lib/batchacct/vendor/batchacct'" in text


def test_version_and_python_are_the_same_everywhere() -> None:
    spec = (SOURCE / "rpm/batchacct.spec").read_text(encoding="utf-8")
    control = (SOURCE / "deb/control").read_text(encoding="utf-8")
    version = batchacct.__version__
    assert layout.version() == version
    assert f"%global batchacct_version {version}}}" in spec
    assert re.findall(r"^\* .+ - (\S+)-1$", spec, re.MULTILINE)[0] == version
    assert (SOURCE / "deb/changelog").read_text(encoding="utf-8").startswith(f"batchacct ({version}-1) ")
    assert f"python(abi) = {PYTHON}\n" in spec
    assert f" python{PYTHON}, " in control
    assert json.loads(BILL.read_text(encoding="utf-8"))["metadata"]["component"]["version"] == version


def test_rpm_and_deb_have_the_same_packages() -> None:
    spec = (SOURCE / "rpm/batchacct.spec").read_text(encoding="utf-8")
    control = (SOURCE / "deb/control").read_text(encoding="utf-8")
    packages = [room.package for room in ROOMS]
    assert ["batchacct", *(f"batchacct-{name}" for name in re.findall(r"^%package (\S+)", spec, re.MULTILINE))] == packages
    assert re.findall(r"^Package: (\S+)", control, re.MULTILINE) == packages
    for package in packages:
        assert f"-f lists/{package}.files" in spec
    guards = re.findall(r"^%pre(?: (\S+))?\n%\{refuse_downgrade\}", spec, re.MULTILINE)
    assert sorted(guards) == sorted(package.removeprefix("batchacct").removeprefix("-") for package in packages)


def test_an_older_program_is_not_installed_over_a_newer(tmp_path: Path) -> None:
    script = build.refusal("batchacct-pub").replace("/usr/lib/batchacct/schema", str(tmp_path / "schema"))

    def installs() -> subprocess.CompletedProcess[str]:
        return subprocess.run(["/bin/sh", "-e", "-c", script], check=False, capture_output=True, text=True)

    assert installs().returncode == 0, "the first installation"
    (tmp_path / "schema").write_text(f"{layout.schema()}\n")
    assert installs().returncode == 0, "the same, or another version of the same schema"
    (tmp_path / "schema").write_text("0001\n")
    assert installs().returncode == 0, "an upgrade"
    (tmp_path / "schema").write_text("0999\n")
    refused = installs()
    assert refused.returncode == 1
    assert "has schema 0999, which no older program can read" in refused.stderr


def test_the_bill_is_of_the_locks() -> None:
    bill = json.loads(BILL.read_text(encoding="utf-8"))
    listed = {normal(component["name"]): component["version"] for component in bill["components"]}
    assert listed == {normal(name): version for locked in locks().values() for name, version in locked.items()}, "make lock"


def test_licences_may_be_given_away() -> None:
    for component in json.loads(BILL.read_text(encoding="utf-8"))["components"]:
        found = [one.get("expression") or one["license"].get("id") or one["license"]["name"] for one in component["licenses"]]
        parts = [part for text in found for part in re.split(r" (?:AND|OR) ", text)]
        assert parts
        for part in parts:
            assert ALLOWED.fullmatch(part), f"{component['name']} is under {part}"


@pytest.fixture(scope="module")
def all_pages() -> dict[str, str]:
    return pages.all_pages()


@pytest.mark.parametrize("name", ["batchacct", "batchacct-db-migrate", "procacctd", "acc_run", "jobmng-wait", "batchacct-ld"])
def test_man_pages(name: str, tmp_path: Path, all_pages: dict[str, str]) -> None:
    page = all_pages[name]
    assert page.startswith(f'.TH "{name.upper()}" ')
    assert "\n.SH SYNOPSIS\n" in page
    if shutil.which("man") is None:
        pytest.skip("no man to read it with")
    path = tmp_path / f"{name}.1"
    path.write_text(page, encoding="utf-8")
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", str(path)], check=True, capture_output=True, text=True, env={"MANWIDTH": "90"}
    )
    assert done.stderr == ""
    assert name in done.stdout


def test_completion_completes() -> None:
    told = {(shell, name) for shell, name, _ in pages.completions()}
    assert {("bash", "batchacct"), ("zsh", "jobmng"), ("fish", "procacctd")} <= told
    program = Path(shutil.which("bash") or "/bin/bash")
    batchacct_program = SOURCE / ".venv/bin/batchacct"
    variables = {
        "COMP_WORDS": "batchacct re",
        "COMP_CWORD": "1",
        "_BATCHACCT_COMPLETE": "bash_complete",
        "PATH": str(program.parent),
    }
    done = subprocess.run([batchacct_program], check=True, capture_output=True, text=True, env=variables)
    assert "plain,report\n" in done.stdout


def test_links_of_the_manual_lead_to_what_is_installed_with_it(tmp_path: Path) -> None:
    tree = stage.Tree(tmp_path, by_package=False)
    stage.manual(tree)
    folder = tree.inside(CORE.package, stage.MANUAL)
    assert (folder / "docs/how-to/install.md").is_file()
    assert dead(folder) == []


def test_the_version_to_upgrade_from_has_what_the_packages_take(previous_tree: Path, tmp_path: Path) -> None:
    """All that `stage` lays out but the libraries."""
    code = """
import sys
from pathlib import Path
from tools.packages import pages, stage
from tools.packages.layout import SOURCE, version
tree = stage.Tree(Path(sys.argv[1]), by_package=True)
stage.manual(tree)
pages.write(Path(sys.argv[1]))
print(SOURCE, version())
"""
    command = [sys.executable, "-c", code, str(tmp_path / "staged")]
    done = subprocess.run(command, cwd=previous_tree, check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout == f"{previous_tree} {previous.VERSION}\n"
    assert f"batchacct {previous.VERSION}" in (tmp_path / "staged/man/batchacct.1").read_text(encoding="utf-8")


def test_tarball_and_wheel_are_the_same_bytes_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1795000000")
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        build.dist(folder)
    names = [path.name for path in sorted(first.iterdir())]
    assert names == [f"batchacct-{batchacct.__version__}-py3-none-any.whl", f"batchacct-{batchacct.__version__}.tar.gz"]
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    with zipfile.ZipFile(first / names[0]) as wheel:
        assert {"procacct/sensor/sensor.c", "batchacct/py.typed", "pub/join.py"} <= set(wheel.namelist())
    with tarfile.open(first / names[1]) as tar:
        members = {member.name.partition("/")[2]: member for member in tar}
    assert {"rpm/batchacct.spec", "deb/rules", "Makefile", "tools/packages/stage.py"} <= set(members)
    assert {(member.uid, member.gid, member.mtime) for member in members.values()} == {(0, 0, 1795000000)}


def test_the_sample_may_be_overwritten_by_init_and_nothing_else(tmp_path: Path) -> None:
    """The packages install it, and `init` is what a site runs next."""
    path = tmp_path / "batchacct.toml"
    command = ["init", "--config", str(path), "--database", f"sqlite:///{tmp_path}/b.db", "--site", "MINE"]
    path.write_text(sample(), encoding="utf-8")
    assert CliRunner().invoke(group, command).exit_code == 0
    assert 'site = "MINE"' in path.read_text(encoding="utf-8")
    refused = CliRunner().invoke(group, command).exception
    assert isinstance(refused, ConfigError)
    assert "is not overwritten" in refused.message


def test_the_keys_can_be_checked_without_the_host(tmp_path: Path) -> None:
    """As `systemctl reload` does: a log or a database that is away at the moment is no error of the configuration."""
    path = tmp_path / "batchacct.toml"
    path.write_text(sample().replace("/var/", f"{tmp_path}/"), encoding="utf-8")
    assert isinstance(CliRunner().invoke(group, ["config", "check", "--config", str(path)]).exception, ConfigError)
    assert CliRunner().invoke(group, ["config", "check", "--keys-only", "--config", str(path)]).exit_code == 0
    path.write_text("sight = 'MINE'\n" + sample(), encoding="utf-8")
    wrong = CliRunner().invoke(group, ["config", "check", "--keys-only", "--config", str(path)]).exception
    assert isinstance(wrong, ConfigError)
    assert "sight" in wrong.message


def test_settings_of_systemd_and_cron() -> None:
    """Folders are those the units write to; nothing of cron runs before somebody takes the # away."""
    folders = "".join(path.read_text(encoding="utf-8") for path in (SOURCE / "rpm/tmpfiles.d").iterdir())
    for folder in ("/var/lib/batchacct", "/var/log/batchacct", "/var/spool/batchacct", "/var/spool/batchacct/procacct"):
        assert re.search(rf"^d {folder} 07[57]0 (root|batchacct) batchacct$", folders, re.MULTILINE)
    cron = (SOURCE / "rpm/cron.d/batchacct").read_text(encoding="utf-8").splitlines()
    jobs = [line for line in cron if re.match(r"#?[\d*]", line)]
    assert len(jobs) == 3
    assert all(re.fullmatch(r"#(\S+ ){5}batchacct batchacct [a-z -]+", line) for line in jobs)
    assert "su batchacct batchacct" in (SOURCE / "rpm/logrotate.d/batchacct").read_text(encoding="utf-8")
