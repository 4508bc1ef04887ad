"""Published facts about curvature, reproduced small: which hold, with the numbers seen.

edge: full-batch gradient descent settles where λmax = 2/η (Cohen et al. 2021).
batch_norm: in train mode BN shrinks the outliers (Ghorbani, Krishnan and Xiao 2019); in eval mode,
at the same weights and the same loss, the conclusion is reversed. That the gradient then leaves the
outliers (to a tenth of its norm, there) is not seen on a task as small as this one.
outliers: classes − 1 eigenvalues stand apart early in training (Papyan 2018; Sagun et al. 2018).
minimum_ratio: the share of positive eigenvalues where training stalls (NTU MLDS 2018, HW1-2) is
nowhere near 1; most of the others are numerically zero, so the bare ratio is half a coin toss.
saddle: (1 − w₁w₂)² has eigenvalues ±2 at the origin; steps to leave it from nearby.
batch_size: minima found with small batches are flatter than those of large ones at the same
training loss, and generalise better (Keskar et al. 2017): two claims, each with its own answer.

About three minutes of one core.
"""

import copy
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from thalweg.curvature import (
    Surface,
    critical_point,
    edge_of_stability,
    sharpness,
    spectrum,
    worst_case,
)
from thalweg.curvature.steps import (
    gradient_step,
    saddle_free_newton_step,
    trajectory,
    trust_region_step,
)
from thalweg.curvature.toys import product

SEED = 0
NETS = 100


def main() -> dict[str, Any]:
    facts = {
        "edge": edge(),
        "batch_norm": batch_norm(),
        "outliers": outliers(),
        "minimum_ratio": minimum_ratio(),
        "saddle": saddle(),
        "batch_size": batch_size(),
    }
    return facts | {"holds": {name: fact["holds"] for name, fact in facts.items()}}


def digits(count: int) -> tuple[Tensor, Tensor]:
    data = load_digits()
    order = np.random.default_rng(SEED).permutation(len(data.images))[:count]
    images = torch.tensor(data.images[order], dtype=torch.float32)[:, None] / 16
    return (images - images.mean()) / images.std(), torch.tensor(data.target[order])


def edge(steps: int = 1500) -> dict[str, Any]:
    """Tail of λmax / (2/η) over the last third of full-batch descent, and how often loss rose."""
    torch.manual_seed(SEED)
    inputs = torch.randn(256, 20)
    targets = torch.tanh(inputs @ torch.randn(20, 3) / 3) + 0.3 * torch.randn(256, 3)
    start = nn.Sequential(nn.Linear(20, 40), nn.Tanh(), nn.Linear(40, 32), nn.Tanh())
    start.append(nn.Linear(32, 3))
    rows: dict[str, Any] = {}
    for lr in (0.05, 0.4, 0.6):
        model = copy.deepcopy(start)
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        losses, ratios = [], []
        for step in range(steps):
            if step >= 2 * steps // 3 and step % 25 == 0:
                found = edge_of_stability(
                    model, optimizer, loss_fn=F.mse_loss, batches=[(inputs, targets)]
                )
                ratios.append(found.ratio)
            optimizer.zero_grad()
            loss = F.mse_loss(model(inputs), targets)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        tail = np.diff(losses[2 * steps // 3 :])
        rows[str(lr)] = {
            "ratio": float(np.median(ratios)),
            "range": [float(min(ratios)), float(max(ratios))],
            "loss_rose": float((tail > 0).mean()),
        }
    at_edge = [rows["0.4"]["ratio"], rows["0.6"]["ratio"]]
    holds = all(0.98 <= ratio <= 1.10 for ratio in at_edge) and rows["0.05"]["loss_rose"] == 0
    return {"lr": rows, "holds": holds}


def batch_norm() -> dict[str, Any]:
    """λ₁, λ₁/λ₁₀ and the share of the gradient in the top ten directions, at like losses."""
    torch.manual_seed(SEED)
    targets = torch.randint(0, 10, (512,))
    images = torch.randn(512, 1, 14, 14) + 0.3 * torch.randn(10, 1, 14, 14)[targets]
    batch, rows = [(images, targets)], {}
    for with_norm in (False, True):
        torch.manual_seed(SEED)
        model = _convnet(8, with_norm=with_norm, pooled=7)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        _train_until(model, optimizer, batch[0], loss=1.2, batch_size=64)
        model.train()
        with torch.no_grad():
            for _ in range(100):  # running statistics = the batch's: the same function twice
                model(images)
        for mode in ("train", "eval") if with_norm else ("train",):
            found = spectrum(
                model, F.cross_entropy, batch, top=10, steps=0, probes=0, batch_norm=mode
            )
            with Surface(model, F.cross_entropy, batch, batch_norm=mode) as surface:
                gradient, loss = surface.gradient().double(), surface.loss()
            inside = float((found.top_vectors @ gradient).norm() / gradient.norm())
            rows[f"BN, {mode} mode" if with_norm else "no BN"] = {
                "loss": loss,
                "top": found.top[0],
                "top/tenth": found.top[0] / found.top[9],
                "gradient_in_top_ten": inside,
            }
    train, evaluated, plain = rows["BN, train mode"], rows["BN, eval mode"], rows["no BN"]
    holds = (
        1.5 * train["top/tenth"] < plain["top/tenth"]
        and train["top"] < plain["top"] < evaluated["top"]
        and evaluated["top"] > 2 * train["top"]
    )
    shares = [row["gradient_in_top_ten"] for row in (train, plain, evaluated)]
    return {"rows": rows, "gradient_leaves_the_outliers": shares[0] < 0.2, "holds": holds}


def outliers() -> dict[str, Any]:
    """After which eigenvalue the largest relative gap comes, early and late."""
    images, targets = digits(512)
    images = F.interpolate(images, scale_factor=2, mode="bilinear")
    rows = {}
    for classes in (4, 7, 10):
        chosen = targets < classes
        batch = [(images[chosen], targets[chosen])]
        torch.manual_seed(SEED)
        model = _convnet(12, with_norm=False, classes=classes)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        for stage, share in (("early", 0.6), ("late", 0.01)):
            _train_until(model, optimizer, batch[0], loss=share * float(np.log(classes)))
            found = spectrum(model, F.cross_entropy, batch, top=classes + 6, steps=0, probes=0)
            top = np.array(found.top)
            gaps = top[1:-1] / top[2:]  # after the second at the earliest
            rows[f"{classes} classes, {stage}"] = {
                "outliers": int(np.argmax(gaps)) + 2,
                "gap": float(gaps.max()),
                "top": [round(float(v), 4) for v in top],
            }
    early = [rows[f"{c} classes, early"]["outliers"] == c - 1 for c in (4, 7, 10)]
    return {"rows": rows, "holds": all(early)}


def minimum_ratio() -> dict[str, Any]:
    """1-10-10-1 tanh nets on sin(5πx)/(5πx): shares of positive, zero and negative eigenvalues."""
    inputs = torch.linspace(0, 1, 128, dtype=torch.float64)[:, None] + 1e-9
    targets = torch.sin(5 * torch.pi * inputs) / (5 * torch.pi * inputs)
    shares, losses, naive, depths = [], [], [], []
    for seed in range(NETS):
        torch.manual_seed(seed)
        layers = (nn.Linear(1, 10), nn.Tanh(), nn.Linear(10, 10), nn.Tanh(), nn.Linear(10, 1))
        model = nn.Sequential(*layers).double()
        _settle(model, inputs, targets)
        found = critical_point(model, F.mse_loss, [(inputs, targets)])
        shares.append((found.negative, found.zero, found.positive))
        bare = spectrum_signs(model, inputs, targets)
        naive.append(bare)
        losses.append(found.loss)
        depths.append(found.smallest / found.largest)
    negative, zero, positive = np.median(shares, axis=0).tolist()
    return {
        "nets": NETS,
        "median_loss": float(np.median(losses)),
        "bare_ratio": {"median": float(np.median(naive)), "max": float(np.max(naive))},
        "with_band": {"negative": negative, "zero": zero, "positive": positive},
        "strict_minima": int(sum(p == 1.0 for _, _, p in shares)),
        "median_smallest/largest": float(np.median(depths)),
        "holds": float(np.max(naive)) < 0.9 and zero > 0.2,
    }


def spectrum_signs(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """The bare ratio: eigenvalues above zero, rounding errors included."""
    found = critical_point(model, F.mse_loss, [(inputs, targets)], band=0.0)
    return found.positive


def saddle() -> dict[str, Any]:
    """The exact example, and how many steps each method needs to leave from 0.01 off the saddle."""
    model = _Product()
    found = critical_point(model, F.mse_loss, [(torch.ones(4).double(), torch.ones(4).double())])
    toy, start = product(), torch.tensor([0.01, 0.005], dtype=torch.float64)
    methods = {
        "gradient": gradient_step(0.1),
        "saddle-free Newton": saddle_free_newton_step,
        "trust region": trust_region_step(0.5),
    }
    steps = {}
    for name, step in methods.items():
        path = trajectory(toy, start, step=step, count=500)
        heights = torch.stack([toy.height(place) for place in path])
        steps[name] = int((heights > 1e-3).sum())
    assert found.escape is not None
    first = found.escape.trial_steps[0]
    return {
        "eigenvalues": [found.smallest, found.largest],
        "verdict": found.verdict,
        "first_stride": {"predicted": first.predicted, "measured": first.measured},
        "escape_gains": found.escape.measured,
        "steps_to_loss_1e-3": steps,
        "holds": found.verdict == "saddle"
        and abs(found.smallest + 2) + abs(found.largest - 2) < 1e-12
        and abs(first.measured / first.predicted - 1) < 0.05
        and steps["trust region"] < steps["gradient"],
    }


def batch_size(seeds: int = 5) -> dict[str, Any]:
    """λmax, the largest rise of the loss in a ball, and test accuracy, at a training loss of 0.02.

    Ball: 0.5 in weight space, and 0.05 of each weight ("adaptive"). Plain SGD on 1,000 digits, 16
    or 512 a batch, both at the same rate; at two rates, for the rate moves λmax too.
    """
    images, targets = digits(1797)
    images = images.flatten(1)
    batch, test = (images[:1000], targets[:1000]), (images[1000:], targets[1000:])
    found: dict[str, Any] = {}
    for lr in (0.1, 0.3):
        small, large = (
            [_minimum(seed, batch, test, lr=lr, batch_size=size) for seed in range(seeds)]
            for size in (16, 512)
        )
        found[f"lr {lr}"] = {
            key: {
                "16": float(np.median([row[key] for row in small])),
                "512": float(np.median([row[key] for row in large])),
                "seeds in which 512 is higher": sum(
                    b[key] > a[key] for a, b in zip(small, large, strict=True)
                ),
            }
            for key in small[0]
        }
    higher = {
        key: [row[key]["seeds in which 512 is higher"] for row in found.values()]
        for key in ("top", "rise", "adaptive_rise", "test_accuracy")
    }
    sharper = all(count == seeds for count in higher["top"] + higher["rise"])
    worse = all(count == 0 for count in higher["test_accuracy"])
    return found | {"seeds": seeds, "sharper": sharper, "worse": worse, "holds": sharper}


def _minimum(
    seed: int, batch: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], *, lr: float, **size: int
) -> dict[str, float]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    _train_until(model, optimizer, batch, loss=0.02, **size)
    with Surface(model, F.cross_entropy, [batch]) as surface:
        ball = worst_case(surface, radius=0.5)
        relative = worst_case(surface, radius=0.05, adaptive=True)
    with torch.no_grad():
        right = (model(test[0]).argmax(1) == test[1]).float().mean()
    return {
        "loss": ball.loss,
        "top": sharpness(model, F.cross_entropy, [batch]).value,
        "rise": ball.rise,
        "adaptive_rise": relative.rise,
        "test_accuracy": float(right),
    }


class _Product(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.w2 = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.w1 * self.w2 * x


def _convnet(width: int, *, with_norm: bool, classes: int = 10, pooled: int = 4) -> nn.Sequential:
    model, channels = nn.Sequential(), 1
    for _ in range(3):
        model.append(nn.Conv2d(channels, width, 3, padding=1, bias=not with_norm))
        if with_norm:
            model.append(nn.BatchNorm2d(width))
        model.append(nn.ReLU())
        channels = width
    head = nn.Linear(pooled**2 * width, classes)
    return model.append(nn.AdaptiveAvgPool2d(pooled)).append(nn.Flatten()).append(head)


def _train_until(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor],
    *,
    loss: float,
    batch_size: int = 0,
) -> None:
    """Full-batch descent, or epochs of mini-batches, down to that loss."""
    model.train()
    count = len(batch[1])
    generator = torch.Generator().manual_seed(SEED + 1)
    for _ in range(3000):
        for rows in torch.randperm(count, generator=generator).split(batch_size or count):
            with torch.no_grad():
                if float(F.cross_entropy(model(batch[0]), batch[1])) <= loss:
                    return
            optimizer.zero_grad()
            F.cross_entropy(model(batch[0][rows]), batch[1][rows]).backward()
            optimizer.step()


def _settle(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    """Adam, then LBFGS, as far as it goes."""
    adam = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(300):
        adam.zero_grad()
        F.mse_loss(model(inputs), targets).backward()
        adam.step()
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=300, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        optimizer.zero_grad()
        loss = F.mse_loss(model(inputs), targets)
        loss.backward()
        return float(loss.detach())

    optimizer.step(closure)


if __name__ == "__main__":
    import json

    print(json.dumps(main(), indent=2))
