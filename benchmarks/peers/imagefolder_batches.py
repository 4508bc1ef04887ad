"""torchvision's ImageFolder through a DataLoader with 2 workers: seconds of each epoch.

Usage: imagefolder_batches.py FOLDER plain|knowing. It makes an epoch for each line on stdin, and
answers with one line of JSON; the first epoch, in which the workers start, is not among them.
Plain: as torchvision's documentation sets ImageFolder up. Knowing: JPEGs decoded by torchvision
itself, transforms v2 on eight bits. The workers persist in both.
"""

import json
import sys
import warnings
from pathlib import Path
from time import perf_counter

import torch
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

warnings.filterwarnings("ignore")
SIDE, SCALE, BATCH, WORKERS = 128, (0.35, 1.0), 64, 2
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def plain(folder):
    steps = [
        transforms.RandomResizedCrop(SIDE, scale=SCALE),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
    return ImageFolder(folder, transforms.Compose(steps))


def decoded(path):
    return decode_image(path, ImageReadMode.RGB)


def knowing(folder):
    steps = [
        v2.RandomResizedCrop(SIDE, scale=SCALE, antialias=True),
        v2.RandomHorizontalFlip(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ]
    return ImageFolder(folder, v2.Compose(steps), loader=decoded)


def processor_seconds(loader):
    """Of this process and its workers, which are alive: their children's times come too late."""
    workers = [worker.pid for worker in loader._iterator._workers] if loader._iterator else []
    ticks = 0
    for pid in ["self", *workers]:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / 100  # clock ticks a second: USER_HZ


if __name__ == "__main__":
    folder, how = sys.argv[1:]
    data = {"plain": plain, "knowing": knowing}[how](folder)
    loader = DataLoader(data, BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True)
    for _ in loader:
        pass
    print(json.dumps({"images": len(data)}), flush=True)
    for _ in sys.stdin:
        wall, cpu = perf_counter(), processor_seconds(loader)
        for _inputs, _targets in loader:
            pass
        found = {"wall": perf_counter() - wall, "cpu": processor_seconds(loader) - cpu}
        print(json.dumps(found), flush=True)
