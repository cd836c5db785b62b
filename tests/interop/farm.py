"""The demo's farm, collected once and published as often as a test wants, each time from a copy of the same store, by the commands.

It lies in the past of every clock that a receiver may ask.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from batchacct.cli.demonstration import _configuration
from batchacct.demo.farm import write_logs
from tests.apel_reader import Job
from tests.cli.site import Site

END_AT = int(dt.datetime(2024, 11, 1, 12, tzinfo=dt.UTC).timestamp())
MONTHS = ("2024-10", "2024-11")
JOBS = 1000
HEPSCORE = ("HEPscore23", 12.5)


@dataclass(frozen=True, slots=True)
class Farm:
    """The folder of a site that has collected the farm's logs and published nothing."""

    folder: Path

    @classmethod
    def collected(cls, folder: Path) -> Farm:
        site = Site(folder)
        write_logs(folder / "logs", jobs=JOBS, seed=11, end_at=END_AT)
        site.config.write_text(_configuration(folder))
        for command in (("db", "create"), ("collect", "--once")):
            done = site.run(*command, now=END_AT)
            assert done.status == 0, done
        return cls(folder)

    def published(self, folder: Path, publish: str, benchmark: tuple[str, float] = HEPSCORE) -> Site:
        """A copy, which has published with these lines of `[publish]`."""
        folder.mkdir()
        shutil.copy(self.folder / "batchacct.db", folder)
        text = _configuration(self.folder).partition("[publish]")[0]
        text = text.replace(f"{self.folder}/batchacct.db", f"{folder}/batchacct.db")
        text = text.replace('type = "HEPscore23"\nvalue = 12.5', f'type = "{benchmark[0]}"\nvalue = {benchmark[1]}')
        site = Site(folder)
        site.config.write_text(f"{text}[publish]\n{publish}")
        assert benchmark[0] in site.config.read_text()
        done = site.run("publish", "--once", now=END_AT)
        assert done.status == 0, done
        return site

    def messages(self, folder: Path, message_format: str, benchmark: tuple[str, float] = HEPSCORE, bunch: int = 97) -> Messages:
        """The messages that wait for an SSM sender, by their ids."""
        outgoing = folder / "outgoing"
        self.published(folder, f'format = "{message_format}"\npath = "{outgoing}"\nbunch = {bunch}\n', benchmark)
        return waiting_in(outgoing)

    def records(self, folder: Path, benchmark: tuple[str, float] = HEPSCORE) -> list[Job]:
        """What our own store says is published, by the names of the columns of a usage record."""
        lines = f'format = "jsonl"\ntransport = "file"\npath = "{folder}/outgoing"\n'
        self.published(folder, lines, benchmark)
        files = sorted((folder / "outgoing").iterdir())
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


Messages = list[tuple[str, bytes]]
"""Ids and payloads."""


def waiting_in(outgoing: Path) -> Messages:
    """The messages in an outgoing directory, in order."""
    return [(str(path.relative_to(outgoing)), path.read_bytes()) for path in sorted(outgoing.glob("????????/??????????????"))]
