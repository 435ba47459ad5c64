"""Freed memory is kept: the same large tensors again cost no new pages."""

import os
import subprocess
import sys

import pytest

# In a process of its own: the setting cannot be taken back.
PROGRAM = """
import resource, sys
from lmht.model.memory import keep_freed_memory
import torch
if sys.argv[1] == "keep":
    assert keep_freed_memory()
torch.set_num_threads(1)
def update():
    tensors = [torch.zeros(4 << 20) for _ in range(6)]  # 16 MiB each
for _ in range(3):
    update()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    update()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def new_pages(mode):
    # Large blocks go back to the system at once, so that the difference does not hang on what was freed before.
    environment = os.environ | dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), "131072")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode], env=environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(
    not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""), reason="not glibc"
)
def test_large_tensors_are_taken_from_kept_memory():
    assert new_pages("keep") < 100
    assert new_pages("leave") > 1000
