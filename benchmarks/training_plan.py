"""What measuring the precision gains: a step of ResNet-18, 128 px, batches of 32, made-up images.

Claim: at least 2.4 × as fast as PyTorch's defaults (float32, NCHW), which is how Lightning, fastai
and timm train on a CPU. A step is forward, backward and the SGD update. Both run in turns in one
process, with all threads; the ratio is that of the least times, beside the median of the pairs.
"""

from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch
import torch.nn.functional as F

from thalweg.data import Batch
from thalweg.models import MODELS
from thalweg.training.contest import Subject
from thalweg.training.plan import measured
from thalweg.training.setting import Setting, inputs_for

BATCH, SIDE, STEPS, ROUNDS, LIMIT = 32, 128, 4, 9, 2.4


def main() -> dict[str, object]:
    torch.manual_seed(0)
    batch = Batch(torch.randn(BATCH, 3, SIDE, SIDE), torch.randint(10, (BATCH,)))
    model = MODELS["resnet18"](10, input_shape=(3, SIDE, SIDE))
    begin = perf_counter()
    start = Setting(channels_last=True)
    found = measured(Subject(model, batch, F.cross_entropy), start, steps=10_000)
    cost = perf_counter() - begin
    steps = {"default": _steps(Setting(), batch), "measured": _steps(found.chosen, batch)}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, run in steps.items():
            seconds[name].append(run())
    pairs = zip(seconds["default"], seconds["measured"], strict=True)
    ratio = min(seconds["default"]) / min(seconds["measured"])
    rates = {f"{n}: images a second": round(BATCH / min(s), 1) for n, s in seconds.items()}
    return {
        "claim": "C2",
        "goal": f"≥ {LIMIT} × as fast as PyTorch's default",
        "measured": f"{ratio:.2f} ×: {rates['measured: images a second']} images a second",
        "n": ROUNDS,
        "chosen": str(found.chosen),
        "seconds to choose": round(cost, 2),
        "cosine with float32": next(r.cosine for r in found.rows if r.setting == found.chosen),
        **rates,
        "times as fast": round(ratio, 2),
        "median of pairs": round(median(slow / quick for slow, quick in pairs), 2),
        "limit": LIMIT,
        "held": ratio >= LIMIT,
    }


def _steps(setting: Setting, batch: Batch) -> Callable[[], float]:
    """What makes a few steps and returns the seconds of the quickest."""
    torch.manual_seed(0)
    model = setting.laid_out(MODELS["resnet18"](10, input_shape=(3, SIDE, SIDE)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    inputs = inputs_for(setting, batch.inputs)

    def step() -> float:
        begin = perf_counter()
        with setting.in_effect():
            with setting.autocast("cpu"):
                loss = F.cross_entropy(model(inputs), batch.targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return perf_counter() - begin

    return lambda: min(step() for _ in range(STEPS))


if __name__ == "__main__":
    from benchmarks.__main__ import report

    report("training_plan")
