"""easy-VQA from a cold start: thalweg's recipe beside the question alone, over seeds.

4,000 images with 38,575 questions train, 1,000 images with 9,673 questions validate, as published.
The author's Keras models reach 93.8 and 99.5 % (https://github.com/vzhou842/easy-VQA). The goal:
99 % within five minutes on two cores. The question alone is the most frequent training answer to
the same words. Seconds are of the whole training, from the folder to the saved model.

$THALWEG_SEEDS is the number of seeds (5). $THALWEG_DATA names a folder that holds `easy_vqa.npz`.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import mean
from time import perf_counter, process_time

import numpy as np
import torch
from PIL import Image

from benchmarks._peers import NoPeersError
from thalweg import api

FOLDER = Path("../shared/data")
SEEDS = 5
GOAL, MINUTES = 0.99, 5.0


def main() -> dict[str, object]:
    path = Path(os.environ.get("THALWEG_DATA", FOLDER)) / "easy_vqa.npz"
    if not path.is_file():
        raise NoPeersError(f"there is no {path}; THALWEG_DATA names another folder")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_questions(path, Path(folder) / "easy_vqa")
        for seed in range(int(os.environ.get("THALWEG_SEEDS", str(SEEDS)))):
            rows.append(train(Path(folder), seed=seed))
            print(rows[-1], file=sys.stderr, flush=True)
    scores = [row["accuracy"] for row in rows]
    longest = max(row["seconds"] for row in rows)
    return {
        "claim": "V1",
        "workload": "easy-VQA, five minutes, beside the question alone",
        "goal": f"≥ {GOAL:.0%} in {MINUTES:.0f} min",
        "measured": f"{min(scores):.2%} to {max(scores):.2%}, mean {mean(scores):.2%}; at most "
        f"{longest:.0f} s; the question alone {rows[0]['question alone']:.1%}",
        "held": min(scores) >= GOAL and longest <= 60 * MINUTES,
        "n": len(rows),
        "threads": torch.get_num_threads(),
        "runs": rows,
    }


def write_questions(archive: Path, folder: Path) -> None:
    """The data set in its published layout, with the test part as the one that validates."""
    with np.load(archive) as arrays:
        for part, name in (("train", "train"), ("test", "val")):
            images = folder / name / "images"
            images.mkdir(parents=True)
            for number, pixels in enumerate(arrays[f"{part}_x"]):
                Image.fromarray(pixels).save(images / f"{number}.png")
            columns = (arrays[f"{part}_{key}"].tolist() for key in ("q", "a", "img"))
            rows = [[q.decode(), a.decode(), i] for q, a, i in zip(*columns, strict=True)]
            (folder / name / "questions.json").write_text(json.dumps(rows))


def train(folder: Path, *, seed: int) -> dict[str, float]:
    start, cpu = perf_counter(), process_time()
    run = api.train(folder / "easy_vqa", seed=seed, out=folder / "runs")
    return {
        "seed": seed,
        "accuracy": run.metrics["val_accuracy"],
        "question alone": run.reader.meta["partial"]["score"],
        "seconds": perf_counter() - start,
        "cpu_seconds": process_time() - cpu,
    }
