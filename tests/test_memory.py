"""Freed memory is used again: told so, glibc has the kernel clear no new pages for each array."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys

import pytest

ARRAY_BYTES, ARRAYS = 4 << 20, 50
PROGRAM = f"""
import resource
import numpy as np
from batchacct import memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range({ARRAYS}):
        two = np.ones({ARRAY_BYTES}, np.uint8), np.ones({ARRAY_BYTES}, np.uint8)
        del two
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

memory.keep_freed()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has another allocator")
def test_arrays_one_after_the_other_use_the_same_pages() -> None:
    told = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    pages_of_all = 2 * ARRAYS * ARRAY_BYTES // resource.getpagesize()
    assert int(told.stdout) < pages_of_all / 10
