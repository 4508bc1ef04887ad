"""How much memory is free, before something large is begun."""

from contextlib import suppress
from pathlib import Path

import torch

_SYSTEM = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")
UNKNOWN = 2 << 30  # bytes taken to be free where the system does not say


def available_bytes(device: torch.device) -> int:
    """Memory that could be had on the device now: of the system, or of its group's limit."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    try:
        lines = _SYSTEM.read_text().splitlines()
    except OSError:
        return UNKNOWN
    kib = next((line.split()[1] for line in lines if line.startswith("MemAvailable")), None)
    free = int(kib) * 1024 if kib else UNKNOWN
    with suppress(OSError, ValueError):  # "max" is no number: there is no limit
        limit = int((_GROUP / "memory.max").read_text())
        free = min(free, max(0, limit - int((_GROUP / "memory.current").read_text())))
    return free
