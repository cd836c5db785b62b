"""Identities by token: the VO of an issuer, and one person under a DN and a token."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from sqlalchemy import select

from batchacct.store.tables import vo_mapping
from tests.pub.site import HOUR, Site, a_job, an_identity

ATLAS, SHARED = "https://atlas-auth.cern.ch", "https://cilogon.org/fermilab"
PRODUCTION = "7dee38a3-6ab8-4fe2-9e4c-58039c21d817"
ISSUERS = (
    {"issuer": f"{ATLAS}/", "subject": PRODUCTION, "vo": "atlas", "fqan": "/atlas/Role=production"},
    {"issuer": ATLAS, "vo": "atlas"},
    {"issuer": SHARED, "subject": "dunepilot@*", "vo": "dune"},
)


def by_token(number: int, issuer: str | None, subject: str, **columns: object) -> dict[str, object]:
    """As htcondor-ce or ARC tell of it: no DN, no FQAN, no VO."""
    nothing = dict.fromkeys(("fqan", "fqans", "vo", "vo_group", "vo_role"))
    who: dict[str, object] = {"dn": None, "token_issuer": issuer, "token_subject": subject}
    return {**an_identity(number, dn=f"{issuer}{subject}"), **nothing, **who, **columns}


@pytest.mark.parametrize(
    ("token", "vo", "fqan", "rule"),
    [
        ((ATLAS, PRODUCTION), "atlas", "/atlas/Role=production", "token issuer 1"),
        ((f"{ATLAS}/", PRODUCTION), "atlas", "/atlas/Role=production", "token issuer 1"),
        ((f"{ATLAS}/", "5c5d2a4d"), "atlas", "/atlas", "token issuer 2"),
        ((SHARED, "dunepilot@fnal.gov"), "dune", "/dune", "token issuer 3"),
        ((SHARED, "mu2epilot@fnal.gov"), "local-nonlcg", "/local-nonlcg", "default"),
        ((None, PRODUCTION), "local-nonlcg", "/local-nonlcg", "default"),
    ],
)
def test_the_vo_of_an_issuer(site: Site, token: tuple[str | None, str], vo: str, fqan: str, rule: str) -> None:
    site.configure(vo={"issuer": list(ISSUERS)})
    site.jobs(a_job(1), a_job(2, queue="short"))
    site.identities(by_token(1, *token))
    site.publish()
    record = next(r for read in site.messages() for r in read if r["LocalJobId"] == "1")
    assert (record["VO"], record["FQAN"], record["InfrastructureType"]) == (vo, fqan, "grid")
    local = next(r for read in site.messages() for r in read if r["LocalJobId"] == "2")
    assert local["VO"] == "local-nonlcg"
    with site.store.reading() as connection:
        assert rule in set(connection.scalars(select(vo_mapping.c.rule)))
    site.assert_sound()


def test_an_fqan_or_group_that_is_told_goes_before_the_issuer(site: Site) -> None:
    site.configure(vo={"issuer": list(ISSUERS)})
    site.jobs(a_job())
    told = {"fqan": "/atlas/it", "fqans": '["/atlas/it"]', "vo": "atlas", "vo_group": "/atlas/it"}
    site.identities(by_token(1, ATLAS, PRODUCTION, **told))
    site.publish()
    ((record,),) = site.messages()
    assert (record["VO"], record["FQAN"]) == ("atlas", "/atlas/it")


def test_one_person_by_dn_and_by_token_is_published_under_one_name(site: Site) -> None:
    alice = "/DC=ch/CN=Alice"
    site.configure(
        person=[{"name": alice, "also": [f"{ATLAS}//alice", "/DC=ch/CN=Alice Old"]}, {"name": "/CN=Bob", "also": ["bob"]}]
    )
    site.jobs(*(a_job(n, submit_at=1_700_000_000 + n * HOUR) for n in range(1, 7)))
    at = {n: {"recorded_at": 1_700_000_000 + n * HOUR} for n in range(1, 7)}
    site.identities(
        an_identity(1, dn=alice, **at[1]),
        an_identity(2, dn="/DC=ch/CN=Alice Old", **at[2]),
        by_token(3, f"{ATLAS}/", "alice", **at[3]),
        by_token(4, None, "alice", **at[4]),
        by_token(5, None, "bob", **at[5]),
        by_token(6, ATLAS, "carol", **at[6]),
    )
    site.publish()
    names = {r["LocalJobId"]: r["GlobalUserName"] for read in site.messages() for r in read}
    assert names == {"1": alice, "2": alice, "3": alice, "4": alice, "5": "/CN=Bob", "6": f"{ATLAS}/carol"}


def test_a_subject_of_two_people_is_nobody_in_particular(site: Site) -> None:
    site.configure(person=[{"name": "A", "also": ["https://one/x"]}, {"name": "B", "also": ["https://two/x"]}])
    site.jobs(a_job())
    site.identities(by_token(1, None, "x"))
    site.publish()
    ((record,),) = site.messages()
    assert record["GlobalUserName"] == "x"


def test_a_name_of_two_people_is_refused(site: Site) -> None:
    with pytest.raises(ValidationError, match="/CN=x stands twice"):
        site.configure(person=[{"name": "A", "also": ["/CN=x"]}, {"name": "B", "also": ["/CN=x"]}])
