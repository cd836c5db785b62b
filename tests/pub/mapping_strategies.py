"""Random rules and benchmarks, of few values each, so that they meet."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

Settings = Mapping[str, Any]

ISSUER = "https://atlas-auth.cern.ch"
PILOT, ODD = "/atlas/Role=pilot", "/VO=cms/GROUP=/cms/[x]"

RULES: list[Settings] = [
    {"vo": "q", "queue": "grid_*"},
    {"vo": "both", "user": "al*", "queue": "short"},
    {"vo": "p", "project": "p?"},
    {"vo": "g", "group": "physics", "user": "bob"},
    {"vo": "cms", "fqan": "/VO=cms/*", "publish_fqan": "/cms/Role=x"},
    {"vo": "pilots", "fqan": "*pilot", "queue": "grid_a"},
    {"vo": "any", "fqan": "*[x]", "user": "bob", "project": "p1"},
    {"vo": "role", "fqan": "/atlas/Role=?????"},
]
ISSUERS: list[Settings] = [
    {"issuer": f"{ISSUER}/", "subject": "prod*", "vo": "atlas", "fqan": "/atlas/Role=production"},
    {"issuer": ISSUER, "vo": "atlas"},
]


def voms() -> st.SearchStrategy[Settings]:
    rules = st.lists(st.sampled_from(RULES), max_size=4, unique_by=lambda rule: rule["vo"])
    return st.fixed_dictionaries({"rule": rules, "issuer": st.lists(st.sampled_from(ISSUERS), max_size=2)})


ON = dt.date(2023, 11, 16)
BENCHMARKS: list[Settings] = [
    {"type": "HEPscore23", "value": 10.0},
    {"type": "HEPSPEC", "value": 8.0, "cluster": "c1"},
    {"type": "HEPscore23", "value": 11.0, "valid_from": ON, "also": {"Si2k": 2750.0, "HEPSPEC": 9.0}},
    {"type": "HEPscore23", "value": 12.0, "cluster": "c1", "valid_from": ON, "valid_until": dt.date(2023, 11, 18)},
    {"type": "HEPscore23", "value": 20.0, "hosts": ["node1*"]},
    {"type": "HEPscore23", "value": 21.0, "hosts": ["node1*", "node2?"]},
    {"type": "HEPscore23", "value": 22.0, "hosts": ["node2a"], "cluster": "c1"},
    {"type": "HEPscore23", "value": 23.0, "hosts": ["node[1]", "node1a"], "valid_from": ON},
    {"type": "Si2k", "value": 100.0, "cluster": "c2", "per_host_factor": True, "valid_from": dt.date(2023, 11, 15)},
    {"type": "HEPSPEC", "value": 1.5, "per_host_factor": True, "also": {"Si2k": 0.4}, "valid_from": dt.date(2023, 11, 17)},
]


def benchmarks(min_size: int = 0) -> st.SearchStrategy[list[Settings]]:
    return st.lists(st.sampled_from(BENCHMARKS), min_size=min_size, max_size=5, unique_by=BENCHMARKS.index)


HOSTS = st.sampled_from(
    [None, '["4*node1a"]', '["4*node1a"]', '["1*node2a"]', '["2*node1a","2*node2a"]', '["node1b","node1a"]', '["1*node[1]"]', "[]"]
)
FACTORS = st.sampled_from([None, 1.0, 2.7, 0.5, 0.001])
PROJECTS = st.sampled_from([None, "p1", "other"])


@st.composite
def told(draw: st.DrawFn) -> dict[str, object]:
    """What an identity tells of a VO: an FQAN, an odd one, or a token that names no group."""
    fqan = draw(st.sampled_from([PILOT, PILOT, ODD, None]))
    if fqan is not None:
        of_vo = (
            {"vo": "atlas", "vo_group": "/atlas", "vo_role": "Role=pilot"}
            if fqan == PILOT
            else {"vo": "VO=cms", "vo_group": "/VO=cms"}
        )
        return {
            "vo_role": None,
            **of_vo,
            "fqan": fqan,
            "fqans": f'["{fqan}","/atlas"]',
            "token_issuer": None,
            "token_subject": None,
        }
    token = {
        "token_issuer": draw(st.sampled_from([ISSUER, "https://other", None])),
        "token_subject": draw(st.sampled_from(["prod1", "x"])),
    }
    return {**dict.fromkeys(("fqan", "fqans", "vo", "vo_group", "vo_role")), **token}
