"""Where both the node daemon and BSD accounting tell of a host's processes, those of the daemon count, and none counts twice."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, FromClause, and_, func, not_, select

from batchacct.store.spans import ANYTIME, Span
from batchacct.store.tables import process

BSD_PARSER = "pacct/"
"""What the parser's label begins with in a row that was read from a file of BSD accounting."""


def is_bsd(rows: FromClause = process) -> ColumnElement[bool]:
    """Whether a row is of BSD accounting."""
    return rows.c.parser.startswith(BSD_PARSER, autoescape=True)


def counted_once(period: Span = ANYTIME, rows: FromClause = process) -> ColumnElement[bool]:
    """Whether a row of `rows` (`process` or an alias of it) counts among those that were logged in `period`.

    A row of BSD accounting does not where the daemon has rows of the same host in the period: a host is told of by the one or
    by the other, however many rows each has, as what only one of them saw cannot be told from what both saw.
    """
    told = process.alias("told_by_daemon")
    hosts = select(told.c.host).where(~is_bsd(told), period.has(told.c.logged_at))
    return not_(and_(is_bsd(rows), rows.c.host.in_(hosts)))


def hosts_of_both(connection: Connection, period: Span = ANYTIME) -> list[str]:
    """The hosts of which both tell in a period, so that those of BSD accounting were left out: to be told with the figures."""
    bsd = select(process.c.host).where(is_bsd(), period.has(process.c.logged_at)).distinct().subquery()
    others = select(process.c.host).where(~is_bsd(), period.has(process.c.logged_at))
    return sorted(connection.scalars(select(bsd.c.host).where(bsd.c.host.in_(others))))


def rows_left_out(connection: Connection, period: Span = ANYTIME) -> int:
    """How many rows of BSD accounting do not count in a period for that reason."""
    asked = select(func.count()).select_from(process).where(period.has(process.c.logged_at), not_(counted_once(period)))
    return connection.scalar(asked) or 0
