"""Free memory is that of the system, or less within the limit of a cgroup."""

import pytest
import torch

from thalweg import memory

CPU = torch.device("cpu")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Write the system's files; None writes no file."""
    monkeypatch.setattr(memory, "_SYSTEM", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)

    def write(available, limit, current):
        for name, text in {
            "meminfo": available and f"MemTotal: 9 kB\nMemAvailable:  {available} kB\n",
            "memory.max": limit,
            "memory.current": current,
        }.items():
            if text is not None:
                (tmp_path / name).write_text(text)

    return write


@pytest.mark.parametrize(
    ("available", "limit", "current", "expected"),
    [
        ("4096", None, None, 4 << 20),
        ("4096", "max\n", "77\n", 4 << 20),
        ("4096", "3000\n", "1000\n", 2000),
        ("4096", "1000\n", "3000\n", 0),
        (None, "3000\n", "1000\n", memory.ASSUMED_FREE),
    ],
    ids=["no group", "no limit", "a limit", "above it", "no system"],
)
def test_free_memory_is_the_least_of_system_and_limit(machine, available, limit, current, expected):
    machine(available, limit, current)
    assert memory.available_bytes(CPU) == expected


@pytest.mark.gpu
def test_free_memory_of_a_gpu_includes_the_cache_of_torch():
    device = torch.device("cuda")
    before = memory.available_bytes(device)
    held = torch.empty(1 << 28, dtype=torch.uint8, device=device)
    assert before - memory.available_bytes(device) == pytest.approx(held.nbytes, rel=0.1)
    del held
    assert memory.available_bytes(device) == pytest.approx(before, rel=0.01)
