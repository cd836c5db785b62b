"""The reference for VOs and benchmarks: what docs/explanation/mapping.md and benchmarks.md say, for one job after the other."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, object]
Settings = Mapping[str, Any]


def glob(pattern: str, text: object) -> bool:
    """`*` is anything, `?` one character, all else itself."""
    parts = [".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern]
    return isinstance(text, str) and text != "" and re.fullmatch("".join(parts), text, re.DOTALL) is not None


def vo_of(run: Row, who: Row | None, vo: Settings) -> tuple[str, str, bool]:
    """VO and FQAN as published, and whether they are of the grid."""
    if who is not None and who["fqan"] is not None:
        for rule in vo.get("rule", ()):
            if "fqan" in rule and matches(rule, run) and glob(rule["fqan"], who["fqan"]):
                return rule["vo"], rule.get("publish_fqan", f"/{rule['vo']}"), True
        return str(who["vo"]), ";".join(json.loads(str(who["fqans"]))), True
    if who is not None:
        for issuer in vo.get("issuer", ()):
            same = str(who["token_issuer"]).rstrip("/") == issuer["issuer"].rstrip("/")
            if same and glob(issuer.get("subject", "*"), who["token_subject"]):
                return issuer["vo"], issuer.get("fqan", f"/{issuer['vo']}"), True
    for rule in vo.get("rule", ()):
        if "fqan" not in rule and matches(rule, run):
            return f"local-{rule['vo']}", f"/local-{rule['vo']}", False
    return "local-nonlcg", "/local-nonlcg", False


def matches(rule: Settings, run: Row) -> bool:
    columns = {"user": "user_name", "group": "group_name", "project": "project", "queue": "queue"}
    return all(glob(rule[key], run[column]) for key, column in columns.items() if key in rule)


def benchmark_of(run: Row, benchmarks: Sequence[Settings]) -> dict[str, float] | None:
    """Figures of one core by name, the job's own benchmark first; None if there is none."""
    fitting = [one for one in benchmarks if fits(one, run)]
    if not fitting:
        return None
    chosen = fitting[0]
    for one in fitting[1:]:
        if goes_before(one, chosen):
            chosen = one
    figures = {chosen["type"]: chosen["value"], **{n: chosen["also"][n] for n in NAMES if n in chosen.get("also", {})}}
    if not chosen.get("per_host_factor"):
        return figures
    whole = {name: float(math.floor(value * factor_of(run))) for name, value in figures.items()}
    return {name: value for name, value in whole.items() if value > 0}


NAMES = ("HEPscore23", "HEPSPEC", "Si2k")


def factor_of(run: Row) -> float:
    factor = run["host_factor"]
    assert isinstance(factor, float)
    return factor


def fits(one: Settings, run: Row) -> bool:
    end_at = run["end_at"]
    assert isinstance(end_at, int)
    day = dt.datetime.fromtimestamp(end_at, dt.UTC).date()
    if day < one.get("valid_from", dt.date.min) or day >= one.get("valid_until", dt.date.max):
        return False
    if one.get("cluster", "*") not in ("*", run["cluster"]):
        return False
    if one.get("per_host_factor") and (run["host_factor"] is None or one["value"] * factor_of(run) < 1):
        return False
    if "hosts" not in one:
        return True
    hosts = [re.sub(r"^\d+\*", "", host) for host in json.loads(str(run["exec_hosts"] or "[]"))]
    return bool(hosts) and all(any(glob(pattern, host) for pattern in one["hosts"]) for host in hosts)


def goes_before(one: Settings, other: Settings) -> bool:
    """Of some hosts, of the cluster, the newer, the lower: the first in which they differ decides."""
    for better in (
        lambda b: "hosts" in b,
        lambda b: b.get("cluster", "*") != "*",
        lambda b: b.get("valid_from", dt.date.min),
        lambda b: -b["value"],
    ):
        if better(one) != better(other):
            return bool(better(one) > better(other))
    return False
