"""`batchacct-ld`: runs the linker it is named after, and lets it put a note with a UUID into the program or shared object.

The note comes as an object file of its own (`note_object`), which exists only in memory. What the linker prints and how it ends
is as it would be: if it fails with the note, it is run once more without it, and only that is seen. Whatever goes wrong here, the
plain linker runs.

    BATCHACCT_LD        off: the plain linker
    BATCHACCT_LD_UUID   random (the rule), inputs (from the inputs; the rule if SOURCE_DATE_EPOCH is set), or a UUID
    BATCHACCT_LD_REAL   path or name of the linker, where it is not to be looked for
    BATCHACCT_SIGNATURES  where the record goes (see `registry`); no: nowhere

Little is imported: this starts with every link.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from procacct import linker_search
from procacct.elf import ElfError, opened
from procacct.link_line import TELLS_OF_PROPERTIES, LinkLine, read_link_line, why_unsigned
from procacct.note_object import Model, model_of, note_object

RECORDS = "BATCHACCT_SIGNATURES"
RECORDS_FOLDER = Path("/var/lib/batchacct/signatures")
OFF = ("off", "no", "0")
_NOEXEC_SEAL = 8
"""MFD_NOEXEC_SEAL of linux/memfd.h, since 6.3; which some sites demand."""
_FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
_ENDED_BY_OTHERS = (*_FORWARDED, signal.SIGKILL, signal.SIGPIPE, signal.SIGQUIT, signal.SIGXCPU, signal.SIGXFSZ)
USAGE = """usage: batchacct-ld --install FOLDER [--all]
       batchacct-ld ARGUMENTS OF THE LINKER...

--install makes FOLDER with links for the linkers of this host (--all: for all that are known); then `gcc -B FOLDER/`, or FOLDER
first in COMPILER_PATH or PATH, signs what is linked.
"""


class Plan(NamedTuple):
    """A link with a note: the UUID, and the arguments with the object in them."""

    uuid: str
    line: LinkLine
    object_name: str
    arguments: list[str]


def main(called: str | None = None, arguments: Sequence[str] | None = None) -> NoReturn:
    """Never returns; ends as the linker does."""
    called = sys.argv[0] if called is None else called
    arguments = sys.argv[1:] if arguments is None else arguments
    if Path(called).name in linker_search.OWN_NAMES and (not arguments or arguments[0] in ("--install", "--help")):
        raise SystemExit(_install(arguments))
    real = linker_search.real_linker(called, os.environ)
    if real is None:
        sys.stderr.write(
            f"batchacct-ld: there is no linker {Path(called).name} in COMPILER_PATH, PATH, /usr/bin: set BATCHACCT_LD_REAL\n"
        )
        raise SystemExit(127)
    try:
        signed = _sign(real, arguments)
    except Exception:  # noqa: BLE001 - a link never fails because of us
        signed = None
    if signed is None:
        _become(real, arguments)
    if os.WIFEXITED(signed):
        os._exit(os.WEXITSTATUS(signed))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if os.WTERMSIG(signed) != signal.SIGKILL:
        signal.signal(os.WTERMSIG(signed), signal.SIG_DFL)
    os.kill(os.getpid(), os.WTERMSIG(signed))
    os._exit(128 + os.WTERMSIG(signed))


def _become(real: str, arguments: Sequence[str]) -> NoReturn:
    """The plain linker, in our place, with the signals as they were."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execve(real, [real, *arguments], {**os.environ, linker_search.ACTIVE: "1"})  # noqa: S606
    except OSError as error:
        sys.stderr.write(f"batchacct-ld: {real}: {error.strerror}: set BATCHACCT_LD_REAL\n")
        os._exit(126)


def _sign(real: str, arguments: Sequence[str]) -> int | None:
    """The wait status of a link with the note; None if the plain linker has to run: nothing was printed then."""
    plan = make_plan(arguments, os.environ)
    if plan is None:
        return None
    outputs = _Outputs()
    status = _run(real, plan.arguments, outputs)
    failed = os.WEXITSTATUS(status) != 0 if os.WIFEXITED(status) else os.WTERMSIG(status) not in _ENDED_BY_OTHERS
    if failed:
        return None
    outputs.replay()
    if status == 0:
        _afterwards(real, arguments, plan)
    return status


def make_plan(arguments: Sequence[str], environment: Mapping[str, str]) -> Plan | None:
    """How to link with a note; None if this link gets none.  Raises: OSError, ValueError."""
    if environment.get("BATCHACCT_LD", "").lower() in OFF or environment.get(linker_search.ACTIVE):
        return None
    line = read_link_line(arguments)
    found = first_object(line)
    if found is None or why_unsigned(line):
        return None
    beside, model = found
    chosen = choose_uuid(line, environment)
    descriptor = in_memory(note_object(model, chosen))
    name = f"/proc/self/fd/{descriptor}"
    if not Path(name).exists():
        return None
    os.set_inheritable(descriptor, True)
    where = arguments.index(beside) + 1 if beside in arguments else 0
    return Plan(chosen, line, name, [*arguments[:where], name, *arguments[where:]])


def first_object(line: LinkLine) -> tuple[str, Model] | None:
    """The first input that is an object file of a machine we know: beside it, a file is surely read as one."""
    claims_all = any(name == "-z" and (value or "").startswith(TELLS_OF_PROPERTIES) for name, value in line.options)
    for name in line.inputs:
        try:
            with opened(name) as content:
                return name, model_of(content, claims_all=claims_all)
        except (OSError, ElfError):
            continue
    return None


def choose_uuid(line: LinkLine, environment: Mapping[str, str]) -> str:
    """The UUID of this link, see above.  Raises: OSError; ValueError for a bad BATCHACCT_LD_UUID."""
    wanted = environment.get("BATCHACCT_LD_UUID") or ("inputs" if environment.get("SOURCE_DATE_EPOCH") else "random")
    if wanted == "random":
        return Path("/proc/sys/kernel/random/uuid").read_text(encoding="ascii").strip()
    from procacct.link_uuid import given_uuid, uuid_of_inputs  # noqa: PLC0415 - costs much, and is seldom wanted

    return uuid_of_inputs(line) if wanted == "inputs" else given_uuid(wanted)


def in_memory(content: bytes) -> int:
    """A descriptor of a file that is nowhere but in memory, with this content.  Raises: OSError."""
    try:
        descriptor = os.memfd_create(linker_search.OWN_NAME, os.MFD_CLOEXEC | _NOEXEC_SEAL)
    except OSError:
        descriptor = os.memfd_create(linker_search.OWN_NAME, os.MFD_CLOEXEC)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


class _Outputs:
    """What the linker prints, held back until it is known that it is what the plain one prints."""

    def __init__(self) -> None:
        places: dict[tuple[int, int], int] = {}
        self._held: dict[int, int] = {}
        for number in (1, 2):
            try:
                found = os.fstat(number)
            except OSError:
                continue
            place = (found.st_dev, found.st_ino)
            if place not in places:
                places[place] = in_memory(b"")
            self._held[number] = places[place]

    @property
    def file_actions(self) -> list[tuple[int, int, int]]:
        return [(os.POSIX_SPAWN_DUP2, held, number) for number, held in self._held.items()]

    def replay(self) -> None:
        """Prints it; who does not read it any more is no reason to fail."""
        for held in dict.fromkeys(self._held.values()):
            number = next(n for n, h in self._held.items() if h == held)
            rest = os.pread(held, os.fstat(held).st_size, 0)
            while rest:
                try:
                    rest = rest[os.write(number, rest) :]
                except BlockingIOError:
                    os.set_blocking(number, True)
                except OSError:
                    break


def _run(real: str, arguments: Sequence[str], outputs: _Outputs) -> int:
    """The wait status of the linker. Signals that ask us to end are handed on to it.  Raises: OSError."""
    child = os.posix_spawn(
        real, [real, *arguments], {**os.environ, linker_search.ACTIVE: "1"},
        file_actions=outputs.file_actions, setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
    )  # fmt: skip
    for number in _FORWARDED:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda received, _frame: os.kill(child, received))
    return os.waitpid(child, 0)[1]


def _afterwards(real: str, arguments: Sequence[str], plan: Plan) -> None:
    """What is left to do when the link has worked. If it does not work, the link has worked all the same."""
    try:
        listing = plan.line.value("--dependency-file")
        if listing:
            without_object(Path(listing), plan.object_name)
        if RECORDS in os.environ or RECORDS_FOLDER.is_dir():
            from procacct.link_record import record_link  # noqa: PLC0415 - costs much, and not every site keeps records

            record_link(plan.uuid, Path(plan.line.output), real, arguments)
    except Exception:  # noqa: BLE001, S110 - a link never fails because of us
        pass


def without_object(listing: Path, name: str) -> None:
    """Takes our object out of the list of inputs that the linker wrote for make; nothing depends on it.  Raises: OSError."""
    text = listing.read_bytes()
    encoded = re.escape(name.encode())
    shorter = re.sub(rb"(?: \\\n)? +" + encoded + rb"(?=[ \n])", b"", text)
    shorter = re.sub(rb"(?m)^" + encoded + rb":\n\n?", b"", shorter)
    if shorter != text:
        listing.write_bytes(shorter)


def _install(arguments: Sequence[str]) -> int:
    folders = [word for word in arguments[1:] if word != "--all"]
    if not arguments or arguments[0] != "--install" or len(folders) != 1:
        (sys.stdout if arguments[:1] == ["--help"] else sys.stderr).write(USAGE)
        return 0 if arguments[:1] == ["--help"] else 2
    try:
        made = linker_search.install(Path(folders[0]), os.environ, every="--all" in arguments)
    except OSError as error:
        sys.stderr.write(f"batchacct-ld: {folders[0]} cannot be written ({error}): name another folder\n")
        return 10
    sys.stdout.write("".join(f"{path}\n" for path in made))
    return 0


if __name__ == "__main__":
    main()
