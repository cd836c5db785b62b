"""Where several sources tell of a host's processes, the best of those that tell of a day counts, and nothing counts twice.

The day is that of the end, UTC, and the rule is the same whatever period is asked about: so the days of a month come to the month.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, FromClause, Select, and_, func, not_, or_, select, tuple_

from batchacct.store.spans import ANYTIME, DAY, Span
from batchacct.store.tables import process

BSD_PARSER = "pacct/"
"""What the parser's label begins with in a row that was read from a file of BSD accounting."""
DAEMON_PARSER = "procs/"
"""The same of a row of the node daemon."""


def is_bsd(rows: FromClause = process) -> ColumnElement[bool]:
    """Whether a row is of BSD accounting."""
    return rows.c.parser.startswith(BSD_PARSER, autoescape=True)


def is_daemon(rows: FromClause = process) -> ColumnElement[bool]:
    """Whether a row is of the node daemon."""
    return rows.c.parser.startswith(DAEMON_PARSER, autoescape=True)


def is_program(rows: FromClause = process) -> ColumnElement[bool]:
    """Whether a row is in force, and tells of a process."""
    return and_(rows.c.superseded_by.is_(None), rows.c.kind != "gap")


def counted_once(period: Span = ANYTIME, rows: FromClause = process) -> ColumnElement[bool]:
    """Whether a row of `rows` (`process` or an alias of it) counts among those that were logged in `period`.

    Of a host and day the rows of the node daemon count; where it has none those of BSD accounting; where there are none of these
    either, all others. What only one source saw cannot be told from what several saw, however many rows each has.
    `period` bounds where the database looks, and is widened to whole days.
    """
    told = process.alias("told_better")
    days = Span(
        None if period.first is None else period.first // DAY * DAY,
        None if period.last is None else period.last // DAY * DAY + DAY - 1,
    )
    host_day = tuple_(rows.c.host, rows.c.logged_at // DAY)
    by_daemon, by_either = _told(told, days, is_daemon(told)), _told(told, days, or_(is_daemon(told), is_bsd(told)))
    other = not_(or_(is_daemon(rows), is_bsd(rows)))
    return not_(or_(and_(is_bsd(rows), host_day.in_(by_daemon)), and_(other, host_day.in_(by_either))))


def _told(told: FromClause, days: Span, which: ColumnElement[bool]) -> Select[tuple[str, int]]:
    """The hosts and days of some sources' rows.

    PostgreSQL hashes them only if it expects few, and expects far too many of the rows themselves; of the distinct columns of
    an inner query it expects few.
    """
    grouped = (
        select(told.c.host, (told.c.logged_at // DAY).label("day")).where(which, is_program(told), days.has(told.c.logged_at))
    ).subquery("told_days")
    by_day = select(grouped.c.host, grouped.c.day).group_by(grouped.c.host, grouped.c.day).subquery("days_of_hosts")
    return select(by_day.c.host, by_day.c.day).distinct()


def hosts_of_several(connection: Connection, period: Span = ANYTIME) -> list[str]:
    """The hosts of which rows were left out in a period, as a better source tells of the same day: to be told with the figures."""
    asked = select(process.c.host).where(is_program(), period.has(process.c.logged_at), not_(counted_once(period)))
    return sorted(connection.scalars(asked.distinct()))


def rows_left_out(connection: Connection, period: Span = ANYTIME) -> int:
    """How many rows do not count in a period for that reason."""
    asked = select(func.count()).select_from(process)
    asked = asked.where(is_program(), period.has(process.c.logged_at), not_(counted_once(period)))
    return connection.scalar(asked) or 0
