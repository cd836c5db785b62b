"""Waiting for files to change: by inotify where the kernel sees every change, else by looking again and again.

What is reported may be more than happened, never less, as long as the follower goes in rounds: look at the files, call `follow`
with their folders, `wait`. A folder that is watched anew makes the next `wait` end at once, since nobody saw what changed
between the look and the watch.

The kernel does not tell of a path that leads elsewhere than it did, because a folder above it was renamed, a link switched, or
something mounted over it: that is looked for every few seconds. Nothing tells of what is written to the target of a symbolic
link that lies in another folder: the follower names that folder, too.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import select
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from typing import Literal, Self

from inotify_simple import INotify, flags

from batchacct.following.file_systems import kind_of, sees_every_change

log = logging.getLogger(__name__)

CHECK_S = 5.0
"""Time between two checks that watched paths still lead where they did."""
DOUBTFUL_S = 60.0
"""Time between two full looks at folders that are watched because the configuration says so, but where not all is seen."""

_WRITTEN = flags.MODIFY | flags.CLOSE_WRITE
_GONE = flags.DELETE_SELF | flags.MOVE_SELF | flags.UNMOUNT | flags.IGNORED
_OTHER = flags.ATTRIB | flags.CREATE | flags.DELETE | flags.MOVED_FROM | flags.MOVED_TO | flags.DELETE_SELF | flags.MOVE_SELF
_LIMITS = {
    errno.EMFILE: "inotify instances, or of open files: raise fs.inotify.max_user_instances by sysctl, or LimitNOFILE= of the unit",
    errno.ENOSPC: "inotify watches: raise fs.inotify.max_user_watches by sysctl",
}
_Place = tuple[int, int]
"""Device and inode of a folder."""


class Watch:
    """The folders of one source. One thread follows and waits; any thread may wake it. A context manager.

    `how`: "auto" watches folders on file systems where inotify sees every change, and polls the others; "inotify" watches
    whatever can be watched, with a full look every minute where not every change is seen; "poll" polls all of them.
    Raises: OSError if the process can open no more files.
    """

    def __init__(self, how: Literal["auto", "inotify", "poll"], poll_interval_s: float) -> None:
        self._how = how
        self._poll_interval_s = poll_interval_s
        self._inotify: INotify | None = None
        self._watched: dict[str, tuple[int, _Place]] = {}
        self._folders_of: dict[int, list[str]] = {}
        self._polled: tuple[str, ...] = ()
        self._doubtful: set[str] = set()
        self._told: set[tuple[object, ...]] = set()
        self._is_due = False
        self._tick_at: float | None = None
        self._check_at = 0.0
        self._lock = threading.Lock()
        self._is_closed = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)

    @property
    def polled(self) -> tuple[str, ...]:
        """The folders that are polled, whether by choice, for their file system, or because they cannot be watched."""
        return self._polled

    def follow(self, folders: Collection[str]) -> None:
        """Takes exactly these folders from now on; "" is the current one. To be called after each full look.

        Those that cannot be watched, as they are not there, are polled; each call tries them again.
        """
        before = {*self._watched, *self._polled}
        for folder in self._watched.keys() - set(folders):
            self._unwatch(folder)
        polled = []
        for folder in dict.fromkeys(folders):
            if folder not in self._watched and not self._watch(folder):
                polled.append(folder)
                self._is_due |= folder not in before
        self._polled = tuple(polled)

    def wait(self, timeout_s: float) -> frozenset[str] | None:
        """Waits until something changed, at most so long.

        Returns the paths that were written to, each its folder as given, "/" and its name: none, if nothing happened or it was
        woken. None: anything may have changed (created, renamed, deleted, other permissions; events were lost, a folder
        went away, a polled folder's time has come), so that everything is to be looked at.
        """
        deadline = time.monotonic() + timeout_s
        if self._tick_at is None:
            self._tick_at = time.monotonic() + self._look_every_s()
        while True:
            now = time.monotonic()
            if self._is_due or now >= self._tick_at or self._leads_elsewhere(now):
                changed, is_woken = None, False
            else:
                changed, is_woken = self._next(min(deadline, self._tick_at, self._check_at) - now)
            if changed is None:
                self._is_due, self._tick_at = False, None
                return None
            if changed or is_woken or deadline <= time.monotonic() < self._tick_at:
                return changed

    def wake(self) -> None:
        """Ends the wait of the other thread at once, or its next one; harmless after `close`."""
        with self._lock:
            if not self._is_closed:
                os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Gives everything back. By the thread that waits, or after it has ended."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                os.close(self._wake)
        if self._inotify is not None:
            self._inotify.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _look_every_s(self) -> float:
        return self._poll_interval_s if self._polled else DOUBTFUL_S if self._doubtful else math.inf

    def _next(self, timeout_s: float) -> tuple[frozenset[str] | None, bool]:
        """What the kernel tells within this time, as in `wait`, and whether somebody woke it."""
        milliseconds = math.ceil(min(max(timeout_s, 0.0), 3600.0) * 1000)
        ready = {handle for handle, _ in self._poll.poll(milliseconds)}
        is_woken = self._wake in ready
        if is_woken:
            os.eventfd_read(self._wake)
        if not ready - {self._wake} or self._inotify is None:
            return frozenset(), is_woken
        return self._changed(self._inotify.read(timeout=0)), is_woken

    def _changed(self, events: Iterable[tuple[int, int, int, str]]) -> frozenset[str] | None:
        """What these events mean; those of watches that were taken back are of no concern."""
        paths: set[str] = set()
        is_anything = False
        for watch, mask, _, name in events:
            folders = self._folders_of.get(watch)
            if mask & flags.Q_OVERFLOW:
                log.info("more happened than the kernel keeps events of: everything is looked at")
                is_anything = True
            elif folders is None:
                continue
            elif mask & _GONE:
                self._lose(folders)
                is_anything = True
            elif name and mask & _WRITTEN:
                paths.update(os.path.join(folder, name) for folder in folders)  # noqa: PTH118 - Path would spell "./a" anew
            else:
                is_anything = True
        return None if is_anything else frozenset(paths)

    def _leads_elsewhere(self, now: float) -> bool:
        """Every few seconds: whether a watched path leads to another folder by now, or to none. It is polled, then."""
        if now < self._check_at:
            return False
        self._check_at = now + CHECK_S
        strange = [folder for folder, (_, place) in self._watched.items() if _place_of(folder) != place]
        self._lose(strange)
        return bool(strange)

    def _watch(self, folder: str) -> bool:
        """Watches a folder, if it should and can be."""
        if self._how == "poll":
            return False
        try:
            with _opened(folder) as handle:
                return self._watch_opened(folder, handle)
        except OSError as error:
            self._tell_refused(folder, error)
            return False

    def _watch_opened(self, folder: str, handle: int) -> bool:
        kind = kind_of(handle)
        is_doubtful = not sees_every_change(kind)
        if is_doubtful and self._how == "auto":
            self._tell_once(logging.INFO, "folder=%s is polled: on %s not every change is seen", folder, kind)
            return False
        state = os.fstat(handle)
        watch = self._instance().add_watch(f"/proc/self/fd/{handle}", _WRITTEN | _OTHER | flags.ONLYDIR)
        self._watched[folder] = watch, (state.st_dev, state.st_ino)
        self._folders_of.setdefault(watch, []).append(folder)
        self._is_due = True
        if is_doubtful:
            self._doubtful.add(folder)
            told = "folder=%s is watched as configured: on %s what other hosts write is seen late"
            self._tell_once(logging.WARNING, told, folder, kind)
        return True

    def _instance(self) -> INotify:
        if self._inotify is None:
            self._inotify = INotify(nonblocking=True)
            self._poll.register(self._inotify.fileno(), select.POLLIN)
        return self._inotify

    def _unwatch(self, folder: str) -> None:
        watch, _ = self._watched.pop(folder)
        self._doubtful.discard(folder)
        self._folders_of[watch].remove(folder)
        if not self._folders_of[watch]:
            del self._folders_of[watch]
            assert self._inotify is not None
            with contextlib.suppress(OSError):  # the kernel took it back itself, with the folder
                self._inotify.rm_watch(watch)

    def _lose(self, folders: Iterable[str]) -> None:
        """Polls folders that were watched, until `follow` can watch what is there by then."""
        for folder in tuple(folders):
            self._unwatch(folder)
            self._polled += (folder,)

    def _tell_refused(self, folder: str, error: OSError) -> None:
        if error.errno in _LIMITS:
            self._tell_once(logging.WARNING, "folders are polled: the limit is reached of %s", _LIMITS[error.errno])
        else:
            level = logging.WARNING if self._how == "inotify" else logging.INFO
            self._tell_once(level, "folder=%s is polled: it cannot be watched: %s", folder, error.strerror)

    def _tell_once(self, level: int, message: str, *arguments: object) -> None:
        if (message, arguments) not in self._told:
            self._told.add((message, arguments))
            log.log(level, message, *arguments)


def _place_of(folder: str) -> _Place | None:
    try:
        state = os.stat(folder or ".")  # noqa: PTH116 - "" is no Path
    except OSError:
        return None
    return state.st_dev, state.st_ino


@contextlib.contextmanager
def _opened(folder: str) -> Iterator[int]:
    """A handle of the folder itself, so that its file system, its place and its watch are of one and the same."""
    handle = os.open(folder or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)
