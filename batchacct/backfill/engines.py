"""Who does the work: this process, or processes on all cores of this machine. (A cluster: `batchacct.backfill.spark`.)

A piece of work is a module's function and a small dataclass that says what to do; what comes of it is in files, and another small
dataclass says what. So nothing large goes between processes, and work that is done twice does no harm.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from typing import Protocol, TypeVar

from batchacct import memory
from batchacct.errors import IncompleteError

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 2
"""So many pieces of work for each worker are handed out at a time."""


class Engine(Protocol):
    """What runs work; the results come in whatever order."""

    workers: int

    def run(self, work: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        """Raises: whatever the work raises; what else runs then is ended."""


class LocalEngine:
    """`workers` processes, or, for one worker, this process."""

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or cores()

    def run(self, work: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        if self.workers == 1 or len(tasks) <= 1:
            yield from map(work, tasks)
            return
        with process_pool(min(self.workers, len(tasks))) as pool, told_of_death():
            left = iter(tasks)
            running: set[Future[R]] = set()
            while True:
                while len(running) < AHEAD * self.workers and (task := next(left, None)) is not None:
                    running.add(pool.submit(work, task))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


@contextlib.contextmanager
def process_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with this one, however that ends. (Spawned: to fork copies locks that other threads hold.)"""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def told_of_death() -> Iterator[None]:
    """Raises: IncompleteError where a worker was killed."""
    try:
        yield
    except BrokenProcessPool as error:
        raise IncompleteError(
            "a worker process was killed, by the kernel for want of memory or by somebody: start the same command again and it "
            "goes on where it stopped; with less memory, give fewer --workers"
        ) from error


def _begin_worker() -> None:
    memory.keep_freed()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, and ends its workers
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """Waits until the parent is gone, and ends this process: nobody would take what it makes."""
    wait_for([sentinel])
    os._exit(1)
