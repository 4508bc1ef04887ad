from collections.abc import Mapping

import numpy as np
import torch

from thalweg.observe.instrument import Measurements, Moment, instrument
from thalweg.record import Quantity
from thalweg.record.quantities import CLASS_COUNT, CLASS_RUN_Z

SHUFFLES = 20  # draws of the null distribution


@instrument(CLASS_COUNT, CLASS_RUN_Z, when="samples")
def batch_composition(moment: Moment) -> Mapping[Quantity, Measurements]:
    """Class counts, and by how much batches hold fewer classes than those of a shuffled order."""
    train = moment.train
    classes = moment.class_labels(train)
    if train is None or classes is None or int(classes.max()) > 10_000:
        return {}
    counts = torch.bincount(classes.clamp_min(0))
    measured: dict[Quantity, Measurements] = {
        CLASS_COUNT: {str(k): float(n) for k, n in enumerate(counts.tolist()) if n}
    }
    z = _class_run_z(classes.numpy(), train.batch_sizes)
    if z is not None:
        measured[CLASS_RUN_Z] = {"": z}
    return measured


def _class_run_z(classes: np.ndarray, batch_sizes: tuple[int, ...]) -> float | None:
    """Standard deviations by which the mean number of classes in a batch lies under its null."""
    if len(batch_sizes) < 4 or max(batch_sizes) < 4 or len(np.unique(classes)) < 2:
        return None
    edges = np.cumsum(batch_sizes)[:-1]

    def mean_classes(order: np.ndarray) -> float:
        return float(np.mean([len(np.unique(part)) for part in np.split(order, edges)]))

    generator = np.random.default_rng(0)
    null = [mean_classes(generator.permutation(classes)) for _ in range(SHUFFLES)]
    spread = max(float(np.std(null)), 0.02)
    return (float(np.mean(null)) - mean_classes(classes)) / spread
