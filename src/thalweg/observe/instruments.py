"""The table of instruments. One line each."""

from thalweg.observe.accuracy import accuracy
from thalweg.observe.baseline import baselines
from thalweg.observe.data import composition, copies, gaps, shift
from thalweg.observe.evaluation import evaluation
from thalweg.observe.gradient_norm import gradient_norm
from thalweg.observe.gradient_ratio import gradient_ratio
from thalweg.observe.initialisation import symmetry
from thalweg.observe.instrument import Instrument
from thalweg.observe.outputs import chance_loss, loss_function, outputs, targets
from thalweg.observe.probe import inside
from thalweg.observe.update_ratio import update_ratio
from thalweg.observe.wiring import (
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
