"""How far a training has come, for whoever shows it."""

from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import SupportsFloat


@dataclass(slots=True)
class Progress:
    """Plain counters: training sets them, whoever paints them reads them from another thread."""

    phase: str = (
        "starting"  # then "reading", "measuring", "training", "validating", "saving", "done"
    )
    samples: tuple[int, int] = (0, 0)  # read so far, in all
    step: int = 0
    steps: int = 0
    steps_per_epoch: int = 1
    batch_size: int = 0
    loss: SupportsFloat = nan  # of the last step; reading a tensor waits for the device
    metric: tuple[str, float] = ("", nan)  # the headline metric after the last epoch
    run: Path | None = None
    messages: list[str] = field(default_factory=list)  # appended to, in order, to be shown once
