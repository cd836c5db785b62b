"""HTCondor jobs and what computing elements say of them, joined in a store: which spelling reaches which job, which must not."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest
from sqlalchemy import select

from batchacct.parsing import Block, UnitParser
from batchacct.parsing.contract import Source
from batchacct.store import Origin
from batchacct.store.append import append
from batchacct.store.tables import identity, job, usage
from cecol.blah import PARSER as BLAH
from cecol.htcondor_ce import PARSER as CE
from loccol.htcondor import PARSER as HISTORY
from loccol.htcondor_apel import PARSER as APEL
from tests.pub.site import DAY, T0, Site, a_job, an_identity

SAMPLES = Path(__file__).parent.parent / "samples"
PER_JOB = sorted((SAMPLES / "htcondor" / "gratia-perjob").iterdir())
HISTORY_2010 = b"\n".join(path.read_bytes() for path in PER_JOB)
BLAH_2011 = b"".join((SAMPLES / "blah" / f"blahp.log-{day}").read_bytes() for day in ("20110203", "20110204"))
JAMES, NOT_JAMES = (f"/DC=org/DC=doegrids/OU=People/CN={name}" for name in ("James Frey 259919", "Not James Frey 259919-a"))
DN_LINE = f'x509userproxysubject = "{JAMES}"\n'.encode()


def load(site: Site, parser: UnitParser, data: bytes) -> None:
    """One load of a log; nothing of it may be rejected."""
    parsed = parser.parse_block(Block(data, 0), Source(parser.name, site="TEST-SITE", cluster="c1"))
    assert not parsed.rejects, parsed.rejects[0].reason
    append(site.store, Origin(parser.name, parser.record_type.name, parser.label, f"/log/{parser.name}"), parsed, site.clock)


def joined(site: Site) -> dict[str, str | None]:
    """DN of the identity of each job, by the number in its id, after a run of the publisher."""
    site.publish()
    query = (
        select(job.c.lrms_job_id, identity.c.dn)
        .join(usage, usage.c.job_id == job.c.id)
        .outerjoin(identity, identity.c.id == usage.c.identity_id)
        .order_by(job.c.lrms_job_id)
    )
    with site.store.reading() as connection:
        return {row[0].split("#")[1] if "#" in row[0] else row[0]: row[1] for row in connection.execute(query)}


def an_ad(number: int = 7, proc: int = 0, more: bytes = b"") -> bytes:
    """A finished job that was submitted at T0 and ended 1000 s later."""
    return (
        f'ClusterId = {number}\nProcId = {proc}\nGlobalJobId = "schedd.example.org#{number}.{proc}#{T0}"\nJobStatus = 4\n'
        f"QDate = {T0}\nJobStartDate = {T0 + 100}\nCompletionDate = {T0 + 1000}\nRemoteWallClockTime = 900.0\n"
        "RemoteUserCpu = 800.0\nRemoteSysCpu = 1.0\nRequestCpus = 1\n"
    ).encode() + more


def a_blah_line(lrms_id: object, at: int = T0) -> bytes:
    time = dt.datetime.fromtimestamp(at, dt.UTC)
    return (
        f'"timestamp={time:%Y-%m-%d %H:%M:%S}" "userDN={JAMES}" "userFQAN=/vdt" "ceID=ce.example.org:9619/ce.example.org-condor" '
        f'"jobID=1.0_ce" "lrmsID={lrms_id}" "localUser=alice"\n'
    ).encode()


def at_the_jobs_own_time(match: re.Match[bytes]) -> bytes:
    """A BLAH line with the time at which the job of that number was submitted in 2010."""
    path = SAMPLES / "htcondor" / "gratia-perjob" / f"history.{match[2].decode()}.0"
    if not path.exists():
        return match[0]
    submitted = re.search(r"^QDate = (\d+)", path.read_text(), re.MULTILINE)
    assert submitted is not None
    time = dt.datetime.fromtimestamp(int(submitted[1]) + 2, dt.UTC)
    return f'"timestamp={time:%Y-%m-%d %H:%M:%S}"'.encode() + match[1] + match[2]


def test_logs_of_2011_do_not_join_jobs_of_2010_of_the_same_numbers(site: Site) -> None:
    """The gratia samples: 30 ids in both, the times 70 days apart. With the jobs' own times each joins, so the ids do."""
    load(site, HISTORY, HISTORY_2010)
    load(site, BLAH, BLAH_2011)
    numbers = {int(found) for found in re.findall(rb'"lrmsID=(\d+)"', BLAH_2011)}
    found = joined(site)
    assert {int(job_id.partition(".")[0]) for job_id in found} <= numbers
    assert len(found) == 30
    assert set(found.values()) == {None}
    assert set(site.outcomes()) == {"local"}

    load(site, BLAH, re.sub(rb'"timestamp=[^"]*"([^\n]*"lrmsID=)(\d+)', at_the_jobs_own_time, BLAH_2011))
    found = joined(site)
    assert found.pop("377283.0") == NOT_JAMES
    assert (set(found.values()), len(found)) == ({JAMES}, 29)
    site.assert_sound()


def test_a_blah_line_is_of_proc_0_alone(site: Site) -> None:
    load(site, HISTORY, b"\n".join(an_ad(proc=proc) for proc in range(3)))
    load(site, BLAH, a_blah_line(7))
    assert joined(site) == {"7.0": JAMES, "7.1": None, "7.2": None}


def test_a_line_of_htcondor_ce_apel_is_of_the_routed_job(site: Site) -> None:
    """Both ways: from the history ad, and from the batch line that the same script writes."""
    load(site, HISTORY, an_ad(7, more=b'RoutedFromJobId = "1.0"\n') + b"\n" + an_ad(8))
    load(site, APEL, f"schedd.example.org#9.0#{T0}|alice|900|800|1|{T0 + 100}|{T0 + 1000}|5000|6000|1|1.0|\n".encode())
    for number in (7, 9):
        load(site, BLAH, a_blah_line(f"schedd.example.org#{number}.0#{T0}", T0 + 1000))
    assert joined(site) == {"7.0": JAMES, "8.0": None, "9.0": JAMES}


def test_of_two_schedds_the_routed_jobs_are_not_mixed_up(site: Site) -> None:
    routed = an_ad(7, more=b'RoutedFromJobId = "1.0"\n')
    load(site, HISTORY, routed + b"\n" + routed.replace(b"schedd.", b"other."))
    load(site, BLAH, a_blah_line(f"other.example.org#7.0#{T0}", T0 + 1000))
    site.publish()
    assert sorted(site.names(), key=str) == [JAMES, None]


def test_the_ads_themselves_say_who(site: Site) -> None:
    for parser in (HISTORY, CE):
        load(site, parser, HISTORY_2010)
    found = joined(site)
    assert found.pop("377283.0") is None, "it has no proxy"
    assert (set(found.values()), len(found)) == ({JAMES}, 29)


def test_blah_and_the_ads_may_both_be_read(site: Site) -> None:
    load(site, HISTORY, an_ad(more=DN_LINE))
    load(site, CE, an_ad(more=DN_LINE))
    load(site, BLAH, a_blah_line(7))
    assert joined(site) == {"7.0": JAMES}


def test_a_history_and_apels_lines_of_it_are_the_same_jobs(site: Site) -> None:
    """Read both and no job counts twice: what was read later is a revision."""
    load(site, HISTORY, an_ad())
    load(site, APEL, f"schedd.example.org#7.0#{T0}|alice|900|800|1|{T0 + 100}|{T0 + 1000}|5000|6000|1|\n".encode())
    site.publish()
    assert len(site.outcomes()) == 1
    site.assert_sound()


@pytest.mark.parametrize(("number", "expected"), [("3857720", JAMES), ("3857721", None)])
def test_the_batch_job_behind_a_ce_of_another_batch_system(site: Site, number: str, expected: str | None) -> None:
    grid = b'JobUniverse = 9\nRoutedFromJobId = "1.0"\nGridJobId = "batch pbs ce#1.0#2 pbs/20160211/3857720"\n'
    site.jobs(a_job(f"{number}.server", join_id=number, lrms="PBS", queue="long"))
    load(site, CE, an_ad(more=grid + DN_LINE))
    assert joined(site) == {f"{number}.server": expected}


def test_a_job_of_the_ce_is_no_batch_job_of_the_same_number(site: Site) -> None:
    """What the AuditLog tells is spelt as no batch job is."""
    load(site, HISTORY, an_ad(2) + b"\n" + an_ad(2, 1))
    site.identities(*(an_identity(f"2.{proc}", join_id=f"ce#2.{proc}", recorded_at=T0) for proc in (0, 1)))
    site.clock = T0 + 100 * DAY
    assert joined(site) == {"2.0": None, "2.1": None}
