"""Finding the linker that would have run without `batchacct-ld`, and installing links to the latter.

gcc tells its linker in COMPILER_PATH where it looks for programs, and then looks in PATH; so does this. What is one of our own,
wherever it was installed, is passed over. Another wrapper that in turn finds us is broken out of by BATCHACCT_LD_ACTIVE: then
only a program counts.

Sources: gcc(1), COMPILER_PATH and -B; gcc/collect2.cc (gcc 12) for the names it looks for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

OWN_NAME = "batchacct-ld"
OWN_NAMES = frozenset({OWN_NAME, "linker.py"})
MARK = b"# batchacct-ld, made by"
NAMES = ("ld", "ld.bfd", "ld.gold", "ld.lld", "ld.mold", "mold")
LAST_FOLDERS = ("/usr/local/bin", "/usr/bin", "/bin")
ACTIVE = "BATCHACCT_LD_ACTIVE"
_HEAD = 400

_STUB = """#!/bin/sh
{mark} `batchacct-ld --install`: a linker that signs what it links. BATCHACCT_LD=off turns it off.
# If the Python that installed it cannot run here, the linker that would have run without it does.
python={python}
packages={packages}
start='import os, sys
try:
    sys.path.append(sys.argv[1])
    from procacct.linker import main
except Exception:
    os.execve(sys.argv[2], sys.argv[2:], {{**os.environ, "BATCHACCT_LD": "off"}})
main(sys.argv[2], sys.argv[3:])'
case ${{BATCHACCT_LD-}} in
off | no | 0) ;;
*)
    if "$python" -I -S -c '' </dev/null >/dev/null 2>&1; then
        exec "$python" -I -S -c "$start" "$packages" "$0" "$@"
    fi
    ;;
esac
name=${{BATCHACCT_LD_REAL:-${{0##*/}}}}
[ "$name" = {own} ] && name=ld
case $name in */*) exec "$name" "$@" ;; esac
IFS=:
set -f
for folder in ${{COMPILER_PATH-}} ${{PATH-}} {last}; do
    real=$folder/$name
    [ -f "$real" ] && [ -x "$real" ] || continue
    {{ IFS= read -r first; IFS= read -r second; }} <"$real" 2>/dev/null
    case $second in "{mark}"*) continue ;; esac
    case ${{BATCHACCT_LD_ACTIVE-}}$first in 1*ELF* | [!1]*) ;; *) continue ;; esac
    BATCHACCT_LD_ACTIVE=1 exec "$real" "$@"
done
echo "{own}: there is no linker $name in COMPILER_PATH, PATH, {last}" >&2
exit 127
"""


def real_linker(called: str, environment: Mapping[str, str]) -> str | None:
    """The path of the linker of the name by which we were called (`batchacct-ld` itself stands for `ld`); None if there is none.

    `environment`: BATCHACCT_LD_REAL names it; else COMPILER_PATH and PATH are gone through.
    """
    named = environment.get("BATCHACCT_LD_REAL", "")
    if "/" in named:
        return named
    name = named or Path(called).name
    name = "ld" if name in OWN_NAMES else name
    for folder in _folders(environment):
        candidate = Path(folder, name)
        if _may_run(candidate, called, programs_only=bool(environment.get(ACTIVE))):
            return str(candidate)
    return None


def _folders(environment: Mapping[str, str]) -> Iterator[str]:
    for variable in ("COMPILER_PATH", "PATH"):
        yield from (folder for folder in environment.get(variable, "").split(":") if folder)
    yield from LAST_FOLDERS


def _may_run(candidate: Path, called: str, *, programs_only: bool) -> bool:
    try:
        if not candidate.is_file() or not os.access(candidate, os.X_OK):
            return False
        if Path(called).exists() and candidate.samefile(called):
            return False
        with candidate.open("rb") as content:
            head = content.read(_HEAD)
    except OSError:
        return False
    if MARK in head or b"procacct.linker" in head:
        return False
    return head.startswith(b"\x7fELF") or not programs_only


def install(folder: Path, environment: Mapping[str, str], *, every: bool) -> list[Path]:
    """Makes `folder` with the wrapper and a link for each linker of this host (`every`: and those that are not installed).

    A link for one that is not installed would make build systems believe that it is.  Raises: OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    import shlex  # noqa: PLC0415 - of no use to a link

    stub = folder / OWN_NAME
    packages = Path(__file__).resolve().parents[1]
    text = _STUB.format(
        mark=MARK.decode(),
        python=shlex.quote(sys.executable),
        packages=shlex.quote(str(packages)),
        own=OWN_NAME,
        last=" ".join(LAST_FOLDERS),
    )
    _write_anew(stub, text)
    installed = {name for name in NAMES if every or real_linker(name, environment)}
    installed |= set(_names_with_triplet(environment))
    made = [stub]
    for name in sorted(installed):
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(OWN_NAME)
        made.append(link)
    return made


def _write_anew(path: Path, text: str) -> None:
    """Under a new name first, so that a link that runs at the moment is not disturbed."""
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    aside.chmod(0o755)
    aside.replace(path)


def _names_with_triplet(environment: Mapping[str, str]) -> Iterator[str]:
    """Names such as x86_64-linux-gnu-ld and aarch64-linux-gnu-ld.bfd, of linkers that are installed."""
    for folder in _folders(environment):
        for suffix in ("ld", "ld.bfd", "ld.gold"):
            for found in Path(folder).glob(f"*-linux-*-{suffix}"):
                if real_linker(found.name, environment):
                    yield found.name
