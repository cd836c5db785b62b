"""`db recall`: a month back in the database, as if it had never been archived: its logs can be read again."""

from __future__ import annotations

import logging

from sqlalchemy import delete

from batchacct.archive.holdings import Archived, archived, batches_of, recalled_ids, without_ids
from batchacct.archive.layout import verify
from batchacct.archive.leftovers import locked, note_leftover, require, require_in_force, tidy, unless_overtaken
from batchacct.archive.months import month_name
from batchacct.archive.recalling import bring_back
from batchacct.config import Config
from batchacct.crashpoints import crash_point
from batchacct.errors import ArchiveError, ConfigError
from batchacct.model import RECORD_TYPES
from batchacct.store import HeldLocks, Store
from batchacct.store.tables import archived_month, recalled

log = logging.getLogger(__name__)


def recall_month(store: Store, config: Config, month: int, now: int) -> dict[str, int]:
    """Puts a month back; how many records of which type that were. Each type is one step, and a repetition does what is left.

    Raises: ConfigError if nothing of the month is archived, ArchiveError if it was purged, or its file is missing or damaged.
    """
    with locked(store) as locks:
        tidy(store, config.archive.path, now)
        with store.reading() as connection:
            found = [m for kind in RECORD_TYPES.values() for m in archived(connection, kind) if m.month == month]
        if not found:
            raise ConfigError(f"nothing of {month_name(month)} is archived: `batchacct db archive --list` shows what is")
        for one in found:
            if one.anonymised_at is not None:
                raise ArchiveError(
                    f"names were taken out of {month_name(month)}, as [retention] personal_data says: it cannot come back, as "
                    "reading its logs again would bring them back, too"
                )
            if any(one.purged):
                raise ArchiveError(f"{month_name(month)} was purged, as [retention] archive_for says: it cannot come back")
            if one.file is not None:
                with unless_overtaken(locks):
                    verify(one.file, one.manifest, one.record_type.time_column)
        # Identities before jobs, which would look for theirs one by one.
        return {one.record_type.name: _recall(store, one, locks) for one in reversed(found)}


def _recall(store: Store, month: Archived, locks: HeldLocks) -> int:
    """One type of a month, in one transaction."""
    count = 0
    with store.appending() as connection:
        require(locks)
        require_in_force(connection, month.record_type, month.month, month)
        back = recalled_ids(connection, month.record_type, month.month)
        for batch in batches_of(month, ["id"]):
            ids: list[int] = without_ids(batch, back).column("id").to_numpy().tolist()
            count += len(bring_back(connection, month, ids))
        if count + len(back) != month.sums.rows:
            raise ArchiveError(f"archive file {month.file}: of {month.sums.rows:,} records {count + len(back):,} came back")
        for table in (archived_month, recalled):
            of_month = (table.c.record_type == month.record_type.name, table.c.month == month.month)
            connection.execute(delete(table).where(*of_month))
        if month.file is not None:
            note_leftover(connection, month.record_type, month.month, month.file.name)
        require(locks)
        crash_point("recall.before-commit")
    return count
