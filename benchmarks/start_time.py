"""How long a user waits before anything happens: `import thalweg` and `thalweg --help`.

Claims: import ≤ 80 ms, --help ≤ 0.3 s. A figure is the median wall time of fresh processes, after
one that fills the disk cache and is not counted; beside it the processor's time, which a busy
machine changes less. The bare interpreter is included in all of them.
"""

import subprocess
import sys
from os import getloadavg
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median
from time import perf_counter

REPEATS = 11
COMMANDS = {
    "bare interpreter": ["-c", "pass"],
    "import thalweg": ["-c", "import thalweg"],
    "thalweg --help": ["-m", "thalweg", "--help"],
    "thalweg train --help": ["-m", "thalweg", "train", "--help"],
}
LIMITS = {"import thalweg": 0.080, "thalweg --help": 0.300}  # s


def main() -> dict[str, object]:
    found = {name: _medians(arguments) for name, arguments in COMMANDS.items()}
    held = {name: found[name]["wall"] <= limit for name, limit in LIMITS.items()}
    load = round(getloadavg()[0], 1)  # jobs that wanted the cores in the last minute
    return {"n": REPEATS, "load": load, "median seconds": found, "limits": LIMITS, "held": held}


def _medians(arguments: list[str]) -> dict[str, float]:
    _seconds(arguments)
    walls, processors = zip(*(_seconds(arguments) for _ in range(REPEATS)), strict=True)
    return {"wall": round(median(walls), 4), "processor": round(median(processors), 4)}


def _seconds(arguments: list[str]) -> tuple[float, float]:
    start, before = perf_counter(), getrusage(RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    wall, after = perf_counter() - start, getrusage(RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    from benchmarks.__main__ import report

    report("start_time")
