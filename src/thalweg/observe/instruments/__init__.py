"""The table of instruments. One line each."""

from thalweg.observe.instrument import Instrument
from thalweg.observe.instruments.accuracy import accuracy
from thalweg.observe.instruments.activations import inside
from thalweg.observe.instruments.baseline import baselines
from thalweg.observe.instruments.dataset import composition, copies, gaps, shift
from thalweg.observe.instruments.evaluation import evaluation
from thalweg.observe.instruments.gradient_norm import gradient_norm
from thalweg.observe.instruments.gradient_ratio import gradient_ratio
from thalweg.observe.instruments.outputs import chance_loss, loss_function, outputs, targets
from thalweg.observe.instruments.symmetry import symmetry
from thalweg.observe.instruments.update_ratio import update_ratio
from thalweg.observe.instruments.wiring import (
    frozen_weights,
    leftover_gradient,
    train_modes,
    val_modes,
    who_learns,
)

INSTRUMENTS: tuple[Instrument, ...] = (
    gradient_norm,
    gradient_ratio,
    update_ratio,
    leftover_gradient,
    who_learns,
    frozen_weights,
    train_modes,
    val_modes,
    loss_function,
    outputs,
    targets,
    chance_loss,
    accuracy,
    inside,
    symmetry,
    composition,
    gaps,
    copies,
    shift,
    baselines,
    evaluation,
)
