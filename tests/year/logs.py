"""The logs of a year: each is turned every midnight in its own style, and the oldest files are deleted in the end."""

from __future__ import annotations

import datetime as dt
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.faults.writer import Log, Style
from tests.year.runs import Line

KEPT_FILES = 12
"""Days that rotation keeps: longer than a backup is old when it may be needed."""


@dataclass(frozen=True, slots=True)
class Kept:
    """How a log is called and turned; `name` of one with a file a day has a place for the day."""

    folder: str
    name: str
    style: Style
    compresses: bool = False


LOGS = {
    "lsf": Kept("lsf", "lsb.acct", Style.SHIFT),
    "pbs": Kept("pbs", "%Y%m%d", Style.DAILY),
    "sge": Kept("sge", "accounting", Style.COPY),
    "slurm": Kept("slurm", "sacct-%Y%m%d", Style.DAILY),
    "condor": Kept("condor", "history", Style.RENAME),
    "blah": Kept("cream", "blahp.log-%Y%m%d", Style.DAILY),
    "arc": Kept("arc", "arex-jobs.log", Style.COMPRESS),
    "gram": Kept("globus", "accounting.log", Style.RENAME),
    "lcmaps": Kept("lcmaps", "lcmaps.log", Style.COMPRESS),
}


class YearLog(Log):
    """One of them. Files have the times of the year they are of."""

    def __init__(self, root: Path, kept: Kept, day: dt.date) -> None:
        self.kept = kept
        self._folder = root / kept.folder
        self._folder.mkdir(parents=True)
        self._pieces: list[bytes] = []
        super().__init__(self._named(day), self._pieces.__getitem__, first=0)

    def _named(self, day: dt.date) -> Path:
        return self._folder / day.strftime(self.kept.name)

    def write(self, pieces: list[bytes], at: int, cut: float = 0.0) -> None:
        """Writes them; if `cut` is above 0, of the last one only that share, and the rest before whatever comes next."""
        self._pieces += pieces
        self.append(len(pieces) - (cut > 0 and bool(pieces)))
        if cut and pieces:
            self.begin(cut)
        os.utime(self.path, (at, at))

    def last(self, count: int) -> list[bytes]:
        """What was written last."""
        return self._pieces[-count:]

    def turn(self, day: dt.date, at: int) -> None:
        """Midnight: `day` begins."""
        self.finish()
        os.utime(self.path, (at, at))
        if self.kept.style in {Style.DAILY, Style.RENAME}:
            if self.kept.style is Style.RENAME:
                self.path.rename(self.path.with_name(f"{self.path.name}-{day:%Y%m%d}"))
            self.path = self._named(day)
            os.close(self._handle)
            self._handle = self._opened()
        else:
            self.rotate(self.kept.style)
            if self.kept.style is Style.COPY:
                os.utime(self._numbered(1), (at, at))
        os.utime(self.path, (at, at))
        self._delete_old()

    def _delete_old(self) -> None:
        files = sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime)
        for path in files[:-KEPT_FILES]:
            path.unlink()


class Logs:
    """All of them, and what is yet to be written to them."""

    def __init__(self, root: Path, day: dt.date, seed: int) -> None:
        self.logs = {name: YearLog(root, kept, day) for name, kept in LOGS.items()}
        self._random = Random(seed)
        self._waiting: list[Line] = []
        self.written: Counter[str] = Counter()
        """Lines by log."""

    def add(self, lines: list[Line]) -> None:
        self._waiting += lines

    def go_on(self, until: int) -> int:
        """Writes what is of before that instant; how many lines that were."""
        due = sorted((line for line in self._waiting if line.at < until), key=lambda line: line.at)
        self._waiting = [line for line in self._waiting if line.at >= until]
        pieces: dict[str, list[bytes]] = {}
        for line in due:
            pieces.setdefault(line.log, []).append(line.content)
        for name, of_log in pieces.items():
            cut = self._random.uniform(0.1, 0.9) if self._random.random() < 0.15 else 0.0
            self.logs[name].write(of_log, until - 1, cut)
            self.written[name] += sum(piece.count(b"\n") for piece in of_log)
        return sum(piece.count(b"\n") for of_log in pieces.values() for piece in of_log)

    def finish(self, at: int) -> None:
        for log in self.logs.values():
            log.finish()
            os.utime(log.path, (at, at))

    def turn(self, day: dt.date, at: int) -> None:
        for log in self.logs.values():
            log.turn(day, at)
