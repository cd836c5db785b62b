"""`site`: a configured site with an empty database and empty logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.site import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    (tmp_path / "logs").mkdir()
    made.configure(ce='"ce01.example.org:8443/*" = "lsf1"')
    made.write([])
    made.good("db", "create")
    return made
