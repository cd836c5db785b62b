"""Batch jobs and their grid users from other logs: a Globus site whose logs come in any order, and an LCG-CE's jobmap.

The Globus site is that of the NGS: the DN from the job manager's or the gatekeeper's log, the VO from the accounting log of an
LCAS/LCMAPS plug-in, the usage from PBS. Its logs in tests/samples/globus-site are made of real lines, see ORIGIN there.
"""

from __future__ import annotations

import datetime as dt
import itertools
from pathlib import Path

import pytest
from sqlalchemy import select

from batchacct.cli.collecting import collector_of, rules_for
from batchacct.collector import collect_once
from batchacct.completing import complete_parts
from batchacct.ledger.books import read_books
from batchacct.store.tables import identity, job, part, usage
from tests.apel_reader import Job
from tests.pub.fix_site import SERVERS
from tests.pub.site import DAY, Site

SAMPLES = Path(__file__).parent.parent / "samples"
INCA = "/C=UK/O=eScience/OU=CLRC/L=RAL/CN=inca2.ngs.ac.uk/emailAddress=support@grid-support.ac.uk"
LOGS = {
    "gatekeeper": ("gram", "globus-site/globus-gatekeeper.log"),
    "jobmanager": ("gram", "globus-site/accounting.log"),
    "voms": ("voms-accounting", "globus-site/voms.log"),
    "lcmaps": ("lcmaps", "globus-site/messages"),
    "pbs": ("pbs", "globus-site/pbs-20100530"),
}
NGS = ("gatekeeper", "jobmanager", "voms", "pbs")
ENDED = 1_275_178_205
"""When the last job of the Globus site ended, 2010-05-30 01:10:05 in London."""


def configured(site: Site, logs: dict[str, tuple[str, str]], zone: str) -> Site:
    """Sources and one cluster for these logs; `grid_*` is the queue of grid jobs at the Globus site."""
    of_site = [
        {"name": name, "parser": parser, "paths": [str(SAMPLES / path)], "cluster": "c1", "zone": zone}
        for name, (parser, path) in logs.items()
    ]
    site.configure(source=of_site)
    return site


def collect(site: Site, *names: str) -> None:
    """Reads what these sources have, one after the other, and completes after each what can be."""
    for name in names:
        source = next(s for s in site.config.source if s.name == name)
        collector = collector_of(site.config, source)
        done = collect_once(site.store, collector, lambda: site.clock)
        assert (done.errors, done.counts["rejected"]) == ([], 0)
        complete_parts(site.store, rules_for(site.config, [source.name]), site.clock)


def told(site: Site) -> dict[object, tuple[object, ...]]:
    """Of each job that the receiver has, by its id: who, VO, FQANs, grid or local, wall, CPU and processors."""
    names = ("GlobalUserName", "VO", "FQAN", "InfrastructureType", "WallDuration", "CpuDuration", "Processors")
    received: list[Job] = list(site.received().values())
    return {record["LocalJobId"]: tuple(record.get(name) for name in names) for record in received}


OF_NGS = {
    "695392.sdb": (INCA, "ngs.ac.uk", None, "grid", 96, 11, 1),
    "695393.sdb": (INCA, "ngs.ac.uk", None, "grid", 97, 12, 1),
    "695394.sdb": (INCA, "ngs.ac.uk", None, "grid", 96, 13, 1),
    "695417.sdb": (INCA, "local-nonlcg", "/local-nonlcg", "grid", 1, 1, 1),
    "695500.sdb": (None, "local-nonlcg", "/local-nonlcg", "local", 600, 59, 1),
}


def in_any_order(*names: str) -> pytest.MarkDecorator:
    """Every order on SQLite; on a server, whose statements are the same for each, one and its reverse."""
    orders = list(itertools.permutations(names))
    chosen = [*(("sqlite", order) for order in orders), *((server, orders[n]) for server in SERVERS for n in (0, -1))]
    ids = ["-".join((database, *order)) for database, order in chosen]
    return pytest.mark.parametrize(("site", "order"), chosen, indirect=["site"], ids=ids)


class TestGlobus:
    """Of 695394 only the gatekeeper knows the user, of 695417 nobody tells the VO, 695500 came by no gatekeeper."""

    @in_any_order(*NGS)
    def test_usage_records_with_dn_and_vo_in_any_order_of_the_logs(self, site: Site, order: tuple[str, ...]) -> None:
        configured(site, {name: LOGS[name] for name in NGS}, "Europe/London")
        collect(site, *order)
        site.publish(ENDED + 40 * DAY)
        assert told(site) == OF_NGS
        site.assert_sound()

    @in_any_order(*NGS[:3])
    def test_what_was_published_before_a_log_came_is_corrected(self, site: Site, order: tuple[str, ...]) -> None:
        configured(site, {name: LOGS[name] for name in NGS}, "Europe/London")
        for day, name in enumerate(("pbs", *order)):
            collect(site, name)
            site.publish(ENDED + (40 + day) * DAY)
            site.assert_sound()
        assert told(site) == OF_NGS
        assert site.history()

    def test_what_is_held(self, site: Site) -> None:
        """A ping has no batch job: its part waits. A fork job has none either, and says so: nothing of it waits."""
        configured(site, LOGS, "Europe/London")
        collect(site, *LOGS)
        with site.store.reading() as connection:
            waiting = set(connection.execute(select(part.c.kind, part.c.part_key).where(part.c.used_at.is_(None))).all())
        assert waiting == {("connection", "2010-05-30.00:14:01.0000007531.0000000000")}
        with site.store.reading() as connection:
            assert read_books(connection).balanced

    @pytest.mark.parametrize("order", [tuple(LOGS), tuple(reversed(LOGS))], ids=["forwards", "backwards"])
    def test_fqans_of_lcmaps_come_before_the_name_of_a_vo(self, site: Site, order: tuple[str, ...]) -> None:
        configured(site, LOGS, "Europe/London")
        collect(site, *order)
        site.publish(ENDED + 40 * DAY)
        fqans = "/ngs.ac.uk/Operations/Role=NULL/Capability=NULL;/ngs.ac.uk/Role=NULL/Capability=NULL"
        assert told(site) == OF_NGS | {"695393.sdb": (INCA, "ngs.ac.uk", fqans, "grid", 97, 12, 1)}

    def test_read_twice_nothing_changes(self, site: Site) -> None:
        configured(site, LOGS, "Europe/London")
        collect(site, *LOGS)
        site.publish(ENDED + 40 * DAY)
        before = told(site)
        sent = len(site.messages())
        for source in site.config.source:
            collector = collector_of(site.config, source)
            every = frozenset(collector.paths)
            again = collect_once(site.store, collector, lambda: site.clock, from_start=every)
            assert again.counts["recorded"] == again.counts["merged"] == again.counts["revised"] == 0
            complete_parts(site.store, rules_for(site.config, [source.name]), site.clock)
        site.publish(ENDED + 41 * DAY)
        assert (told(site), len(site.messages())) == (before, sent)


def test_the_jobmap_of_an_lcg_ce_against_its_pbs_records(site: Site) -> None:
    """DGAS' own pair. Three jobs match, of 0 s difference.

    280880 joins by id and time, 1 s apart, though its account contradicts the DN: the line was edited upstream, uid and account
    name cannot be compared, and nothing else fits. 280879 has no line and is local. 280881 has not ended and is no record yet.
    """
    logs = {"ce": ("blah", "blah/grid-jobmap.template"), "pbs": ("pbs", "pbs/dgas-tests.log")}
    configured(site, logs, "Europe/Rome")
    collect(site, *logs)
    site.publish(1_232_916_475 + 40 * DAY)
    with site.store.reading() as connection:
        rows = connection.execute(
            select(job.c.join_id, usage.c.outcome, identity.c.join_id, identity.c.vo, identity.c.recorded_at - job.c.submit_at)
            .select_from(usage.join(job, job.c.id == usage.c.job_id).outerjoin(identity, identity.c.id == usage.c.identity_id))
            .order_by(job.c.join_id)
        ).all()
    assert [tuple(row) for row in rows] == [
        ("280876", "joined", "280876", "dteam", 0),
        ("280877", "joined", "280877", "dteam", 0),
        ("280878", "joined", "280878", "biomed", 0),
        ("280879", "local", None, None, None),
        ("280880", "joined", "280880", "biomed", -1),
    ]
    ends = {str(record["LocalJobId"]).partition(".")[0]: record["EndTime"] for record in site.received().values()}
    assert ends["280876"] == 1_232_913_182
    assert len(ends) == 5
    site.assert_sound()


def test_the_jobmap_of_an_lcg_ce_against_its_lsf_records(site: Site, tmp_path: Path) -> None:
    """DGAS' other pair, its place-holders filled with the jobs' submit times; both sides say the uid."""
    submitted = (1_233_930_826, 1_232_852_822, 1_232_869_420)
    text = (SAMPLES / "blah/grid-jobmap.template.lsf").read_text()
    for number, at in enumerate(submitted, 1):
        text = text.replace(f"$timestamp{number}", f"{dt.datetime.fromtimestamp(at, dt.UTC):%Y-%m-%d %H:%M:%S}")
    (tmp_path / "grid-jobmap_20090125").write_text(text)
    logs = {"ce": ("blah", str(tmp_path / "grid-jobmap_20090125")), "lsf": ("lsf", "lsf/dgas-tests-7.02.acct")}
    configured(site, logs, "UTC")
    collect(site, *logs)
    site.publish(submitted[0] + 40 * DAY)
    with site.store.reading() as connection:
        rows = connection.execute(
            select(job.c.join_id, usage.c.outcome, identity.c.vo, identity.c.local_user, job.c.user_id, identity.c.recorded_at)
            .select_from(usage.join(job, job.c.id == usage.c.job_id).outerjoin(identity, identity.c.id == usage.c.identity_id))
            .order_by(job.c.join_id)
        ).all()
    assert [tuple(row) for row in rows] == [
        ("4530990", "joined", "cms", "3003", 3003, submitted[0]),
        ("4532648", "joined", "lhcb", "5603", 5603, submitted[1]),
        ("4535228", "joined", "atlas", "5504", 5504, submitted[2]),
    ]
