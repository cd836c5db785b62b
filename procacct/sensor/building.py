"""Where the sensor's library is, and building it of its sources where it is nowhere."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from batchacct.errors import SourceError

NAME = "libbatchacct_sensor.so"
SOURCES = Path(__file__).parent
FOLDERS = (
    SOURCES,
    Path("/usr/lib/batchacct"),
    Path("/usr/lib64/batchacct"),
    Path("/usr/libexec/batchacct"),
    Path("/usr/local/lib/batchacct"),
)
SANITIZER_LINK = "libasan.so"
"""A link to the folder it is in, by which programs with an address sanitizer accept the library: see the Makefile."""


def build(
    folder: Path, *, bits: int | None = None, policy: Path | None = None, socket: Path | None = None, cflags: str | None = None
) -> Path:
    """Compiles the library into the folder, and gives its path.

    bits: 32 or 64, of a machine that runs programs of both; the compiler's own by default.
    policy, socket: other places than /run/batchacct for the file of the policy, and for the socket of the built-in one.

    Raises: SourceError if there is no compiler, or it failed.
    """
    options = {"BITS": bits, "POLICY": policy, "SOCKET": socket, "CFLAGS": cflags}
    command = ["make", "-s", "-B", "-C", str(SOURCES), f"FOLDER={folder.resolve()}", *(f"{k}={v}" for k, v in options.items() if v)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - make, with folders of the caller's
    except OSError as error:
        raise SourceError(f"{NAME} cannot be built: {error}. Install make and a C compiler, or give it in {FOLDERS[1]}.") from error
    if done.returncode:
        raise SourceError(
            f"{NAME} cannot be built in {folder}:\n{done.stderr.strip()}\nIt takes make, gcc and the headers of libc."
        )
    return folder / NAME


def library() -> Path:
    """The library's path: beside this module, where packages put it, or newly built in the user's cache.  Raises: SourceError."""
    for folder in FOLDERS:
        if (folder / NAME).is_file():
            return folder / NAME
    folder = _cache() / "batchacct" / f"sensor-{_of_sources()}"
    if not (folder / NAME).is_file():
        _build_into_cache(folder)
    return folder / NAME


def preload_path(path: Path) -> Path:
    """What LD_PRELOAD is to name for a library of this path."""
    through_link = path.parent / SANITIZER_LINK / path.name
    return through_link if through_link.is_file() else path


def _build_into_cache(folder: Path) -> None:
    """All at once: another process may be at it as well, and a library that is half written is loaded by nobody."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        made = Path(temporary) / "made"
        build(made)
        made.chmod(0o755)
        try:
            made.rename(folder)
        except OSError:
            if not (folder / NAME).is_file():
                shutil.rmtree(folder, ignore_errors=True)
                made.rename(folder)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _of_sources() -> str:
    """A name that changes with the sources and the machine."""
    digest = hashlib.sha256(os.uname().machine.encode())
    for path in sorted(SOURCES.iterdir()):
        if path.suffix in (".c", ".h") or path.name == "Makefile":
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
