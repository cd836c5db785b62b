"""Sections of the configuration that say what a job counts as: benchmarks, VOs, people."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import Field, model_validator

from batchacct.sections import File, Section, key

BENCHMARKS = ("HEPscore23", "HEPSPEC", "Si2k")
"""The benchmarks there are; a receiver that is told several takes the first of these."""

LOCAL = "local-"
"""Local VOs are published under a name of their own, so that a portal can tell them from the grid's (2012, EGI)."""

VO_NAME = r"^[!-:<-~]+$"
"""ASCII without blanks, as receivers keep it, and without ; which stands between FQANs."""

BenchmarkType = Literal["HEPscore23", "HEPSPEC", "Si2k"]


class Benchmark(Section):
    """What one core of a cluster, or of some of its hosts, is worth, for a time."""

    cluster: str = key("cluster, * for all", "*")
    hosts: list[Annotated[str, Field(min_length=1)]] = key(
        "hosts (with * and ?): for jobs all of whose hosts match; default: whatever the hosts", [], sample=["node1*"]
    )
    type: BenchmarkType = key("unit", sample="HEPscore23")
    value: float = key("benchmark of one core; with per_host_factor that of factor 1", sample=12.5, gt=0)
    also: dict[BenchmarkType, Annotated[float, Field(gt=0)]] = key(
        "other benchmarks of the same core, for formats that hold several or know no newer one", {}, sample={"HEPSPEC": 11.4}
    )
    per_host_factor: bool = key("multiply with the batch system's own host factor, and round down, as in 2012", default=False)
    valid_from: dt.date = key("first day (UTC) a job may end on", dt.date(1970, 1, 1), sample=dt.date(2026, 1, 1))
    valid_until: dt.date = key("first day (UTC) it is no longer valid", dt.date(9999, 1, 1))

    @model_validator(mode="after")
    def _consistent(self) -> Benchmark:
        place = BENCHMARKS.index(self.type)
        if earlier := [name for name in self.also if BENCHMARKS.index(name) <= place]:
            raise ValueError(
                f"a receiver that is told several benchmarks takes the first of {', '.join(BENCHMARKS)}: give that one as type "
                f"and value, and only later ones in also (not {earlier[0]} beside {self.type})"
            )
        if self.valid_until <= self.valid_from:
            raise ValueError("valid_until is not after valid_from: it would be valid on no day")
        return self


class VoRule(Section):
    """A job that matches every pattern given here belongs to `vo`; the first rule that matches decides."""

    vo: str = key("VO", sample="atlas", pattern=VO_NAME)
    group: str | None = key("local group (with * and ?)", None, sample="x_ATLAS")
    user: str | None = key("local account (with * and ?)", None)
    project: str | None = key("project, or account that is charged (with * and ?)", None)
    queue: str | None = key("queue (with * and ?)", None)
    fqan: str | None = key(
        "primary FQAN of a grid job (with * and ?), which belongs to vo then; a rule without it is for jobs of which no VO is told",
        None,
        sample="/VO=atlas/*",
    )
    publish_fqan: str | None = key(
        "FQAN that is published in place of one that fqan matches; default: /vo", None, pattern=r"^/[^;\s]+$", sample="/atlas"
    )

    @model_validator(mode="after")
    def _consistent(self) -> VoRule:
        if self.publish_fqan is not None and self.fqan is None:
            raise ValueError("publish_fqan is for a rule with fqan: a job without one is published as /local-<vo>")
        if self.fqan is not None and self.vo.lower().startswith(LOCAL):
            raise ValueError(
                f"a rule with fqan is for grid jobs, and {LOCAL} is what the names of local VOs begin with: take another vo"
            )
        return self


class TokenIssuer(Section):
    """Tokens that name no group belong to `vo`; the first entry whose issuer and subject match decides."""

    issuer: str = key("issuer of the token; a final / makes no difference", sample="https://atlas-auth.cern.ch/", min_length=1)
    subject: str = key("subject (with * and ?), where an issuer serves several VOs or a subject stands for a role", "*")
    vo: str = key("VO", sample="atlas", pattern=VO_NAME)
    fqan: str | None = key("FQAN that is published for it; default: /vo", None, pattern=r"^/[^;\s]+$")


class Person(Section):
    """One person or robot with several names: jobs of all of them are published under one."""

    name: str = key("GlobalUserName that is published", sample="/DC=ch/DC=cern/OU=Users/CN=alice", min_length=1)
    also: list[str] = key("other DNs, and tokens as issuer/subject", sample=["https://atlas-auth.cern.ch/7dee38a3"], min_length=1)


class Vo(Section):
    """The VO of jobs whose identity tells none; published as `/local-<vo>`, so that they differ from the grid's."""

    file: File | None = key("a `vos` file: local group, blanks, VO; rules below come first", None)
    default: str = key("VO of a local job that no rule matches", "nonlcg", pattern=VO_NAME)
    rule: list[VoRule] = key("rules, in order", [])
    issuer: list[TokenIssuer] = key("VOs of token issuers, in order", [])
