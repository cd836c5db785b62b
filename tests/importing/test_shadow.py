"""Held against an APEL client that runs beside: both say the same, or every difference is told; asking changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.site import Site
from tests.importing.old_apel import BEGIN, DAY, MACHINE, NOW, OldApel, Run, lines
from tests.interop.farm import waiting_in

OCTOBER = ("--from", "2023-10-20", "--to", "2023-11-30")


def shadow(site: Site, *more: object, status: int) -> dict[str, object]:
    done = site.run("shadow", *OCTOBER, "--json", *more, now=NOW)
    assert done.status == status, done
    return dict(json.loads(done.out))


@pytest.fixture
def both(apel_site: Site, old: OldApel) -> tuple[Site, OldApel, list[Run]]:
    """A client and a collector that have read the same logs of grid jobs."""
    runs = [Run(str(n), BEGIN + n * DAY, BEGIN + n * DAY + 600, 600, 500 + n) for n in range(1, 21)]
    apel_site.write(*lines(runs))
    apel_site.good("collect", "--once")
    old.add(runs)
    old.join()
    return apel_site, old, runs


APART = [word for name in ("Processors", "NodeCount", "MemoryVirtual", "FQAN") for word in ("--ignore", name)]
"""The client was not told to look for these; of several FQANs it keeps the first."""


def test_both_say_the_same(both: tuple[Site, OldApel, list[Run]]) -> None:
    site, old, runs = both
    found = shadow(site, "--url", old.url, *APART, status=0)
    assert (found["agrees"], found["same"], found["different"]) == (True, len(runs), 0)
    assert found["totals"] == [
        {"month": month, "vo": "atlas", "there": sums, "here": sums}
        for month, some in (("2023-10", runs[:11]), ("2023-11", runs[11:]))
        for sums in [{"jobs": len(some), "wall_s": 600 * len(some), "cpu_s": sum(run.cpu_s for run in some)}]
    ]
    assert f"Both say the same of {len(runs)} jobs." in site.run("shadow", *OCTOBER, "--url", old.url, *APART, now=NOW).out
    assert (site.messages(), site.status()["jobs"]["not_joined"]) == ([], len(runs)), "nothing was joined, nothing built"


def test_every_difference_is_told(both: tuple[Site, OldApel, list[Run]]) -> None:
    site, old, runs = both
    gone, changed, renamed, more = runs[2], runs[5], runs[7], Run("99", BEGIN, BEGIN + 60, 60, 1)
    old.add([more])
    old.join()
    old.execute(f"DELETE FROM JobRecords WHERE LocalJobId = '{gone.number}'")
    old.execute(f"UPDATE JobRecords SET CpuDuration = 1 WHERE LocalJobId = '{changed.number}'")
    old.execute(f"UPDATE JobRecords SET LocalJobId = '{renamed.number}-0' WHERE LocalJobId = '{renamed.number}'")
    found = shadow(site, "--url", old.url, *APART, status=23)
    counts = (len(runs) - 3, 1, 2, 2)
    assert (found["same"], found["different"], found["only_there"], found["only_here"]) == counts
    assert found["fields"] == {"CpuDuration": 1}
    (one,) = found["records_that_differ"]  # type: ignore[misc]
    assert (one["LocalJobId"], one["fields"]) == (changed.number, {"CpuDuration": {"there": "1", "here": str(changed.cpu_s)}})  # type: ignore[has-type]
    done = site.run("shadow", *OCTOBER, "--url", old.url, *APART, now=NOW)
    assert f"LocalJobId is {renamed.number}-0 there and {renamed.number} here" in done.out
    assert "1 records differ, 2 are only there and 2 only here" in done.err
    assert len(shadow(site, "--url", old.url, *APART, "--limit", "1", status=23)["records_only_here"]) == 1  # type: ignore[arg-type]


def test_a_field_that_differs_everywhere(both: tuple[Site, OldApel, list[Run]]) -> None:
    site, old, runs = both
    site.config.write_text(site.config.read_text().replace("value = 12.5", "value = 11.5").replace(MACHINE, "other.example.org"))
    found = shadow(site, "--url", old.url, *APART, status=23)
    assert found["fields"] == {"ServiceLevel": len(runs), "MachineName": len(runs)}


@pytest.mark.parametrize("message_format", ["apel-0.2", "apel-0.3", "apel-0.4"])
def test_messages_stand_for_the_database(apel_site: Site, tmp_path: Path, message_format: str) -> None:
    """Those that we would send are the same as ours; one changed letter is told."""
    runs = [Run(str(n), BEGIN + n * DAY, BEGIN + n * DAY + 600, 600, 500 + n) for n in range(1, 8)]
    apel_site.write(*lines(runs))
    apel_site.good("collect", "--once")
    other = Site(tmp_path / "other")
    other.folder.mkdir()
    text = apel_site.config.read_text().replace("[publish]\n", f'[publish]\nformat = "{message_format}"\n')
    text = text.replace("HEPscore23", "HEPSPEC").replace(f'"{apel_site.folder}/outgoing"', f'"{other.folder}/outgoing"')
    apel_site.config.write_text(text)
    assert shadow(apel_site, "--messages", tmp_path, status=23)["only_here"] == len(runs)
    assert apel_site.run("publish", "--once", now=NOW).status == 0
    folder = other.folder / "outgoing"
    assert shadow(apel_site, "--messages", folder, status=0)["same"] == len(runs)
    ((name, payload),) = waiting_in(folder)
    (folder / name).write_bytes(payload.replace(b"CpuDuration: 501\n", b"CpuDuration: 502\n"))
    (folder / name).with_name("sync").write_text("APEL-sync-message: v0.1\nSite: A\n%%\n")
    done = apel_site.run("shadow", *OCTOBER, "--messages", folder, now=NOW)
    assert (done.status, "passed over: APEL-sync-message: v0.1" in done.err) == (23, True)
    assert "1 records differ, 0 are only there and 0 only here" in done.err


def test_where_the_client_is_has_to_be_said_once(apel_site: Site, tmp_path: Path) -> None:
    assert apel_site.run("shadow", *OCTOBER).status == 3
    assert apel_site.run("shadow", *OCTOBER, "--messages", tmp_path, "--url", "sqlite:///x").status == 3
    assert apel_site.run("shadow", *OCTOBER, "--messages", tmp_path / "none").status == 10
    assert apel_site.run("shadow", "--from", "2023-11-01", "--to", "2023-10-01", "--messages", tmp_path).status == 3
