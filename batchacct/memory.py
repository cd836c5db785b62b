"""What the C library's allocator is told for programs that work on blocks of some megabytes, one after the other.

A block becomes some hundred arrays of a few hundred kilobytes. glibc gives each such piece back to the kernel once it is freed,
and the kernel clears every page of the next one: a third of a parser's time. Told to keep them, it uses the same pages again. Each
thread would keep its own, so there are only as many heaps as there are threads at work; and Arrow, which brings an allocator of
its own that keeps what it frees as well, uses the same pages.

Source: mallopt(3).
"""

from __future__ import annotations

import ctypes

import pyarrow as pa

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8

MAPPED_ALONE_BYTES = 32 << 20
"""Pieces from this size on go back to the kernel; the most that glibc accepts."""
KEPT_BYTES = 256 << 20
"""So much may lie unused at the end of a heap before it is given back."""
HEAPS = 2


def keep_freed() -> None:
    """For the whole process, at its beginning; where there is no glibc, nothing."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, MAPPED_ALONE_BYTES)
    mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
    mallopt(_M_ARENA_MAX, HEAPS)
    pa.set_memory_pool(pa.system_memory_pool())
