"""The environment of a run: versions, machine and threads, which its numbers depend on."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("thalweg", "torch", "numpy", "pillow", "safetensors")


def environment() -> dict[str, str]:
    """Versions, machine and command, as text. Reads package metadata; imports nothing heavy."""
    facts = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            facts[name] = "unknown"
    facts["system"] = f"{platform.system()} {platform.release()} {platform.machine()}"
    facts["processor"] = _processor()
    facts["cores"] = str(os.cpu_count())
    facts["command"] = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return facts


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:  # noqa: PTH123
            names = (line.partition(":")[2].strip() for line in lines if "model name" in line)
            return next(names, platform.processor())
    except OSError:
        return platform.processor()
