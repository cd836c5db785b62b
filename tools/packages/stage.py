"""Lays out what the packages install: `python -m tools.packages.stage --wheels FOLDER --root FOLDER`.

rpmbuild has all of it in one root, and the lists of files that --lists writes; debhelper (--by-package) has one for each package.
No network is used: the libraries are wheels, and pip holds each against the hash of its lock. BATCHACCT_INSTALLED, for trials,
names a folder where they are kept as they were installed, for the next build of the same locks.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tools.packages.layout import (
    CORE,
    HOME,
    OURS,
    PACKAGES,
    ROOMS,
    SCHEMA,
    SCRIPTS_2012,
    SITE,
    SOURCE,
    VENDORED,
    Room,
    commands,
    entry_points,
    python,
    schema,
    version,
)
from tools.packages.lock import locked, path_of

LAUNCHER = """#!{python} -IS
# {name} of batchacct, on libraries of its own: nothing that is installed for others changes what it does. Plug-ins of the site:
# {site}
import sys

sys.path += {folders!r}
from {module} import {function}

sys.exit({function}())
"""
PRUNED = (
    "bin",
    "pandas/tests",
    "pyarrow/tests",
    "pyarrow/include",
    "pyarrow/src",
    "certifi/tests",
    "matplotlib/tests",
    "mpl_toolkits/*/tests",
)
"""Of no use to who runs it, and a quarter of the size."""
MANUAL = "/usr/share/doc/batchacct"
OF_MANUAL = ("tutorial", "how-to", "reference", "explanation", "gallery", "examples")
"""Folders of docs/: the pages, and what they show and link to."""
COMPLETIONS = {
    "bash": "/usr/share/bash-completion/completions/{name}",
    "zsh": "/usr/share/zsh/site-functions/_{name}",
    "fish": "/usr/share/fish/vendor_completions.d/{name}.fish",
}
SENSOR = "libbatchacct_sensor.so"


@dataclass
class Tree:
    """Where files go, and which package each is of.

    `listed`: for each package lines of an RPM's %files, in order.
    """

    root: Path
    by_package: bool
    listed: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def place(self, package: str, path: str, attributes: str = "") -> Path:
        """The file to write, or the folder, whose parent is there; it is listed."""
        self.listed[package].append(f"{attributes} {path}".strip())
        return self.inside(package, path)

    def inside(self, package: str, path: str) -> Path:
        """The same, within a folder that is listed already."""
        base = self.root / package if self.by_package else self.root
        target = base / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def write(self, package: str, path: str, text: str, mode: int = 0o644, attributes: str = "") -> None:
        target = self.place(package, path, attributes)
        target.write_text(text, encoding="utf-8")
        target.chmod(mode)

    def copy(self, package: str, source: Path, path: str, attributes: str = "") -> None:
        target = self.place(package, path, attributes)
        shutil.copyfile(source, target)
        target.chmod(0o644)


def stage(tree: Tree, wheels: Path) -> None:
    """All of it."""
    for room in ROOMS:
        _code(tree, room)
        _vendored(tree, room, wheels)
        _units(tree, room)
    for room in ROOMS:  # folders are of each package that has something in them: the last one that is removed takes them away
        tree.listed[room.package] += [f"%dir {HOME}", f"%dir {OURS}", f"%dir {VENDORED}"]
        tree.listed[room.package] += [f"%dir {SCRIPTS_2012}"] if room.scripts else []
    tree.write(CORE.package, SCHEMA, f"{schema()}\n")
    if "acc_run" in commands("procacct"):
        _sensor(tree)
    _settings(tree)
    _written(tree)
    manual(tree)
    for room in ROOMS:
        _compile(tree.inside(room.package, f"{OURS}/{room.module}"), tree.inside(room.package, "/"))


def _code(tree: Tree, room: Room) -> None:
    shutil.copytree(
        SOURCE / room.module,
        tree.place(room.package, f"{OURS}/{room.module}"),
        ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.part"),
    )
    name = f"{room.package.replace('-', '_')}-{version()}.dist-info"
    folder = tree.place(room.package, f"{OURS}/{name}")
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {room.package}\nVersion: {version()}\n", encoding="utf-8")
    groups = ("\n".join([f"[{group}]", *lines, ""]) for group, lines in entry_points(room.module))
    (folder / "entry_points.txt").write_text("\n".join(groups), encoding="utf-8")
    programs = {f"/usr/bin/{name}": target for name, target in commands(room.module).items()}
    programs |= {f"{SCRIPTS_2012}/{name}.py": f"{room.module}.{name}:main" for name in room.scripts}
    for path, target in programs.items():
        tree.write(room.package, path, launcher(Path(path).name, target), mode=0o755)


def launcher(name: str, target: str) -> str:
    """A program: it finds our code and libraries, and nobody else's; PYTHONPATH and the like are not looked at."""
    module, _, function = target.partition(":")
    folders = [OURS, *(f"{VENDORED}/{room.module}" for room in ROOMS if path_of(room).is_file()), SITE]
    return LAUNCHER.format(python=python(), name=name, site=SITE, folders=folders, module=module, function=function)


def _vendored(tree: Tree, room: Room, wheels: Path) -> None:
    if not path_of(room).is_file():
        return
    folder = tree.place(room.package, f"{VENDORED}/{room.module}")
    kept = os.environ.get("BATCHACCT_INSTALLED")
    before = Path(kept) / f"{room.module}-{hashlib.sha256(path_of(room).read_bytes()).hexdigest()[:16]}" if kept else None
    if before and before.is_dir():
        shutil.copytree(before, folder, copy_function=os.link)
        return
    install_locked(room, wheels, folder)
    _compile(folder, tree.inside(room.package, "/"))
    if before:
        shutil.copytree(folder, before)


def install_locked(room: Room, wheels: Path, folder: Path) -> None:
    """The libraries of a lock into a folder, from wheels alone, each of which has to have a hash of the lock."""
    options = ["--no-index", "--find-links", str(wheels), "--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-compile"]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    with tempfile.TemporaryDirectory() as temporary:
        # pip --target installs aside and moves; what is in it already is not touched
        subprocess.run(  # noqa: S603 - pip, with files of ours
            [sys.executable, "-m", "pip", "--isolated", "install", "-q", *options, "--target", folder, "-r", path_of(room)],
            check=True,
            env={**clean, "TMPDIR": temporary, "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        )
    for pattern in PRUNED:
        for path in folder.glob(pattern):
            shutil.rmtree(path)
    for record in folder.glob("*.dist-info/RECORD"):
        record.unlink()  # it would list what is not there any more


def _units(tree: Tree, room: Room) -> None:
    for name in room.units:
        for path in sorted((SOURCE / "rpm/systemd").glob(f"{name}.*")):
            tree.copy(room.package, path, f"/usr/lib/systemd/system/{path.name}")


def _sensor(tree: Tree) -> None:
    package = PACKAGES["procacct"]
    folder = tree.place(package, f"{HOME}/{SENSOR}").parent
    source = SOURCE / "procacct/sensor"
    subprocess.run(["make", "-s", "-B", "-C", source, f"FOLDER={folder.resolve()}"], check=True)  # noqa: S603, S607
    tree.place(package, f"{HOME}/libasan.so")


def _settings(tree: Tree) -> None:
    """What systemd, cron and logrotate are told, and the sample configurations."""
    settings = SOURCE / "rpm"
    tree.copy(CORE.package, settings / "sysusers.d/batchacct.conf", "/usr/lib/sysusers.d/batchacct.conf")
    for room in ("batchacct", "procacct"):
        tree.copy(PACKAGES[room], settings / f"tmpfiles.d/{PACKAGES[room]}.conf", f"/usr/lib/tmpfiles.d/{PACKAGES[room]}.conf")
    for kind in ("logrotate.d", "cron.d"):
        tree.copy(CORE.package, settings / kind / "batchacct", f"/etc/{kind}/batchacct", "%config(noreplace)")
    tree.listed[CORE.package].append("%attr(0750,root,batchacct) %dir /etc/batchacct")
    sample = _imported(tree, "-c", "import batchacct.config_sample as s; print(s.sample(), end='')")
    attributes = "%config(noreplace) %attr(0640,root,batchacct)"
    tree.write(CORE.package, "/etc/batchacct/batchacct.toml", sample, mode=0o640, attributes=attributes)
    if "procacctd" in commands("procacct"):
        sample = _imported(tree, "-c", "import procacct.node.config as c; print(c.sample(), end='')")
        tree.write(PACKAGES["procacct"], "/etc/batchacct/procacctd.toml", sample, attributes="%config(noreplace)")


def _written(tree: Tree) -> None:
    """Man pages and completions."""
    with tempfile.TemporaryDirectory() as temporary:
        _imported(tree, "-m", "tools.packages.pages", temporary)
        for path in sorted(Path(temporary).glob("man/*")):
            tree.copy(_owner(path.stem), path, f"/usr/share/man/man{path.suffix[1:]}/{path.name}")
            tree.listed[_owner(path.stem)][-1] += "*"  # rpmbuild packs them
        for path in sorted(Path(temporary).glob("completion/*/*")):
            tree.copy(_owner(path.name), path, COMPLETIONS[path.parent.name].format(name=path.name))


def _owner(page: str) -> str:
    """The package of a page or completion: that of the longest command its name begins with."""
    own = {name: room.package for room in ROOMS for name in commands(room.module)}
    rooms = {
        f"batchacct-{line.partition('=')[0].strip()}": room.package
        for room in ROOMS
        for group, lines in entry_points(room.module)
        if group == "batchacct.commands"
        for line in lines
    }
    known = own | rooms
    return known[max((name for name in known if page == name or page.startswith(f"{name}-")), key=len)]


def manual(tree: Tree) -> None:
    """The pages and what they lead to, licences, and the bill of materials."""
    tree.listed[CORE.package].append(f"%dir {MANUAL}")
    for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/index.md"):
        tree.copy(CORE.package, SOURCE / name, f"{MANUAL}/{name}", "%doc")
    for name in OF_MANUAL:
        target = tree.place(CORE.package, f"{MANUAL}/docs/{name}", "%doc")
        shutil.copytree(SOURCE / "docs" / name, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for bill in sorted((SOURCE / "tools/packages").glob("*.cdx.json")):
        tree.copy(CORE.package, bill, f"{MANUAL}/{bill.name}", "%doc")
    for room in ROOMS:
        tree.copy(room.package, SOURCE / "LICENSE", f"/usr/share/licenses/{room.package}/LICENSE", "%license")


def _imported(tree: Tree, *arguments: str) -> str:
    """What a Python prints that imports what is staged, and nothing else."""
    homes = {tree.inside(room.package, path) for room in ROOMS for path in (OURS, f"{VENDORED}/{room.module}")}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sorted(homes))), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-S", *arguments]
    return subprocess.run(command, check=True, cwd=SOURCE, env=environment, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603


def _compile(folder: Path, root: Path) -> None:
    """Who runs it may not write there: else all is compiled at every start. By hash: the packages change times of files."""
    options = ["-q", "-j", "0", "--invalidation-mode", "checked-hash", "-s", str(root), "-p", "/"]
    subprocess.run([sys.executable, "-m", "compileall", *options, folder], check=True)  # noqa: S603 - our own files


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--wheels", type=Path, required=True, help="wheels of what the locks name")
    parser.add_argument("--root", type=Path, required=True, help="where it goes")
    parser.add_argument("--by-package", action="store_true", help="into ROOT/PACKAGE")
    parser.add_argument("--lists", type=Path, help="write lists of files for rpmbuild here")
    options = parser.parse_args()
    tree = Tree(options.root.resolve(), options.by_package)
    stage(tree, options.wheels)
    for package, lines in tree.listed.items() if options.lists else ():
        options.lists.mkdir(parents=True, exist_ok=True)
        (options.lists / f"{package}.files").write_text("\n".join([*lines, ""]), encoding="utf-8")
    count = sum(len(locked(path_of(room))) for room in ROOMS if path_of(room).is_file())
    print(f"staged batchacct {version()}, schema {schema()}, {count} libraries")  # noqa: T201 - what the build log tells


if __name__ == "__main__":
    main()
