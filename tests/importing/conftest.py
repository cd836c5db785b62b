"""A site that takes over an older accounting: its own store is SQLite, what it takes over is told by each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.site import CE, Site
from tests.importing.old_apel import MACHINE, SITE, OldApel
from tests.pristine import with_schema
from tests.servers import MariaServer


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """With an empty store and empty logs."""
    (tmp_path / "logs").mkdir()
    made = Site(tmp_path)
    made.configure(ce=f'"{CE}" = "lsf1"\n')
    made.write([])
    with_schema(f"sqlite:///{tmp_path}/batchacct.db").close()
    return made


@pytest.fixture
def old(mariadb: MariaServer) -> Iterator[OldApel]:
    made = OldApel(mariadb)
    yield made
    made.close()


@pytest.fixture
def apel_site(site: Site) -> Site:
    """The site of the client: its configuration names the LRMS server, and writes what the client would."""
    text = site.config.read_text().replace(
        'name = "lsf1"\n', f'name = "lsf1"\nmachine_name = "{MACHINE}"\ngrid_queues = ["grid_*"]\n'
    )
    text = text.replace('site = "TEST-SITE"', f'site = "{SITE}"').replace("value = 10.0", "value = 12.5")
    text = text.replace("[publish]\n", '[publish]\npersonal = "all"\ndescription = "APEL-CREAM-{lrms}"\n')
    site.config.write_text(text.replace("[[benchmark]]", '[vo]\n[[vo.rule]]\nvo = "x"\ngroup = "none"\n[[benchmark]]'))
    return site
