"""Whatever is archived, and when: every answer is what it would have been had nothing ever left the database."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from batchacct.store import Store
from tests.archive.farms import asked, chance_farm, left, lived, new_site, same


def differences(wanted: dict[str, Any], found: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: (wanted[name], found.get(name)) for name in wanted if not same(wanted[name], found.get(name))}


FARMS = int(os.environ.get("BATCHACCT_FARMS", "1"))
"""More than a few: `make crash`."""


@pytest.mark.parametrize("seed", range(FARMS))
def test_archiving_is_not_seen(store: Store, tmp_path: Path, seed: int) -> None:
    farm = chance_farm(seed)
    site = new_site(store, tmp_path)
    lived(site, farm, archived=False)
    wanted = asked(site)
    before = left(store)
    site.emptied()
    lived(site, farm, archived=True, after_each=site.assert_balanced)
    wrong = differences(wanted, asked(site))
    assert not wrong, "\n".join(f"{name}: {found}\n  not {right}" for name, (right, found) in wrong.items())
    after = left(store)
    assert after["job"] == 0 < before["job"]
    assert after["identity"] <= before["identity"] // 4, "all but those of jobs in the tables"
