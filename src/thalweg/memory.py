"""Measure free memory before a large allocation."""

from contextlib import suppress
from pathlib import Path

import torch

_SYSTEM = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")
ASSUMED_FREE = 2 << 30  # bytes, where the system does not say


def available_bytes(device: torch.device) -> int:
    """Memory that is free on the device now: of the system, or within the limit of its cgroup."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    try:
        lines = _SYSTEM.read_text().splitlines()
    except OSError:
        return ASSUMED_FREE
    kib = next((line.split()[1] for line in lines if line.startswith("MemAvailable")), None)
    free = int(kib) * 1024 if kib else ASSUMED_FREE
    with suppress(OSError, ValueError):  # "max" is no number: there is no limit
        limit = int((_GROUP / "memory.max").read_text())
        free = min(free, max(0, limit - int((_GROUP / "memory.current").read_text())))
    return free
