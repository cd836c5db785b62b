"""The files of one source: what is new in them goes into the store, look after look.

Each file that has changed is opened, known again by its content, and read on through that one handle, so that a name which
changes hands meanwhile is no danger. Files written to lately stay open: one that is renamed beyond the source's patterns, or
deleted, is drained through its handle. What is seen at a file's end and not read yet (an unfinished unit) is remembered; if the
file is gone and no other has its content, that much was lost, and is told.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from batchacct.collector.collecting import PARSE_THREADS, Collected, Collector, Progress, beginning, no_progress, noting_tails
from batchacct.collector.kept import KEPT_OPEN, KeptFile, KeptFiles
from batchacct.collector.pending import Pending
from batchacct.collector.quiet import Quiet
from batchacct.collector.state import SourceState
from batchacct.crashpoints import crash_point
from batchacct.errors import BatchacctError, CheckpointError, ParseError, SourceError
from batchacct.following import KnownPositions, Likeness, MovedOnError, OpenFile, Position, changed, locate_open, shorter_copy
from batchacct.following.files import (
    SLACK_S,
    Stamp,
    begins_another,
    nothing_there,
    old_siblings,
    stamp_of,
)
from batchacct.following.listing import Listing
from batchacct.following.position import may_begin_as
from batchacct.model import text_of
from batchacct.parsing.compressed import UndecodableError
from batchacct.parsing.framing import WholeFiles, unit_bytes
from batchacct.parsing.health import troubles
from batchacct.parsing.reading import BLOCK_BYTES, UpToError, read_blocks, source_errors
from batchacct.store import Origin, Store, append, known_positions, note_damage, note_offset, note_place

log = logging.getLogger(__name__)

COPY_S = 60
"""A file that looks like a copy being written is one no more after it has not changed for so long."""
UNFINISHED_S = 3600
"""The unfinished unit at the end of a rotated file is taken as it is once the file has not changed for so long."""
LIVE_S = 3600
"""A file written to within this time is kept open."""
RETRY_S = 30
"""A file that could not be parsed is tried again after so long, if it does not change before; a damaged one if it changes."""


class Follower:
    """`patience`: what is odd may be a copy still being written, and is waited for; without, there is one look and no other.

    `kept_open` files at most are kept open. `ticks` tells the time between two looks in seconds, and goes on evenly when the clock
    is set.
    """

    def __init__(
        self,
        store: Store,
        collector: Collector,
        clock: Callable[[], int],
        *,
        from_start: frozenset[str] = frozenset(),
        progress: Progress = no_progress,
        ticks: Callable[[], float] = time.monotonic,
        patience: bool = True,
        kept_open: int = KEPT_OPEN,
    ) -> None:
        self._store, self._collector, self._clock, self._ticks = store, collector, clock, ticks
        self._source, self._parser = collector.source, collector.parser
        self._from_start, self._progress, self._patience = set(from_start), progress, patience
        self._known: KnownPositions | None = None
        self._old: set[int] | None = None
        self._listing = Listing(collector.paths)
        self._settled: dict[str, Stamp] = {}
        self._quiet = Quiet(clock, ticks)
        self._failed: dict[str, tuple[Stamp | None, float, BatchacctError]] = {}
        self._warned: dict[str, str] = {}
        self._stopped = False
        self._kept = KeptFiles(kept_open)
        self._pending = Pending()
        self._state = SourceState(store, collector, logging.ERROR if patience else logging.INFO)

    # --- what a daemon asks -----------------------------------------------------------------------------------------------

    @property
    def folders(self) -> set[str]:
        """The folders whose changes matter, as of the last whole look."""
        return self._listing.folders

    @property
    def live(self) -> set[str]:
        """The files that were written to lately, or of which something is unread."""
        now = self._clock()
        return {p for p, s in self._listing.there.items() if s is None or p not in self._settled or now - s.modified_at < LIVE_S}

    def look(self, changed: Collection[str] | None = None) -> Collected:
        """Reads what is unread, oldest file first, into the store; `changed` are the only paths that may have changed (None: any).

        Raises: StoreError if the database fails: then look again later; what was not stored is still in its file.
        """
        done = Collected(self._source.name)
        began = self._clock()
        try:
            if self._known is None:
                self._remember()
            paths = None if changed is None or self._stopped or not self._listing.there else self._listing.those(changed)
            whole = paths is None
            paths = self._list() if paths is None else paths
            self._stopped = False
            if self._drain(done):
                self._look_at(paths, done)
            done.errors += [error for _, _, error in self._failed.values()]
            done.warnings += [*self._warned.values(), *troubles(self._parser, self._source, self._listing.there)]
            if whole and done.read_to_end:
                self._account_for_losses(done)
            at_end = began if whole and done.read_to_end else None
            self._state.note(done, at_end, now=self._clock(), ticks=self._ticks())
        except Exception:
            self._forget()
            raise
        return done

    def forget_positions(self) -> None:
        """Another process may have read the files meanwhile: how far they were read is asked of the store anew."""
        self._known = None
        self._state.forget()

    def close(self) -> None:
        """Closes what was kept open."""
        self._kept.close()

    # --- which files ------------------------------------------------------------------------------------------------------

    def _remember(self) -> None:
        positions = known_positions(self._store, self._source.name)
        self._known, self._pending = KnownPositions(positions), Pending(positions)
        if self._old is None:
            now = self._clock() + SLACK_S  # a later one is of before the clock was set back
            last = max((p.modified_at for p in positions if p.modified_at <= now), default=None)
            unfinished = {(p.device, p.inode) for p in positions if p.offset < p.size}
            self._old = old_siblings(self._collector.paths, last, unfinished)

    def _forget(self) -> None:
        """After a failure nobody knows what was committed: the positions are read anew, and every file is looked at again."""
        self._known = None
        self._settled.clear()

    def _list(self) -> list[str]:
        """All files that are there, in reading order."""
        paths = self._listing.renew(self._old or set())
        remembered: tuple[dict[str, Any], ...] = (self._settled, self._failed, self._warned)
        for by_path in remembered:
            for path in by_path.keys() - self._listing.there.keys():
                del by_path[path]
        self._quiet.keep_only(self._listing.there.keys())
        self._kept.forget_before(self._ticks() - LIVE_S)
        return paths

    def _look_at(self, paths: Collection[str], done: Collected) -> None:
        """Looks at files in turn; one that contradicts its position stops the source."""
        if not self._listing.there:
            done.errors.append(SourceError(nothing_there(self._collector.paths)))
        seen: set[tuple[int, int]] = set()
        for path in paths:
            stamp = self._listing.there[path]
            if stamp is not None:
                if stamp.place in seen:
                    self._failed.pop(path, None)
                    self._pending.leave(path)
                    continue
                seen.add(stamp.place)
                if self._settled.get(path) == stamp and path not in self._from_start:
                    continue
            failed = self._failed.get(path)
            if failed is not None and failed[0] == stamp and self._ticks() - failed[1] < _retry_s(failed[2]):
                continue
            try:
                self._look_at_one(path, stamp, done)
                self._failed.pop(path, None)
            except (CheckpointError, ParseError, SourceError) as error:
                self._failed[path] = (stamp, self._ticks(), error)
                if isinstance(error, CheckpointError):
                    self._stopped = True
                    return

    def _look_at_one(self, path: str, stamp: Stamp | None, done: Collected) -> None:
        if stamp is None and self._patience and self._listing.was_there(path) and self._quiet.seconds(path, None) < COPY_S:
            done.waiting.append(path)  # it is being rotated, as far as one knows
            return
        try:
            with source_errors(path):
                file = OpenFile(path, unit_bytes(self._parser.framing))
        except SourceError as error:
            if stamp is None or not isinstance(error.__cause__, FileNotFoundError):
                raise
            done.again = True  # it was renamed since it was listed
            return
        try:
            if stamp is None or file.place != stamp.place:
                done.again = True
                return
            self._look_into(file, stamp_of(file.state), done)
        finally:
            if not self._kept.holds(file):
                file.close()

    def _look_into(self, file: OpenFile, stamp: Stamp, done: Collected) -> None:
        path = file.path
        self._warned.pop(path, None)
        try:
            position, settled = self._read(file, stamp, done, final=file.is_compressed or self._is_complete(path, stamp))
        except SourceError:
            if file.is_compressed and self._patience and self._quiet.seconds(path, stamp) < COPY_S:
                done.waiting.append(path)
                return
            raise
        if settled:
            self._settled[path] = stamp
        if position is None:
            return
        done.files += 1
        if file.head and position.offset == file.begin:
            done.held.append(path)
        self._pending.note(path, position, position.offset if file.is_compressed else stamp.size, file.head)
        if not file.is_compressed and (self._clock() - stamp.modified_at < LIVE_S or position.offset < stamp.size):
            self._kept.keep(file, position, stamp.size, self._ticks())

    def _is_complete(self, path: str, stamp: Stamp) -> bool:
        """Whether what is at the end of a file will get no other end."""
        if self._is_written_aside:
            return True
        if not self._listing.has_newer(path):
            return False
        quiet_s = self._quiet.turned_seconds(path, stamp) if self._patience else self._quiet.seconds(path, stamp)
        return quiet_s >= UNFINISHED_S

    @property
    def _is_written_aside(self) -> bool:
        """Whether files are complete as soon as they are there. (There may be a million, and none is ever seen half copied.)"""
        framing = self._parser.framing
        return isinstance(framing, WholeFiles) and framing.files_are_complete

    # --- reading ----------------------------------------------------------------------------------------------------------

    def _read(self, file: OpenFile, stamp: Stamp, done: Collected, *, final: bool) -> tuple[Position | None, bool]:
        """Reads a file on; its position then (None: it was not read), and whether it need not be looked at until it changes."""
        assert self._known is not None
        begun_anew = file.path in self._from_start
        found = locate_open(self._source.name, file, KnownPositions() if begun_anew else self._known)
        if found.likeness in (Likeness.SHORTER, Likeness.CHANGED):
            return None, self._contradicts(found.position, found.likeness, file, stamp, done)
        if found.likeness is Likeness.PART and not begun_anew:
            return replace(found.position, offset=stamp.size), True
        is_young = self._quiet.seconds(file.path, stamp) < COPY_S
        if found.likeness is Likeness.NEW and is_young and begins_another(file, self._listing.recent):
            done.waiting.append(file.path)
            return None, False
        crash_point("follow.located")
        position = found.position
        final = final and (file.is_compressed or not self._goes_on_elsewhere(file, position, stamp))
        if found.likeness is Likeness.MENDED:
            note_offset(self._store, self._known, position)
        stream = file.from_(position.offset, found.before)
        blocks = UpToError(read_blocks(stream, self._parser.framing, offset=position.offset, final=final))
        tails: dict[int, bytes] = {}
        much = file.is_compressed or stamp.size - position.offset > BLOCK_BYTES
        workers = PARSE_THREADS if much else 1
        read_on = False
        crash_point("follow.before-parse")
        try:
            marked = noting_tails(blocks, tails, found.before)
            for parsed in self._parser.parse(marked, beginning(self._source, file.head), workers=workers):
                crash_point("follow.after-parse")
                moved = position.moved(parsed.end_offset, file.head, tails.pop(parsed.end_offset), begin=file.begin)
                moved = replace(moved, head=b"") if self._is_written_aside else moved
                origin = Origin(self._source.name, self._parser.record_type.name, self._parser.label, position.path, position)
                counts, stored = append(self._store, origin, parsed, self._clock(), moved)
                assert stored is not None
                self._known.put(stored)
                self._from_start.discard(file.path)
                if position.id is None:
                    log.info("source=%s begins %s", self._source.name, position.path)
                crash_point("follow.after-append")
                count, position, read_on = parsed.end_offset - position.offset, stored, True
                done.bytes_read += count
                done.add(counts)
                self._progress(count)
            blocks.check()
        except MovedOnError:
            done.again = True
            if read_on:
                self._pending.note(file.path, position, stamp.size, file.head)
            return None, False
        except SourceError as error:
            note_damage(self._store, self._known, position, error)
            raise
        self._from_start.discard(file.path)
        if not read_on:
            position = self._placed(position)
        return position, file.is_compressed or position.offset >= stamp.size

    def _goes_on_elsewhere(self, file: OpenFile, position: Position, stamp: Stamp) -> bool:
        """Whether another file has all of this one and more: the rest of the unit at its end is there."""
        others = (self._listing.there.get(path) for path in self._pending.also_at(file.path, position))
        return any(s is not None and s.size > stamp.size for s in others) or begins_another(file, self._listing.recent)

    def _placed(self, position: Position) -> Position:
        """Notes where a file is of which nothing new was read; a copy changes nothing, while its original is where it was."""
        assert self._known is not None
        old = self._known.numbered(position.id)
        if old is None or old == position:
            return position
        was_at = (old.device, old.inode)
        there = [path for path, stamp in self._listing.there.items() if stamp is not None and stamp.place == was_at]
        there = [path for path in there if self._pending.may_be_at(path, old)]
        beginning_of_old = old.head_length, old.head_hash, unit_bytes(self._parser.framing)
        if was_at != (position.device, position.inode) and any(may_begin_as(path, *beginning_of_old) for path in there):
            return old
        note_place(self._store, position)
        self._known.put(position)
        return position

    def _contradicts(self, known: Position, likeness: Likeness, file: OpenFile, stamp: Stamp, done: Collected) -> bool:
        """A file that is a known one only as far as it begins; whether it need not be looked at until it changes.

        Raises: CheckpointError where it is no copy still being written, nor one made shortly before its original was read on.
        """
        if self._kept.holds(file):
            if likeness is Likeness.CHANGED:
                log.warning("source=%s %s", self._source.name, changed(self._source.name, file.path, known).message)
                self._kept.drop(file.place)  # nobody could mend what has no name any more
            return True  # else what has its name has its content, and more
        in_place = file.place == (known.device, known.inode)
        if not in_place and self._quiet.seconds(file.path, stamp) < COPY_S:
            done.waiting.append(file.path)
            return False
        if in_place or likeness is Likeness.CHANGED or known.path == text_of(os.fsencode(file.path)):
            raise changed(self._source.name, file.path, known)
        self._warned[file.path] = shorter_copy(file.path, stamp.size, known)
        return True

    # --- what is no longer where it was ------------------------------------------------------------------------------------

    def _drain(self, done: Collected) -> bool:
        """Reads on what was kept open and is under no name any more that is looked at; False if that stops the source."""
        for kept in self._kept.without_name(self._listing.places):
            try:
                self._drain_one(kept, done)
            except CheckpointError as error:
                done.errors.append(error)
                self._stopped = True
                return False
            except (ParseError, SourceError) as error:
                log.warning("source=%s %s", self._source.name, error.message)
                self._kept.drop(kept.file.place)
        return True

    def _drain_one(self, kept: KeptFile, done: Collected) -> None:
        kept.file.refresh()
        stamp = stamp_of(kept.file.state)
        if stamp.size != kept.size or kept.has_name:
            kept.size, kept.has_name, kept.changed_at = stamp.size, False, self._ticks()
        is_deleted = kept.file.state.st_nlink == 0
        is_over = self._ticks() - kept.changed_at >= (COPY_S if is_deleted else UNFINISHED_S)
        assert self._known is not None
        offset, goes_on = kept.elsewhere(self._known, self._listing.there)
        if stamp.size > offset:
            position, _ = self._read(kept.file, stamp, done, final=is_over and not goes_on)
            if position is not None:
                kept.position = position
                self._pending.note(None, position, stamp.size, kept.file.head)
        if is_over:
            self._kept.drop(kept.file.place)

    def _account_for_losses(self, done: Collected) -> None:
        """Counts what was seen, not read, and is nowhere any more."""
        patience_s = COPY_S if self._patience else 0
        present = [kept.position for kept in self._kept]
        for position, size in self._pending.lost(self._listing.there, present, self._ticks(), patience_s):
            count = size - position.offset
            done.lost_bytes += count
            told = (
                "source=%s %d bytes of %s from byte %d on were destroyed before they could be read: no file of the source has them"
            )
            log.error(told, self._source.name, count, position.path, position.offset)
            note_place(self._store, replace(position, size=position.offset))


def _retry_s(error: BatchacctError) -> float:
    if isinstance(error.__cause__, UndecodableError):
        return math.inf
    return 0 if isinstance(error, CheckpointError) else RETRY_S
