"""Builds what is given away: `python -m tools.packages.build dist|rpm|deb [--output FOLDER]`; `make dist`, `make rpm`, `make deb`.

dist: the source as a tarball, and a wheel: the same bytes whoever builds them of the same commit. rpm, deb: the packages, of that
tarball and of the wheels of the locks, which are fetched first; the package builders themselves use no network.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tools.packages.layout import PACKAGES, ROOMS, SOURCE, schema, version
from tools.packages.lock import path_of

BUILD = SOURCE / "build/packages"
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_26", "manylinux_2_24", "manylinux_2_17", "manylinux2014")
"""What runs on Enterprise Linux 8 and newer, Debian 10 and newer: glibc 2.28."""


def epoch() -> int:
    """Seconds of the commit that is built, or SOURCE_DATE_EPOCH: no file of a build is of a later time."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    done = subprocess.run(["git", "-C", SOURCE, "log", "-1", "--format=%ct"], check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603, S607
    return int(done.stdout)


def files() -> list[Path]:
    """What the tarball holds, relative to the source: what git knows of, or all of an unpacked tarball."""
    if (SOURCE / ".git").exists():
        done = subprocess.run(["git", "-C", SOURCE, "ls-files", "-z"], check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603, S607
        found = [Path(name) for name in done.stdout.split("\0") if name and (SOURCE / name).exists()]
    else:
        found = [path.relative_to(SOURCE) for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        found = [path for path in found if path.parts[0] not in ("build", "dist")]
    return sorted(found)


def tarball(folder: Path) -> Path:
    """batchacct-VERSION.tar.gz: sorted, of nobody, of one time."""
    target = folder / f"batchacct-{version()}.tar.gz"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path in files():
            member = tar.gettarinfo(SOURCE / path, f"batchacct-{version()}/{path}")
            member.uid = member.gid = 0
            member.uname = member.gname = "root"
            member.mtime = epoch()
            member.mode = 0o755 if member.mode & 0o100 else 0o644
            with (SOURCE / path).open("rb") as content:
                tar.addfile(member, content if member.isreg() else None)
    with target.open("wb") as out, gzip.GzipFile("", "wb", 9, out, mtime=epoch()) as zipped:
        zipped.write(packed.getvalue())
    return target


def wheel(folder: Path, source: Path) -> Path:
    """The wheel, built of the tarball, away from what lies about in a checkout."""
    with tempfile.TemporaryDirectory() as temporary:
        _unpacked(source, Path(temporary))
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch()), "PYTHONHASHSEED": "0"}
        build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
        subprocess.run(  # noqa: S603 - setuptools, in a folder of our own
            [sys.executable, "-c", build, folder],
            cwd=Path(temporary) / f"batchacct-{version()}",
            check=True,
            env=environment,
            stdout=subprocess.DEVNULL,
            umask=0o022,
        )
    return folder / f"batchacct-{version()}-py3-none-any.whl"


def wheels(folder: Path) -> Path:
    """Fetches what the locks name, for this machine, but for what is there already; all is held against its hash."""
    folder.mkdir(parents=True, exist_ok=True)
    platforms = [f"--platform={name}_{os.uname().machine}" for name in PLATFORMS]
    locks = [f"-r{path_of(room)}" for room in ROOMS if path_of(room).is_file()]
    command = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", *platforms, f"--dest={folder}", *locks]
    offline = [*command, "--no-index", f"--find-links={folder}"]
    if subprocess.run(offline, check=False, stderr=subprocess.DEVNULL).returncode:  # noqa: S603 - pip, with files of ours
        subprocess.run(command, check=True)  # noqa: S603
    return folder


def dist(output: Path, *, quick: bool = False) -> list[Path]:
    """The tarball and the wheel; they are the same, `quick` or not."""
    del quick
    source = tarball(output)
    return [source, wheel(output, source)]


def rpm(output: Path, *, quick: bool = False) -> list[Path]:
    """One RPM a package; `quick`: for a trial, not compressed."""
    top = _fresh(BUILD / "rpm")
    sources = top / "SOURCES"
    sources.mkdir()
    tarball(sources)
    with tarfile.open(sources / "libraries.tar", "w") as tar:
        tar.add(wheels(BUILD / "wheels"), "libraries")
    (sources / "refuse-downgrade.sh").write_text(refusal("batchacct"), encoding="utf-8")
    shutil.copy(SOURCE / "rpm/sysusers.d/batchacct.conf", sources / "batchacct.sysusers")
    defined = {"_topdir": top, "batchacct_version": version(), "python": sys.executable, "_build_id_links": "none"}
    defined |= {"batchacct_payload": "w.ufdio"} if quick else {}
    options = [word for key, value in defined.items() for word in ("--define", f"{key} {value}")]
    # no package of Debian is in a database of RPM's
    build_depends = ["--nodeps"] if Path("/etc/debian_version").exists() else []
    _run("rpmbuild", "-bb", *build_depends, *options, SOURCE / "rpm/batchacct.spec", environment=_trial() if quick else None)
    return [Path(shutil.copy(path, output)) for path in sorted(top.glob("RPMS/*/*.rpm"))]


def deb(output: Path, *, quick: bool = False) -> list[Path]:
    """One DEB a package; `quick`: for a trial, not compressed."""
    top = _fresh(BUILD / "deb")
    _unpacked(tarball(top), top)
    source = top / f"batchacct-{version()}"
    shutil.copytree(source / "deb", source / "debian")
    changelog = source / "debian/changelog"
    text = changelog.read_text(encoding="utf-8")
    changelog.write_text(re.sub(r"^batchacct \(\S+-(\d+)\)", rf"batchacct ({version()}-\1)", text), encoding="utf-8")
    for package in PACKAGES.values():
        guard = source / f"debian/{package}.preinst"
        guard.write_text(guard_script(package), encoding="utf-8")
    wheels(BUILD / "wheels")
    # Debian's tools are on the distribution's own Python and perl, whatever else is on the path
    environment = {
        "BATCHACCT_WHEELS": str(BUILD / "wheels"),
        "BATCHACCT_PYTHON": sys.executable,
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    }
    environment |= _trial() | {"BATCHACCT_COMPRESSION": "-Znone"} if quick else {}
    _run("dpkg-buildpackage", "--build=binary", "--no-sign", "-d", folder=source, environment=environment)
    return [Path(shutil.copy(path, output)) for path in sorted(top.glob("*.deb"))]


def _trial() -> dict[str, str]:
    """Where libraries are kept that an earlier build has installed: a trial need not do that again."""
    return {"BATCHACCT_INSTALLED": os.environ.get("BATCHACCT_INSTALLED", str(BUILD / "installed"))}


def refusal(package: str) -> str:
    """Shell that ends with 1 where the installed program has a newer schema than this package."""
    text = (Path(__file__).parent / "refuse-downgrade.sh").read_text(encoding="utf-8")
    return text.replace("@SCHEMA@", schema()).replace("@VERSION@", version()).replace("@PACKAGE@", package)


def guard_script(package: str) -> str:
    return f"#!/bin/sh\nset -e\n{refusal(package)}#DEBHELPER#\n"


def _unpacked(source: Path, folder: Path) -> None:
    with tarfile.open(source) as tar:
        tar.extractall(folder, filter="data")


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _run(*command: str | Path, folder: Path = SOURCE, environment: dict[str, str] | None = None) -> None:
    """What a builder prints goes into a log, of which the end is shown if it fails.  Raises: SystemExit."""
    log = BUILD / f"{Path(command[0]).name}.log"
    with log.open("wb") as out:
        variables = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch()), **(environment or {})}
        done = subprocess.run(command, check=False, cwd=folder, env=variables, stdout=out, stderr=subprocess.STDOUT)  # noqa: S603
    if done.returncode:
        end = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:])
        raise SystemExit(f"{end}\n{command[0]} failed; all it said is in {log}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("what", choices=("dist", "rpm", "deb", "wheels"))
    parser.add_argument("--output", type=Path, default=SOURCE / "dist", help="where it goes")
    parser.add_argument("--quick", action="store_true", help="packages for a trial: not compressed")
    options = parser.parse_args()
    output = options.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    BUILD.mkdir(parents=True, exist_ok=True)
    if options.what == "wheels":
        wheels(BUILD / "wheels")
        return
    for path in {"dist": dist, "rpm": rpm, "deb": deb}[options.what](output, quick=options.quick):
        print(f"{path.stat().st_size / 1e6:8.1f} MB  {path}")  # noqa: T201 - what `make` tells


if __name__ == "__main__":
    main()
