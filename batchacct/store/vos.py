"""The VO of a job, from the tables: what its identity tells, else what the rules say of it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, FromClause, and_, case, func, or_

from batchacct.config_mapping import LOCAL
from batchacct.store.tables import identity, usage, vo_mapping

DEFAULT_RULE = "default"
"""What `vo_mapping.rule` says where no rule fits, and the VO is `[vo] default`."""


def is_grid_rule(mapping: FromClause) -> ColumnElement[bool]:
    """Whether a rule for grid jobs decided, one for tokens or for FQANs: such a VO goes before what the identity tells."""
    return ~mapping.c.vo.startswith(LOCAL, autoescape=True)


def vo_of(who: FromClause, mapping: FromClause) -> ColumnElement[Any]:
    """The VO of a job with these rows of `identity` and `vo_mapping`, of which either may be missing."""
    return case((is_grid_rule(mapping), mapping.c.vo), else_=func.coalesce(who.c.vo, mapping.c.vo))


IS_GRID_RULE = is_grid_rule(vo_mapping)
VO = vo_of(identity, vo_mapping)
IS_MAPPED = or_(and_(identity.c.vo.is_(None), identity.c.fqan.is_(None)), IS_GRID_RULE)
"""Whether the VO of a job is that of its mapping, and so is the FQAN."""
IS_UNMAPPED = and_(usage.c.outcome == "local", vo_mapping.c.rule == DEFAULT_RULE)
"""Whether no rule fits a local job."""
