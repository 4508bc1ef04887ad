"""How long a user waits before anything happens: `import thalweg` and `thalweg --help`.

Claims: import ≤ 80 ms, --help ≤ 0.3 s. A figure is the median wall time of fresh processes, after
one that fills the disk cache and is not counted. The bare interpreter is included in all of them.
"""

import statistics
import subprocess
import sys
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
    medians = {name: _median_seconds(arguments) for name, arguments in COMMANDS.items()}
    held = {name: medians[name] <= limit for name, limit in LIMITS.items()}
    return {"n": REPEATS, "median seconds": medians, "limits": LIMITS, "held": held}


def _median_seconds(arguments: list[str]) -> float:
    _seconds(arguments)
    return round(statistics.median(_seconds(arguments) for _ in range(REPEATS)), 4)


def _seconds(arguments: list[str]) -> float:
    start = perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return perf_counter() - start


if __name__ == "__main__":
    from benchmarks.__main__ import report

    report("start_time")
