"""Reading what is there, once: the files of a source, or the answers of its feed."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

from batchacct.collector.collecting import PARSE_THREADS, Collected, Collector, Progress, no_progress
from batchacct.collector.follower import Follower
from batchacct.errors import CheckpointError, ParseError, SourceError
from batchacct.feeding import Feed
from batchacct.parsing.reading import read_blocks
from batchacct.store import Origin, Store, append, note_state, store_cursor, stored_cursor

log = logging.getLogger(__name__)

MOST_LOOKS = 5
"""Files that are rotated while they are looked at are looked at again, so often at the most."""


def collect_once(
    store: Store,
    collector: Collector,
    clock: Callable[[], int],
    *,
    from_start: frozenset[str] = frozenset(),
    progress: Progress = no_progress,
) -> Collected:
    """Reads what is there in every file of a source, oldest file first, and ends.

    A file that cannot be read is told in `errors` and does not keep the others from being read; one that contradicts its position
    stops the source. Only if there are files, and all were read to their ends, does the source count as read to its end: until
    then jobs wait for the identities it may bring.
    Raises: StoreError if the database fails.
    """
    if collector.feed is not None:
        return ask(store, collector, collector.feed, clock, progress=progress)
    with contextlib.closing(
        Follower(store, collector, clock, from_start=from_start, progress=progress, patience=False)
    ) as follower:
        done = follower.look()
        for _ in range(MOST_LOOKS):
            if not done.again:
                break
            done = done.followed_by(follower.look())
        return done


def ask(store: Store, collector: Collector, feed: Feed, clock: Callable[[], int], *, progress: Progress = no_progress) -> Collected:
    """Stores every answer of a feed, and the cursor behind each once the whole of it is stored.

    Raises: StoreError if the database fails.
    """
    parser, source = collector.parser, collector.source
    done = Collected(source.name)
    began = clock()
    try:
        for answer in feed.ask(stored_cursor(store, source.name), clock()):
            origin = Origin(source.name, parser.record_type.name, parser.label, answer.question, asked=True)
            with answer.opened as stream:
                for parsed in parser.parse(read_blocks(stream, parser.framing), source, workers=PARSE_THREADS):
                    counts, _ = append(store, origin, parsed, clock())
                    done.bytes_read += parsed.end_offset - parsed.start_offset
                    done.add(counts)
                    progress(parsed.end_offset - parsed.start_offset)
            store_cursor(store, source.name, answer.cursor, clock())
            done.files += 1
    except (CheckpointError, ParseError, SourceError) as error:
        done.errors.append(error)
    state: dict[str, object] = {"record_type": parser.record_type.name}
    if done.errors:
        state |= {"last_error": done.errors[-1].message, "last_error_at": began}
    else:
        state |= {"read_to_end_at": began, "last_error": None}
    note_state(store, source.name, state)
    return done
