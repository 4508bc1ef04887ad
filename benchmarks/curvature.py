"""Curvature beside its peers: CPU seconds and Hessian products, errors, peak memory, monitoring.

curvlinops 3 with scipy's eigsh, PyHessian at its newest and hessian-eigenthings, each as its own
documentation shows it, interleaved with ours in one process on one thread. The peers need an
environment of their own (their dependencies replace a CPU build of torch):

    python -m venv /tmp/peers
    /tmp/peers/bin/pip install torch==2.13.0 scipy einops opt-einsum jaxtyping matplotlib tqdm
    /tmp/peers/bin/pip install --no-deps curvlinops-for-pytorch==3.0.1 hessian-eigenthings \
        backpack-for-pytorch linear_operator unfoldNd einconv
    git clone https://github.com/amirgholami/PyHessian /tmp/pyhessian   # 0.1 on PyPI crashes
    BENCHMARK_PEERS=/tmp/peers/bin/python BENCHMARK_PYHESSIAN=/tmp/pyhessian \
        python -m benchmarks curvature

Ratios are of medians over REPEATS (the four quantities of the larger net are measured once). "all
four": top five, most negative, trace and density; PyHessian has no most negative eigenvalue and is
not charged for it. Ours is measured twice: as it comes, with 60 steps, where the density's error is
that of their plain quadrature after 100 (`density_error`: W1 over the range of the spectrum,
against all eigenvalues of the MLP); and with "equal steps", 100 as theirs.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

SEED, REPEATS = 0, 3
THEIR_STEPS, OUR_STEPS = 100, 60  # Lanczos steps for a density of like error: see `density`
GOALS = {
    "extremes time / curvlinops + eigsh": 0.35,
    "extremes products / curvlinops + eigsh": 0.6,
    "all four time / PyHessian": 0.6,
    "all four time / curvlinops + eigsh": 0.25,
    "all four time / hessian-eigenthings": 0.25,
    "all four time, equal steps / PyHessian": 0.6,
    "all four time, equal steps / curvlinops + eigsh": 0.25,
    "all four time, equal steps / hessian-eigenthings": 0.25,
    "product / gradient, retained": 1.3,
    "product / gradient, recomputed": 2.2,
    "peak memory / PyHessian": 1.1,
    "monitoring share of training": 0.05,
}
Batch = tuple[Tensor, Tensor]
Task = Callable[[nn.Module, Batch], dict[str, Any]]


def main() -> dict[str, Any]:
    python = os.environ.get("BENCHMARK_PEERS", sys.executable)
    source = Path(__file__).parents[1] / "src"
    paths = [str(source), os.environ.get("BENCHMARK_PYHESSIAN", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    environment |= {"OMP_NUM_THREADS": "1"}

    def run(*arguments: str) -> dict[str, Any]:
        command = [python, "-W", "ignore", __file__, *arguments]
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
        return json.loads(done.stdout.splitlines()[-1])

    found = run("time")
    found["peak_mib"] = {name: run("memory", name)["mib"] for name in ALL_FOUR}
    found["ratios"]["peak memory / PyHessian"] = (
        found["peak_mib"]["thalweg"] / found["peak_mib"]["PyHessian"]
    )
    found["goals"] = {
        name: {"goal": goal, "seen": round(found["ratios"][name], 3)}
        | {"met": found["ratios"][name] <= goal}
        for name, goal in GOALS.items()
    }
    return found


def subject(kind: str) -> tuple[nn.Module, Batch]:
    """A net after some training on made-up classes: an MLP of 2,036 weights, a CNN of 39,000."""
    torch.manual_seed(SEED)
    if kind == "mlp":
        inputs = torch.randn(512, 20)
        targets = (inputs @ torch.randn(20, 10) + torch.randn(512, 10)).argmax(1)
        model = nn.Sequential(
            nn.Linear(20, 50), nn.Tanh(), nn.Linear(50, 16), nn.Tanh(), nn.Linear(16, 10)
        )
        return _trained(model, (inputs, targets), steps=30, lr=0.5)
    prototypes = F.interpolate(torch.randn(10, 1, 7, 7), size=(28, 28), mode="bilinear")
    targets = torch.randint(0, 10, (512,))
    inputs = prototypes[targets] + torch.randn(512, 1, 28, 28)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 49, 28),
        nn.ReLU(),
        nn.Linear(28, 10),
    )
    return _trained(model, (inputs, targets), steps=25, lr=0.02)


def _trained(model: nn.Module, batch: Batch, *, steps: int, lr: float) -> tuple[nn.Module, Batch]:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(batch[0]), batch[1]).backward()
        optimizer.step()
    return model.eval(), batch


def ours_extremes(model: nn.Module, batch: Batch) -> dict[str, Any]:
    from thalweg.curvature import spectrum

    found = spectrum(model, F.cross_entropy, [batch], steps=0, probes=0, batch_norm="eval")
    return {"top": found.top, "bottom": found.bottom[0], "products": found.products}


def ours_all(model: nn.Module, batch: Batch, *, steps: int = OUR_STEPS) -> dict[str, Any]:
    from thalweg.curvature import spectrum

    found = spectrum(model, F.cross_entropy, [batch], steps=steps, batch_norm="eval")
    assert found.trace is not None
    row = {"top": found.top, "bottom": found.bottom[0], "products": found.products}
    return row | {"trace": found.trace.value, "interval": [found.trace.low, found.trace.high]}


def _curvlinops(model: nn.Module, batch: Batch) -> tuple[Any, Any, list[int]]:
    from curvlinops import HessianLinearOperator
    from scipy.sparse.linalg import LinearOperator

    weights = list(model.parameters())
    operator = HessianLinearOperator(
        model, nn.CrossEntropyLoss(), weights, [batch], check_deterministic=False
    )
    plain, count = operator.to_scipy(), [0]

    def multiply(vector: Any) -> Any:
        count[0] += 1
        return plain @ vector

    return operator, LinearOperator(plain.shape, matvec=multiply, dtype=plain.dtype), count


def curvlinops_extremes(model: nn.Module, batch: Batch) -> dict[str, Any]:
    from scipy.sparse.linalg import eigsh

    _, plain, count = _curvlinops(model, batch)
    np.random.seed(SEED)  # noqa: NPY002 - eigsh draws its start vector here
    top = eigsh(plain, k=5, which="LA", tol=1e-3, return_eigenvectors=False)
    bottom = eigsh(plain, k=1, which="SA", tol=1e-3, return_eigenvectors=False)
    return {"top": sorted(top.tolist())[::-1], "bottom": float(bottom[0]), "products": count[0]}


def curvlinops_all(model: nn.Module, batch: Batch) -> dict[str, Any]:
    from curvlinops import hutchinson_trace
    from curvlinops.papyan2020traces.spectrum import lanczos_approximate_spectrum

    row = curvlinops_extremes(model, batch)
    operator, _, _ = _curvlinops(model, batch)
    lanczos_approximate_spectrum(operator, THEIR_STEPS)
    trace = float(hutchinson_trace(operator, 40))  # as many probes as ours at most
    return row | {"trace": trace, "products": row["products"] + THEIR_STEPS + 40}


def pyhessian_extremes(model: nn.Module, batch: Batch) -> dict[str, Any]:
    return _pyhessian(model, batch, everything=False)


def pyhessian_all(model: nn.Module, batch: Batch) -> dict[str, Any]:
    return _pyhessian(model, batch, everything=True)


def _pyhessian(model: nn.Module, batch: Batch, *, everything: bool) -> dict[str, Any]:
    package: Any = import_module("pyhessian.hessian")  # the name itself is taken by the class
    count, plain = [0], package.hessian_vector_product

    def counted(*arguments: Any) -> Any:
        count[0] += 1
        return plain(*arguments)

    package.hessian_vector_product = counted
    try:
        operator = package.hessian(model, nn.CrossEntropyLoss(), data=batch, cuda=False)
        row: dict[str, Any] = {"top": operator.eigenvalues(top_n=5)[0]}
        if everything:
            row["trace"] = float(np.mean(operator.trace()))
            operator.density(iter=THEIR_STEPS)
    finally:
        package.hessian_vector_product = plain
        model.zero_grad()
    return row | {"products": count[0]}


def eigenthings_extremes(model: nn.Module, batch: Batch) -> dict[str, Any]:
    import hessian_eigenthings as package

    operator = _eigenthings(model, batch)
    top = package.lanczos(operator, k=5, max_iter=50, which="LA", seed=SEED).eigenvalues
    bottom = package.lanczos(operator, k=1, max_iter=50, which="SA", seed=SEED).eigenvalues
    values = sorted((float(value) for value in top), reverse=True)
    return {"top": values, "bottom": float(bottom[0]), "products": 100}


def eigenthings_all(model: nn.Module, batch: Batch) -> dict[str, Any]:
    import hessian_eigenthings as package

    row, operator = eigenthings_extremes(model, batch), _eigenthings(model, batch)
    package.spectral_density(operator, num_runs=1, lanczos_steps=THEIR_STEPS, seed=SEED)
    trace = package.trace(operator, num_matvecs=99, seed=SEED)
    return row | {"trace": float(trace.estimate), "products": 100 + THEIR_STEPS + 99}


def _eigenthings(model: nn.Module, batch: Batch) -> Any:
    import hessian_eigenthings as package

    return package.HessianOperator(model, [batch], package.supervised_loss(F.cross_entropy))


EXTREMES: dict[str, Task] = {
    "thalweg": ours_extremes,
    "curvlinops + eigsh": curvlinops_extremes,
    "PyHessian": pyhessian_extremes,
    "hessian-eigenthings": eigenthings_extremes,
}
OURS = {"": "thalweg", ", equal steps": "thalweg, equal steps"}
ALL_FOUR: dict[str, Task] = {
    "thalweg": ours_all,
    "thalweg, equal steps": partial(ours_all, steps=THEIR_STEPS),
    "curvlinops + eigsh": curvlinops_all,
    "PyHessian": pyhessian_all,
    "hessian-eigenthings": eigenthings_all,
}


def timed() -> dict[str, Any]:
    """Everything but memory, as it is printed by the process that measures."""
    found: dict[str, Any] = {"seed": SEED, "repeats": REPEATS, "versions": _versions()}
    for kind in ("mlp", "cnn"):
        model, batch = subject(kind)
        truth = _truth(model, batch)
        found[kind] = {"weights": sum(w.numel() for w in model.parameters()), "truth": truth}
        for title, tasks in (("extremes", EXTREMES), ("all four", ALL_FOUR)):
            repeats = 1 if (kind, title) == ("cnn", "all four") else REPEATS
            found[kind][title] = _interleaved(tasks, model, batch, truth=truth, repeats=repeats)
    found["density_error"] = density_errors()
    found["cnn"] |= _product_costs(*subject("cnn"))
    found["ratios"] = _ratios(found["cnn"]) | {"monitoring share of training": _monitoring()}
    found["mlp"]["ratios"] = _task_ratios(found["mlp"])
    return found


def _interleaved(
    tasks: dict[str, Task], model: nn.Module, batch: Batch, *, truth: dict[str, Any], repeats: int
) -> dict[str, Any]:
    rows: dict[str, dict[str, Any]] = {name: {"seconds": []} for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            start = process_time()
            found = task(model, batch)
            rows[name]["seconds"].append(process_time() - start)
            rows[name] |= found
    for row in rows.values():
        row["seconds"] = median(row["seconds"])
        row["top_error"] = float(np.abs(np.array(row["top"]) / truth["top"] - 1).max())
        if "bottom" in row:
            row["bottom_error"] = abs(row["bottom"] / truth["bottom"] - 1)
    return rows


def _truth(model: nn.Module, batch: Batch) -> dict[str, Any]:
    """By scipy on curvlinops in float64, to 1e-7."""
    from copy import deepcopy

    from scipy.sparse.linalg import eigsh

    _, plain, _ = _curvlinops(deepcopy(model).double(), (batch[0].double(), batch[1]))
    top = eigsh(plain, k=5, which="LA", tol=1e-7, return_eigenvectors=False)
    bottom = eigsh(plain, k=1, which="SA", tol=1e-7, return_eigenvectors=False)
    return {"top": sorted(top.tolist())[::-1], "bottom": float(bottom[0])}


def density_errors() -> dict[str, float]:
    """W1 / range on the MLP, mean of ten start vectors."""
    from thalweg.curvature import Surface, dense_matrix, density, hessian, lanczos

    model, batch = subject("mlp")
    with Surface(model, F.cross_entropy, [batch], dtype=torch.float64) as surface:
        truth = np.linalg.eigvalsh(dense_matrix(hessian(surface)).numpy())
    ours, plain = [], []
    with Surface(model, F.cross_entropy, [batch]) as surface:
        operator = hessian(surface)
        for seed in range(10):
            basis = lanczos(operator, min_steps=OUR_STEPS, max_steps=OUR_STEPS, seed=seed)
            seen = density(basis)
            ours.append(_distance(seen.nodes, seen.weights, truth))
            basis = lanczos(operator, min_steps=THEIR_STEPS, max_steps=THEIR_STEPS, seed=seed)
            plain.append(_distance(basis.values, basis.coordinates[0] ** 2, truth))
    return {
        f"ours, {OUR_STEPS} steps": float(np.mean(ours)),
        f"plain quadrature, {THEIR_STEPS} steps": float(np.mean(plain)),
    }


def _distance(nodes: Any, weights: Any, truth: Any) -> float:
    places = np.sort(np.concatenate([nodes, truth]))
    share = np.array([weights[nodes <= place].sum() for place in places])
    real = np.searchsorted(truth, places, side="right") / len(truth)
    area = (np.abs(share - real)[:-1] * np.diff(places)).sum()
    return float(area / (truth[-1] - truth[0]))


def _product_costs(model: nn.Module, batch: Batch) -> dict[str, Any]:
    from thalweg.curvature import Surface, hessian

    with Surface(model, F.cross_entropy, [batch], batch_norm="eval") as surface:
        vector = torch.randn(surface.size).double()
        kept, rebuilt = hessian(surface, graph="keep"), hessian(surface, graph="rebuild")
        work = {
            "gradient": surface.gradient,
            "retained": lambda: kept(vector),
            "recomputed": lambda: rebuilt(vector),
        }
        seconds: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(15):
            for name, call in work.items():
                start = process_time()
                call()
                seconds[name].append(process_time() - start)
    return {"product_seconds": {name: median(times) for name, times in seconds.items()}}


def _monitoring() -> float:
    """CPU seconds of one warm λmax on one batch, over 500 training steps at that batch size."""
    from thalweg.curvature import sharpness

    model, (inputs, targets) = subject("cnn")
    batch = (inputs[:64], targets[:64])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    vector = sharpness(model, F.cross_entropy, [batch]).vector
    start = process_time()
    for step in range(100):
        rows = slice(64 * (step % 8), 64 * (step % 8 + 1))
        optimizer.zero_grad()
        F.cross_entropy(model(inputs[rows]), targets[rows]).backward()
        optimizer.step()
    training = 5 * (process_time() - start)
    start = process_time()
    sharpness(model, F.cross_entropy, [batch], start=vector)
    return (process_time() - start) / training


def _ratios(cnn: dict[str, Any]) -> dict[str, float]:
    costs = cnn["product_seconds"]
    return _task_ratios(cnn) | {
        "product / gradient, retained": costs["retained"] / costs["gradient"],
        "product / gradient, recomputed": costs["recomputed"] / costs["gradient"],
    }


def _task_ratios(rows: dict[str, Any]) -> dict[str, float]:
    extremes, everything = rows["extremes"], rows["all four"]
    peer = "curvlinops + eigsh"
    ratios = {
        f"extremes {word} / {peer}": extremes["thalweg"][key] / extremes[peer][key]
        for word, key in (("time", "seconds"), ("products", "products"))
    }
    for variant, own in OURS.items():
        for name in everything.keys() - OURS.values():
            ratio = everything[own]["seconds"] / everything[name]["seconds"]
            ratios[f"all four time{variant} / {name}"] = ratio
    return ratios


def peak(name: str) -> dict[str, Any]:
    """Peak resident memory of one tool's four quantities, in a process of its own."""
    model, batch = subject("cnn")
    ALL_FOUR[name](model, batch)
    return {"mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("torch", "numpy", "scipy", "curvlinops-for-pytorch", "hessian-eigenthings"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found | {"PyHessian": "git HEAD"}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(timed() if sys.argv[1] == "time" else peak(sys.argv[2])))
