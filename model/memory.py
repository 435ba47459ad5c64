"""Memory that training gives back and takes again at every update."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

# Parameters of mallopt, from glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_LARGEST_MMAP_THRESHOLD = 32 * 2**20


def keep_freed_memory() -> bool:
    """Let the process keep freed memory for its next tensors, where the C library is glibc.

    By default glibc returns large blocks to the system at once, and an update of a convolutional network takes and
    returns hundreds of megabytes: every page of them is then cleared and mapped anew, which took a tenth of the time
    of `mnist-cnn`'s updates. Blocks above 32 MiB are still returned, by glibc's own limit.

    Returns
    -------
    bool
        Whether the C library did so.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    settings = {_MMAP_THRESHOLD: _LARGEST_MMAP_THRESHOLD, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 2**20}
    return all(mallopt(parameter, value) == 1 for parameter, value in settings.items())
