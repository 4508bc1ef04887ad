"""Where a run was made: what would have to be the same for it to come out the same."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("thalweg", "torch", "numpy", "pillow", "safetensors")


def environment() -> dict[str, str]:
    """Versions, machine and threads, as text. Reads package metadata; imports nothing heavy."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    found["system"] = f"{platform.system()} {platform.release()} {platform.machine()}"
    found["processor"] = _processor()
    found["cores"] = str(os.cpu_count())
    found["command"] = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return found


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:  # noqa: PTH123
            names = (line.partition(":")[2].strip() for line in lines if "model name" in line)
            return next(names, platform.processor())
    except OSError:
        return platform.processor()
