"""Freed memory that is kept costs no page faults: counted by the system."""

import json
import subprocess
import sys

import pytest

COUNT = """
import json, resource, sys
import torch
from thalweg.training.allocator import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def use():
    return torch.ones(20_000_000) + torch.ones(20_000_000)

kept = keep_freed_memory() if sys.argv[1] == "kept" else False
for _ in range(8):  # until the aligned blocks have found their places
    use()
before = faults()
use()
print(json.dumps([kept, faults() - before]))
"""


def count(how):
    command = [sys.executable, "-c", COUNT, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the policy is of Linux' C library")
@pytest.mark.slow
def test_memory_that_was_used_before_is_free():
    kept, faults = count("kept")
    if not kept:
        pytest.skip("the C library is another than glibc")
    assert faults < 100
    _, returned = count("returned")
    assert returned > 10 * faults  # 240 MB in pages of 4 KiB, or fewer larger ones
