"""airbench94_muon, unchanged: its own times and accuracies.

Usage: airbench.py CHECKOUT FOLDER RUNS warm|cold
FOLDER becomes its working folder, and holds the data as it keeps them after a download. "warm": one
run before, on made-up labels, as its script begins. The seconds are its own: training,
whitening and the final evaluation, not those after each epoch.
"""

import json
import os
import sys
from pathlib import Path

import torch

checkout, folder, runs, how = sys.argv[1:]
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(folder).absolute() / "inductor"))

if __name__ == "__main__":
    sys.path.insert(0, str(Path(checkout).absolute()))
    os.chdir(folder)
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
