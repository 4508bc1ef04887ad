"""Memory that does not follow the number of images. The full size is benchmarks/data_memory.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MEASURE = """
import json, sys
from pathlib import Path

import pytest
from benchmarks.data_memory import measured

import pytest
print(json.dumps([measured(Path(sys.argv[1]), count, size=64) for count in (500, 3000)]))
"""


@pytest.mark.slow
def test_six_times_the_images_need_no_more_memory(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    few, many = (found["peak_mb"] for found in json.loads(done.stdout))
    # Decoded, 2,500 × 64 × 64 × 3 bytes are 31 MB; half of that is the allocator's own noise.
    assert many - few < 16
