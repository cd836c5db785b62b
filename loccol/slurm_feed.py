"""`sacct` asked for what has ended: the feed of Slurm's accounting database, for the parser `slurm`.

    [[source]]
    name = "slurm1"
    parser = "slurm"
    feed = "sacct"

What is run, one window of time after the other, oldest first:

    TZ=UTC SLURM_TIME_FORMAT=%s sacct -a -D -P --noconvert -S 2026-11-25T11:00:00 -E 2026-11-26T11:00:00 -s STATES -o FIELDS

| option  | default        | meaning                                                                                       |
|---------|----------------|-----------------------------------------------------------------------------------------------|
| sacct   | sacct          | the program, by path or as PATH has it; it, or a script around it, takes these arguments      |
| cluster | sacct's own    | the cluster as Slurm calls it (`-M`); sacct does not complain of one that does not exist      |
| since   | 30d            | how far back the first asking goes: a duration, or a day (UTC), `2026-01-01`                  |
| window  | 1d             | longest window of one call: sacct and slurmdbd hold a whole answer in memory                  |
| overlap | 1d             | how far behind the last asking the next one begins                                            |
| timeout | 10m            | how long sacct may say nothing before it is ended                                             |
| states  | all ended ones | states that are asked for; a Slurm before 17.11 does not know OUT_OF_MEMORY, and refuses      |

**The cursor** is the end of the last window that was answered, in Unix seconds. Asked for states of ended jobs, slurmdbd compares
the window with the end of a run alone (as_mysql_jobacct_process.c, `_state_time_string`), both edges included: a window holds
exactly what ended in it. Jobs get into its database late: what ended while slurmdbd was down is sent by slurmctld once it is back,
and an asking may fall into that. So windows overlap, and what is known already is skipped. A run whose end is set afterwards to a
time further back (`sacctmgr show runaway`) is found by another source, of another name, with `since`.

**Nothing is lost silently.** The fields are those of `sacct --helpformat`, since sacct refuses the whole call for one name it does
not know; steps stay in (`-X` would leave out CPU time and memory with them) and so do earlier runs (`-D`); the one free-text field
stands last. An answer counts if sacct ends with status 0 and its header is the one asked for. It ends with the `errno` of the
moment if slurmdbd fails it (sacct.c, `exit(errno)`), which may be 0: an error message and no row is a failure too.

Sources: sacct(1), slurm.conf(5), SchedMD/slurm src/sacct/sacct.c and src/plugins/accounting_storage/mysql/; tried with 22.05.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from batchacct.config import Duration, Section, key
from batchacct.errors import ConfigError, SourceError
from batchacct.feeding import Answer, checked_options, cursor_seconds
from batchacct.parsing import Source
from loccol.slurm_feed_call import answering, printed
from loccol.slurm_sacct_layout import RECOMMENDED

ENDED = "BOOT_FAIL,CANCELLED,COMPLETED,DEADLINE,FAILED,NODE_FAIL,OUT_OF_MEMORY,PREEMPTED,REQUEUED,RESIZING,REVOKED,TIMEOUT"
"""Every state of an ended run by which slurmdbd can be asked; LAUNCH_FAILED and RECONFIG_FAIL are flags beside one of these."""

NEEDED = frozenset({"JobID", "JobIDRaw", "User", "Submit", "Start", "End", "ElapsedRaw", "State", "NCPUS", "TotalCPU"})
OLDER_NAMES = {"ElapsedRaw": "Elapsed", "AllocTRES": "TRESAlloc", "ReqTRES": "TRESReq"}
"""What stands for a field in a Slurm that does not have it."""

_DAY = "%Y-%m-%d"
_DAY_S = 86_400
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": _DAY_S, "w": 7 * _DAY_S}


def _since(value: str) -> str:
    if not re.fullmatch(r"\d+[smhdw]", value):
        try:
            dt.datetime.strptime(value, _DAY)  # noqa: DTZ007 - only its form
        except ValueError as error:
            raise ValueError('give a duration such as "30d", or a day such as "2026-01-01"') from error
    return value


def _state_names(value: str) -> str:
    if not re.fullmatch(r"[A-Z_]+(?:,[A-Z_]+)*", value):
        raise ValueError("names of states, separated by commas without blanks")
    return value


class Options(Section):
    """`feed_options` of a source."""

    sacct: str = key("the program", "sacct", min_length=1)
    cluster: str | None = key("the cluster as Slurm calls it", None, pattern=r"^[A-Za-z0-9_.-]+$")
    since: Annotated[str, AfterValidator(_since)] = key("how far back the first asking goes", "30d")
    window: Annotated[Duration, Field(ge=60)] = key("longest window of one call", _DAY_S)
    overlap: Duration = key("how far behind the last asking the next one begins", _DAY_S)
    timeout: Annotated[Duration, Field(ge=1)] = key("how long sacct may say nothing", 600)
    states: Annotated[str, AfterValidator(_state_names)] = key("states that are asked for", ENDED)


@dataclass(frozen=True)
class SacctFeed:
    """Asks sacct for the runs that ended, window by window."""

    options: Options

    def ask(self, cursor: str | None, now: int) -> Iterator[Answer]:
        """See `batchacct.feeding.Feed`; the cursor is Unix seconds."""
        reached = None if cursor is None else min(cursor_seconds("sacct", cursor), now)
        begin = self._first(now) if reached is None else reached - self.options.overlap
        fields = self._fields()
        for start, end in _windows(max(0, min(begin, now)), now, self.options.window):
            command = [*self._command(), *_window_arguments(start, end), "-s", self.options.states, "-o", ",".join(fields)]
            question = f"sacct {_iso(start)}/{_iso(end)}"
            yield Answer(question, answering(command, fields, self.options.timeout), str(max(reached or 0, end)))

    def _first(self, now: int) -> int:
        since = self.options.since
        if "-" in since:
            return int(dt.datetime.strptime(since, _DAY).replace(tzinfo=dt.UTC).timestamp())
        return now - int(since[:-1]) * _UNITS_S[since[-1]]

    def _command(self) -> list[str]:
        chosen = ["-M", self.options.cluster] if self.options.cluster else []
        return [self.options.sacct, *chosen, "-a", "-D", "-P", "--noconvert"]

    def _fields(self) -> list[str]:
        """The fields to ask this sacct for.  Raises: SourceError if it has not those without which a job cannot be told."""
        known = set(printed([self.options.sacct, "--helpformat"], self.options.timeout).split())
        wanted = [name if name in known else OLDER_NAMES.get(name, name) for name in RECOMMENDED.split(",")]
        fields = [name for name in wanted if name in known]
        if missing := [name for name in sorted(NEEDED) if not {name, OLDER_NAMES.get(name)} & known]:
            raise SourceError(
                f"{self.options.sacct} --helpformat does not list {', '.join(missing)}: "
                "this is no sacct, or that of a Slurm older than 14.11"
            )
        return fields


def make_feed(source: Source, paths: Sequence[str], options: Mapping[str, str]) -> SacctFeed:
    """The feed of a source.  Raises: ConfigError naming what is wrong."""
    if paths:
        raise ConfigError(
            f"source {source.name}: the feed sacct reads no files, leave out paths (those are for sources without feed)"
        )
    return SacctFeed(checked_options(Options, source, options))


def _windows(begin: int, end: int, longest: int) -> Iterator[tuple[int, int]]:
    """One at least: even where nothing can be in it, sacct has to answer."""
    while True:
        yield begin, min(begin + longest, end)
        begin += longest
        if begin >= end:
            return


def _window_arguments(start: int, end: int) -> list[str]:
    return ["-S", _iso(start), "-E", _iso(end)]


def _iso(instant: int) -> str:
    """As sacct takes times, in UTC."""
    return dt.datetime.fromtimestamp(instant, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
