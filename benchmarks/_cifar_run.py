"""One training of the small-image recipe in a process of its own, with its times.

Usage: python -m benchmarks._cifar_run ARRAYS OUT SEED [KEY=VALUE…]
"""

import json
import sys
import tomllib
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import thalweg
from thalweg.planning.progress import Progress


class Times(Progress):
    """Notes when each validation begins and ends, and what it finds."""

    def __init__(self) -> None:
        super().__init__()
        self.validations: list[dict[str, float]] = []
        self.apart = self.between = {"wall": 0.0, "cpu": 0.0}  # of all validations; but the last
        self.start = self.since = now()

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "phase" and value == "validating":
            self.since = now()
        elif name == "metric" and value[0]:
            self._note(value[1])

    def _note(self, accuracy: float) -> None:
        at = now()
        took = {name: at[name] - self.since[name] for name in at}
        found = {name: at[name] - self.start[name] - self.apart[name] for name in at}
        self.between = self.apart
        self.apart = {name: self.apart[name] + took[name] for name in at}
        self.validations.append({"accuracy": accuracy, **found})


def now() -> dict[str, float]:
    return {"wall": perf_counter(), "cpu": process_time()}


def trained(path: str, out: str, *, seed: int, edits: dict[str, Any]) -> dict[str, Any]:
    """Accuracy at the end and on the way, and seconds, without the validations before the last.

    Accuracies on the way are of one view; their seconds include their own validation.
    """
    times = Times()
    run = thalweg.train(path, out=out, seed=seed, edits=edits, progress=times)
    end = now()
    whole = {name: end[name] - times.start[name] for name in end}
    counted = {name: whole[name] - times.between[name] for name in end}
    plain = [at["accuracy"] for at in times.validations]
    accuracy = run.metrics["val_accuracy"]
    return {
        "accuracy": accuracy,
        "one view": plain[-1],
        "kept the last": plain[-1] == max(plain),
        **counted,
        "with validations": whole["wall"],
        "on the way": [*times.validations, {"accuracy": accuracy, **counted}],
        "time spent": run.reader.meta["time_spent"],
        "recipe": (run.path / "recipe.toml").read_text(encoding="utf-8"),
    }


def main(path: str, out: str, seed: str, *changes: str) -> None:
    edits = dict(change.split("=", 1) for change in changes)
    Path(out).mkdir(parents=True, exist_ok=True)
    typed = {key: tomllib.loads(f"value = {value}")["value"] for key, value in edits.items()}
    print(json.dumps({"found": trained(path, out, seed=int(seed), edits=typed)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
