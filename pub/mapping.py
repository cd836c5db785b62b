"""What the rules are asked for the VOs of a step's jobs, and where the answers stand in the ledger.

An answer is a row of `vo_mapping`, one for whatever differs in what is asked: account and token always, the queue only where a rule
asks for it, and an FQAN only if the pattern of a rule matches it. So there are as many rows as accounts, and no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, FromClause, and_, case, func, insert, select

from batchacct.store.columns import hash_of
from batchacct.store.tables import identity, vo_mapping
from pub.scratch import todo
from pub.vo_map import Asked, VoMap, patterns_matching

_COLUMNS = ("user_name", "group_name", "project", "issuer", "subject", "queue", "asked_fqan")
"""Of `vo_mapping`, in the order of `Asked`."""

Questions = Mapping[str, ColumnElement[str]]
"""What is asked of each job of `todo` with its identity, by column of `vo_mapping`; what no rule asks for is not among it."""


def questions(connection: Connection, rules: VoMap, found: FromClause) -> Questions:
    """What the VO of the jobs that are found, `todo` with its identities, can follow from."""
    asked: dict[str, ColumnElement[str]] = {
        name: func.coalesce(todo.c[name], "") for name in ("user_name", "group_name", "project")
    }
    asked |= {"issuer": _token(identity.c.token_issuer), "subject": _token(identity.c.token_subject)}
    if rules.asks_queue:
        asked["queue"] = func.coalesce(todo.c.queue, "")
    if rules.fqan_patterns:
        told = select(identity.c.fqan).select_from(found).where(identity.c.fqan.is_not(None), identity.c.fqan != "").distinct()
        odd = patterns_matching(connection.scalars(told), rules.fqan_patterns)
        if odd:
            asked["asked_fqan"] = case((identity.c.fqan.in_(sorted(odd)), identity.c.fqan), else_="")
    return asked


def _token(column: Column[str]) -> ColumnElement[str]:
    """A token's issuer or subject, where nothing better tells the VO; else empty."""
    return case((and_(identity.c.vo.is_(None), identity.c.fqan.is_(None)), func.coalesce(column, "")), else_="")


def is_answer(rules: VoMap, asked: Questions) -> ColumnElement[bool]:
    """Whether a row of `vo_mapping` is the answer to what is asked of a job."""
    stored: dict[str, ColumnElement[str]] = {name: vo_mapping.c[name] for name in _COLUMNS}
    stored["asked_fqan"] = func.coalesce(vo_mapping.c.asked_fqan, "")
    same = (stored[name] == asked[name] if name in asked else vo_mapping.c[name].is_(None) for name in _COLUMNS)
    return and_(vo_mapping.c.rules_hash == rules.rules_hash, *same)


def store_mappings(connection: Connection, rules: VoMap, asked: Questions, found: FromClause) -> None:
    """Writes the answers that are not there yet under these rules."""
    names = [name for name in _COLUMNS if name in asked]
    rows = connection.execute(select(*(asked[name] for name in names)).select_from(found).distinct())
    wanted = {_asked(dict(zip(names, row, strict=True))) for row in rows}
    stored = select(*(vo_mapping.c[name] for name in _COLUMNS)).where(vo_mapping.c.rules_hash == rules.rules_hash)
    known = {_asked(dict(zip(_COLUMNS, row, strict=True))) for row in connection.execute(stored)}
    answers = [_row(rules, one) for one in sorted(wanted - known)]
    if answers:
        connection.execute(insert(vo_mapping), answers)


def _asked(values: Mapping[str, Any]) -> Asked:
    return Asked(*(values.get(name) or "" for name in _COLUMNS))


def _row(rules: VoMap, asked: Asked) -> dict[str, str | None]:
    texts: dict[str, str | None] = dict(zip(_COLUMNS, asked, strict=True))
    texts |= {"queue": asked.queue if rules.asks_queue else None, "asked_fqan": asked.fqan or None}
    row: dict[str, str | None] = {"rules_hash": rules.rules_hash, **texts, "asked_hash": hash_of(rules.rules_hash, *asked)}
    return row | rules.answer(asked)._asdict()
