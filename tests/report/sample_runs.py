"""Synthetic runs: curves and mistakes of the shapes that real ones have."""

from io import BytesIO
from math import exp, log, nan

import numpy as np
from PIL import Image

from thalweg.record import PredictionRow, RunReader, RunWriter
from thalweg.record.quantities import (
    ACCURACY,
    CHANCE_LOSS,
    GRADIENT_NORM,
    LEARNING_RATE,
    LOSS,
    NUM_CLASSES,
    UPDATE_RATIO,
    VAL_ACCURACY,
    VAL_LOSS,
    VAL_MAE,
    VAL_R2,
)

FLOWERS = ("daisy", "dandelion", "rose", "sunflower", "tulip")
WEIGHTS = ("stem.0.weight", "stages.0.0.weight", "stages.1.0.weight", "head.weight", "head.bias")
RECIPE = """\
seed = 0
device = "cpu"

[data]
path = "photos/"
image_size = 64
val_fraction = 0.2

[model]
name = "convnet"
changes = {  }

[optimizer]
name = "adamw"
lr = 0.002
weight_decay = 0.05

[schedule]
name = "warmup_linear"
warmup = 0.05

[batch]
size = 64
accumulate = 1
"""
ENVIRONMENT = {
    "python": "3.11.7",
    "thalweg": "0.1.0",
    "torch": "2.13.0",
    "system": "Linux 6.8 x86_64",
    "processor": "8-core processor",
    "cores": "2",
    "command": "thalweg train photos/ --epochs 20",
}


def healthy(folder, *, epochs=20, per_epoch=46):
    """A classifier of five flowers that learned well."""
    rng = np.random.default_rng(0)
    with RunWriter(folder) as writer:
        _describe(writer, epochs=epochs, per_epoch=per_epoch)
        _optimize(writer, epochs * per_epoch, rng)
        for step in range(epochs * per_epoch):
            loss = 0.25 + 1.45 * exp(-step / 160)
            writer.add(LOSS, step, {"": loss * exp(rng.normal(0, 0.16))})
            if step % 10 == 0:
                writer.add(ACCURACY, step, {"": min(1.0, exp(-loss * 0.62) + rng.normal(0, 0.04))})
        for epoch in range(1, epochs + 1):
            loss = 0.36 + 1.2 * exp(-epoch / 3.2) + rng.normal(0, 0.012)
            step = epoch * per_epoch - 1
            writer.add(VAL_LOSS, step, {"": loss})
            writer.add(VAL_ACCURACY, step, {"": 0.5 + 0.385 * (1 - exp(-epoch / 3.5))})
        rows = predictions(FLOWERS, 734, rng, right=0.885)
        _finish(writer, {"val_loss": 0.371, "val_accuracy": _share_right(rows)}, rows)
    _recipe(folder)
    return RunReader(folder)


def sick(folder):
    """The learning rate was far too high: the loss rose and stayed."""
    rng = np.random.default_rng(1)
    with RunWriter(folder) as writer:
        _describe(writer, epochs=6, per_epoch=46)
        _optimize(writer, 276, rng, lr=2.0, ratio=1.0)
        for step in range(276):
            level = 1.62 if step == 0 else 40 * exp(-step / 40) + 2.4
            writer.add(LOSS, step, {"": level * exp(rng.normal(0, 0.35))})
            if step % 10 == 0:
                writer.add(ACCURACY, step, {"": 0.2 + rng.normal(0, 0.05)})
        for epoch in range(1, 7):
            writer.add(VAL_LOSS, epoch * 46 - 1, {"": 2.6 + rng.normal(0, 0.4)})
            writer.add(VAL_ACCURACY, epoch * 46 - 1, {"": 0.2 + rng.normal(0, 0.02)})
        rows = predictions(FLOWERS, 734, rng, right=0.21)
        _finish(writer, {"val_loss": 2.61, "val_accuracy": _share_right(rows)}, rows)
    _recipe(folder)
    return RunReader(folder)


def failed(folder):
    """The loss became NaN at step 137."""
    rng = np.random.default_rng(2)
    with RunWriter(folder) as writer:
        _describe(writer, epochs=20, per_epoch=46)
        _optimize(writer, 137, rng, lr=0.3)
        for step in range(137):
            grown = 1.6 * exp(-step / 60) if step < 100 else 0.3 * exp((step - 100) / 4)
            writer.add(LOSS, step, {"": grown * exp(rng.normal(0, 0.1))})
        writer.add(LOSS, 137, {"": nan})
        writer.event(
            "loss-not-finite", "first seen in stages.1.0", step=137, samples=["rose/1.jpg"]
        )
        writer.set("state", "failed")
        writer.set("time_spent", {"training": 7.2})
    _recipe(folder)
    return RunReader(folder)


def regression(folder):
    """House prices, from thirteen numbers each."""
    rng = np.random.default_rng(3)
    with RunWriter(folder) as writer:
        _describe(writer, epochs=30, per_epoch=12)
        writer.set("task", "regression")
        writer.set("headline_metric", "val_r2")
        writer.set("class_names", [])
        writer.set("model", "mlp")
        writer.set("input_shape", [13])
        writer.set("original_size", [0, 0])
        writer.set("counts", {"train": 405, "val": 101})
        _optimize(writer, 360, rng, classes=0)
        for step in range(360):
            writer.add(LOSS, step, {"": (0.1 + exp(-step / 50)) * exp(rng.normal(0, 0.3))})
        for epoch in range(1, 31):
            step, left = epoch * 12 - 1, 0.13 + 0.8 * exp(-epoch / 5)
            writer.add(VAL_LOSS, step, {"": left})
            writer.add(VAL_R2, step, {"": 1 - left})
            writer.add(VAL_MAE, step, {"": 9 * left**0.5})
        rows = []
        for index in range(101):
            true = float(rng.gamma(6, 4))
            predicted = true + float(rng.normal(0, 1 + 0.1 * true))
            row = PredictionRow("val", f"row {index}", f"{true:.6g}", f"{predicted:.6g}")
            rows.append(row)
        _finish(writer, {"val_loss": 0.13, "val_r2": 0.87, "val_mae": 2.31}, rows)
    _recipe(folder)
    return RunReader(folder)


def many_classes(folder, classes=100):
    """More classes than a matrix can show."""
    rng = np.random.default_rng(4)
    names = tuple(f"species {index:03d}" for index in range(classes))
    with RunWriter(folder) as writer:
        _describe(writer, epochs=3, per_epoch=100)
        writer.set("class_names", list(names))
        _optimize(writer, 300, rng, classes=classes)
        for step in range(300):
            writer.add(LOSS, step, {"": log(classes) * exp(-step / 150)})
        for epoch in range(1, 4):
            writer.add(VAL_LOSS, epoch * 100 - 1, {"": 4.0 / epoch})
            writer.add(VAL_ACCURACY, epoch * 100 - 1, {"": 0.2 * epoch})
        rows = predictions(names, 3000, rng, right=0.6)
        _finish(writer, {"val_loss": 1.4, "val_accuracy": _share_right(rows)}, rows)
    _recipe(folder)
    return RunReader(folder)


def just_begun(folder):
    """A run in its first second; its writer is still open."""
    writer = RunWriter(folder)
    _describe(writer, epochs=20, per_epoch=46)
    writer.flush()
    return writer, RunReader(folder)


def predictions(names, total, rng, *, right):
    """Predictions, a share `right` of them right; each class has its usual wrong one."""
    rows = []
    for index in range(total):
        true = int(rng.integers(len(names)))
        guess, probability = true, 0.5 + 0.5 * rng.random()
        if rng.random() > right:
            near = (true + 2) % len(names)
            guess = near if rng.random() < 0.6 else int(rng.integers(len(names)))
        wrong = guess != true
        picture = thumbnail(true, guess, rng) if wrong and index < 300 else None
        name = f"{names[true]}/IMG_{index:04d}.jpg"
        rows.append(PredictionRow("val", name, names[true], names[guess], probability, picture))
    return rows


def thumbnail(true, guess, rng):
    """A blob on a background: WebP bytes, 96 px."""
    y, x = np.mgrid[0:96, 0:96] / 96 - 0.5
    inside = np.exp(-8 * (x**2 + y**2)) * (1 + 0.4 * np.cos((5 + true) * np.arctan2(y, x)))
    hue = np.array(
        [[0.9, 0.7, 0.2], [0.8, 0.2, 0.3], [0.9, 0.8, 0.9], [0.5, 0.3, 0.7], [1, 0.5, 0]]
    )
    ground = np.array([0.2, 0.35 + 0.05 * guess % 0.3, 0.2])
    picture = inside[..., None] * hue[true % 5] + (1 - inside[..., None]) * ground
    picture += rng.normal(0, 0.03, picture.shape)
    file = BytesIO()
    Image.fromarray((255 * picture.clip(0, 1)).astype(np.uint8)).save(file, "WEBP", quality=80)
    return file.getvalue()


def _describe(writer, *, epochs, per_epoch):
    facts = {
        "state": "running",
        "source": "photos/",
        "task": "classification",
        "headline_metric": "val_accuracy",
        "model": "convnet",
        "parameters": 1_204_357,
        "class_names": list(FLOWERS),
        "counts": {"train": 2936, "val": 734},
        "input_shape": [3, 64, 64],
        "original_size": [240, 320],
        "steps": epochs * per_epoch,
        "steps_per_epoch": per_epoch,
        "epochs": epochs,
        "batch_size": 64,
        "notes": [
            "image size 64 px chosen: the files are 320 × 240, and 3,670 of them",
            "2 files have the same contents as another and were kept on its side of the split",
        ],
        "environment": ENVIRONMENT,
    }
    for key, value in facts.items():
        writer.set(key, value)
    writer.quarantine(
        [
            ("rose/broken.jpg", "cannot be decoded: image file is truncated"),
            ("tulip/page.jpg", "cannot be decoded: it is HTML"),
            ("tulip/cut.jpg", "cannot be decoded: image file is truncated"),
        ]
    )


def _optimize(writer, steps, rng, *, lr=2e-3, ratio=1e-3, classes=5):
    if classes:
        writer.add(NUM_CLASSES, 0, {"": float(classes)})
        writer.add(CHANCE_LOSS, 0, {"": log(classes)})
    for step in range(steps):
        progress = step / steps
        factor = min(progress / 0.05, (1 - progress) / 0.95)
        if step % 16 == 0:
            writer.add(LEARNING_RATE, step, {"decay": lr * factor, "no decay": lr * factor})
        if step % 20 == 0:
            spread = np.exp(rng.normal(0, 0.7, len(WEIGHTS)))
            norms = 0.4 * exp(-progress) * spread
            writer.add(GRADIENT_NORM, step, dict(zip(WEIGHTS, norms.tolist(), strict=True)))
            ratios = (ratio * factor + 1e-6) * spread
            writer.add(UPDATE_RATIO, step, dict(zip(WEIGHTS, ratios.tolist(), strict=True)))


def _finish(writer, metrics, rows):
    writer.set("metrics", metrics)
    writer.predictions(rows)
    writer.set("state", "finished")
    writer.set(
        "time_spent",
        {"reading": 3.4, "training": 71.3, "validating": 6.1, "saving": 1.2},
    )


def _share_right(rows):
    return sum(row.target == row.predicted for row in rows) / len(rows)


def _recipe(folder):
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
