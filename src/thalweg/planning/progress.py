"""Progress: the counters of a training, for a progress line."""

from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import SupportsFloat


@dataclass(slots=True)
class Progress:
    """Plain counters that training sets and a painter reads from another thread."""

    phase: str = "starting"  # reading, features, measuring, training, validating, saving, done
    samples: tuple[int, int] = (0, 0)  # read so far, and in all
    step: int = 0
    steps: int = 0
    steps_per_epoch: int = 1
    batch_size: int = 0
    loss: SupportsFloat = nan  # of the last step; reading a tensor waits for the device
    metric: tuple[str, float] = ("", nan)  # the headline metric after the last epoch
    run: Path | None = None
    messages: list[str] = field(default_factory=list)  # each is shown once, in this order
