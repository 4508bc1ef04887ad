"""Does training need more memory for more images? Peak resident memory, 2,500 and 20,000 × 128 px.

Each count is a process of its own: it decodes the folder into an empty cache, trains a small
network for an epoch with augmentation, validates, and reads the set again from the warm cache.
20,000 images of 128 px are 983 MB decoded; were they held, the peaks would differ by 860 MB.
"""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

COUNTS = (2_500, 20_000)
SIZE = 128  # pixels
BATCH = 64


def main() -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        found = {str(count): measured(Path(folder), count) for count in COUNTS}
    few, many = (found[str(count)]["peak_mb"] for count in COUNTS)
    return {"images": found, "peak_grows_mb": round(many - few, 1)}


def measured(folder: Path, count: int, *, size: int = SIZE) -> dict[str, float]:
    """What a process of its own finds with so many images."""
    write_images(folder / str(count), count, size=size)
    environment = {**os.environ, "THALWEG_CACHE": str(folder / f"cache-{count}")}
    command = [sys.executable, __file__, str(folder / str(count)), str(size)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def write_images(folder: Path, count: int, *, size: int) -> None:
    """JPEGs of two classes, each unlike the others."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(count)
    for name in ("dark", "bright"):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        coarse = rng.integers(0, 160, (8, 8, 3), dtype=np.uint8) + np.uint8(90 * (index % 2))
        image = Image.fromarray(coarse).resize((size, size))
        image.save(folder / ("dark", "bright")[index % 2] / f"{index:06}.jpg", quality=85)


def train(folder: Path, size: int) -> dict[str, float]:
    """Peak and time of decoding, one epoch, validation, and a second, warm start."""
    from torch import nn
    from torch.nn.functional import cross_entropy
    from torch.optim import SGD

    from thalweg.data import Augment, Batches, load_dataset

    found = {"imports_mb": peak_mb()}
    started = perf_counter()
    dataset = load_dataset(folder, image_size=size)
    found["decoding_s"], found["decoded_mb"] = perf_counter() - started, peak_mb()
    model = nn.Sequential(
        nn.Conv2d(3, 16, 8, stride=8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 2),
    )
    optimizer = SGD(model.parameters(), lr=0.05)
    augment = Augment(flip=True, crop_padding=8, brightness=0.2)
    started = perf_counter()
    batches = Batches(dataset, "train", batch_size=BATCH, shuffle=True, augment=augment)
    for batch in batches:
        optimizer.zero_grad()
        cross_entropy(model(batch.inputs), batch.targets).backward()
        optimizer.step()
    for batch in Batches(dataset, "val", batch_size=BATCH):
        model(batch.inputs)
    found["epoch_s"], found["trained_mb"] = perf_counter() - started, peak_mb()
    started = perf_counter()
    again = load_dataset(folder, image_size=size)
    found["warm_start_s"], found["peak_mb"] = perf_counter() - started, peak_mb()
    assert again.fingerprint == dataset.fingerprint
    return {name: round(value, 2) for name, value in found.items()}


def peak_mb() -> float:
    """The largest that this process has been, resident, file-backed pages included; MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(train(Path(sys.argv[1]), int(sys.argv[2]))))
    else:
        print(json.dumps(main(), indent=2))
