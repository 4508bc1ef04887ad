"""airbench94_muon.py, run on a processor: its own text from a checkout, changed while it is run.

Nothing of it is kept here. Every replacement below must be found, so that another version of that
file is an error, not a different recipe. What is computed stays: network, data, optimizers,
schedule, averaging over views. Replaced are the device, float16 (by float32 weights, under bfloat16
autocast or not), the compiler, torchvision (which only downloads and normalises) and the printing.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

SCRIPT = "airbench94_muon.py"
CLOCK = """
import json, time
class Event:
    def __init__(self, **options): self.at = (0.0, 0.0)
    def record(self): self.at = (time.perf_counter(), time.process_time())
    def elapsed_time(self, other):
        global CPU
        CPU += other.at[1] - self.at[1]
        return 1e3 * (other.at[0] - self.at[0])
CPU = 0.0
torch.set_num_threads(THREADS)
"""
NORMALISE = "(lambda x: (x - CIFAR_MEAN.view(1, 3, 1, 1)) / CIFAR_STD.view(1, 3, 1, 1))"
EPOCH = "print(json.dumps(dict(accuracy=val_acc, wall=time_seconds, cpu=CPU)), flush=True)"
END = "print(json.dumps(dict(accuracy=tta_val_acc, wall=time_seconds, cpu=CPU)), flush=True)"
REPLACED = (
    ("import torchvision\nimport torchvision.transforms as T\n", CLOCK),
    ("T.Normalize(CIFAR_MEAN, CIFAR_STD)", NORMALISE),
    ("@torch.compile\n", ""),
    ('torch.device("cuda")', 'torch.device("cpu")'),
    ("self.images.half()", "self.images.float()"),
    ("mod.half()", "mod.float()"),
    ("torch.cuda.Event(", "Event("),
    ("torch.cuda.synchronize()", "pass"),
    ("CifarNet().cuda()", "CifarNet()"),
    ('model.compile(mode="max-autotune")', "AUTOCAST"),
    ("range(ceil(total_train_steps / len(train_loader)))", "range(EPOCHS)"),
    ("print_training_details(locals(), is_final_entry=False)", EPOCH),
    ("print_training_details(locals(), is_final_entry=True)", END),
)
BEGIN = '    print_columns(logging_columns_list, is_head=True)\n    main("warmup", model)\n'
AUTOCAST = 'model.forward = torch.autocast("cpu", torch.bfloat16)(model.forward)'


def airbench(
    checkout: Path, data: Path, *, seed: int, bfloat16: bool, epochs: int = 8
) -> list[dict[str, Any]]:
    """One run: after each epoch, and last after averaging over views, accuracy and seconds.

    Seconds are what the script itself counts: training and the last evaluation, not those between.
    `data` is a folder with cifar10/train.pt and test.pt. Fewer epochs are the first ones of all 8.
    """
    text = ported((checkout / SCRIPT).read_text("utf-8"), bfloat16=bfloat16, epochs=epochs)
    script = data / "ported.py"
    script.write_text(text.replace("SEED", str(seed)), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script], cwd=data, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def ported(text: str, *, bfloat16: bool, epochs: int) -> str:
    """The script for one run on a processor. SystemExit where a passage to replace is missing."""
    for old, new in REPLACED:
        if old not in text:
            raise SystemExit(f"{SCRIPT} is not the version that is known here: it lacks {old!r}")
        text = text.replace(old, new)
    start = text.index(BEGIN)  # then 200 runs and a log: one run instead
    text = text[:start] + "    torch.manual_seed(SEED)\n    main(0, model)\n"
    threads = len(os.sched_getaffinity(0))
    text = text.replace("AUTOCAST", AUTOCAST if bfloat16 else "pass")
    return text.replace("EPOCHS", str(epochs)).replace("THREADS", str(threads))


def as_it_reads(arrays: Path, folder: Path) -> None:
    """Write an .npz of x_train, y_train, x_val and y_val where and how the script looks for it."""
    (folder / "cifar10").mkdir(parents=True)
    with np.load(arrays) as held:
        for name, split in (("train", "train"), ("test", "val")):
            pair = {"images": held[f"x_{split}"], "labels": held[f"y_{split}"]}
            tensors = {key: torch.from_numpy(values) for key, values in pair.items()}
            torch.save({**tensors, "classes": []}, folder / "cifar10" / f"{name}.pt")
