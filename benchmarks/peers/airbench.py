"""airbench94_muon, unchanged, on the arrays of a file: its own times and accuracies.

Usage: airbench.py CHECKOUT CIFAR10.npz FOLDER RUNS warm|cold
FOLDER becomes its working folder. "warm": one run before, on made-up labels, as its script begins.
The seconds are its own: training, whitening and the final evaluation, not those after each epoch.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch

checkout, data, folder, runs, how = sys.argv[1:]
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(folder).absolute() / "inductor"))

CLASSES = ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def write_data():
    """The files that its loader keeps after a download."""
    (Path(folder) / "cifar10").mkdir(parents=True, exist_ok=True)
    with np.load(data) as arrays:
        for name, split in (("train", "train"), ("test", "val")):
            images = torch.from_numpy(arrays[f"x_{split}"])
            labels = torch.from_numpy(arrays[f"y_{split}"])
            held = {"images": images, "labels": labels, "classes": CLASSES}
            torch.save(held, Path(folder) / "cifar10" / f"{name}.pt")


if __name__ == "__main__":
    write_data()
    os.chdir(folder)
    sys.path.insert(0, str(Path(checkout).absolute()))
    import airbench94_muon as airbench  # it reads sys.argv[0], which is this file: harmless

    seconds = []

    def note(variables, is_final_entry):
        if is_final_entry:
            seconds.append(variables["time_seconds"])

    airbench.print_training_details = note
    model = airbench.CifarNet().cuda().to(memory_format=torch.channels_last)
    model.compile(mode="max-autotune")
    if how == "warm":
        airbench.main("warmup", model)
        seconds.clear()
    accuracies = [float(airbench.main(run, model)) for run in range(int(runs))]
    found = [{"accuracy": a, "seconds": s} for a, s in zip(accuracies, seconds, strict=True)]
    print(json.dumps({"runs": found}))
