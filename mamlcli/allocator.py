"""The allocator of the C library, where it can be told what to do with memory that is freed."""

import ctypes
import functools
import sys
from typing import Any

# The names of these options are those of mallopt(3); the largest value that the second takes is on a 64-bit system.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER, _MOST = 2**31 - 1, 32 * 2**20


@functools.cache
def keep_freed_memory() -> None:
    """Let glibc keep what is freed, for what is allocated next; elsewhere nothing is done.

    A meta-step allocates what the one before it freed. By itself glibc gives pieces of 128 KiB and more back to the
    system in between, which hands them out anew page by page, each filled with zeros: 8,000 pages and a third of the
    time of a step of ten seeds at width 256. Pieces of more than 32 MiB go back all the same.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
        mallopt(_M_MMAP_THRESHOLD, _MOST)


def give_back_freed_memory() -> None:
    """Let glibc give back what is freed, after work that needed more than what follows; elsewhere nothing is done."""
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_glibc(name: str) -> Any:
    """A function of the C library; None where that is none of glibc's kind."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
