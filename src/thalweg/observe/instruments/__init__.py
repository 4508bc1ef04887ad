"""The table of instruments. One line each."""

from thalweg.observe.instrument import Instrument
from thalweg.observe.instruments.accuracy import accuracy
from thalweg.observe.instruments.activations import activations
from thalweg.observe.instruments.baselines import baselines
from thalweg.observe.instruments.batch_composition import batch_composition
from thalweg.observe.instruments.distribution_shift import distribution_shift
from thalweg.observe.instruments.duplicates import duplicates
from thalweg.observe.instruments.evaluation import evaluation
from thalweg.observe.instruments.frozen_weights import frozen_weights
from thalweg.observe.instruments.gradient_flow import gradient_flow, leftover_gradient
from thalweg.observe.instruments.gradient_norm import gradient_norm
from thalweg.observe.instruments.gradient_ratio import gradient_ratio
from thalweg.observe.instruments.loss_function import loss_function
from thalweg.observe.instruments.modes import train_modes, val_modes
from thalweg.observe.instruments.nonfinite_inputs import nonfinite_inputs
from thalweg.observe.instruments.outputs import outputs
from thalweg.observe.instruments.symmetry import symmetry
from thalweg.observe.instruments.targets import chance_loss, targets
from thalweg.observe.instruments.update_ratio import update_ratio

INSTRUMENTS: tuple[Instrument, ...] = (
    gradient_norm,
    gradient_ratio,
    update_ratio,
    leftover_gradient,
    gradient_flow,
    frozen_weights,
    train_modes,
    val_modes,
    loss_function,
    outputs,
    targets,
    chance_loss,
    accuracy,
    activations,
    symmetry,
    batch_composition,
    nonfinite_inputs,
    duplicates,
    distribution_shift,
    baselines,
    evaluation,
)
