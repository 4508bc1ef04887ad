"""The table of instruments. One line each."""

from thalweg.observe.instrument import Instrument
from thalweg.observe.instruments.accuracy import accuracy
from thalweg.observe.instruments.activations import activations
from thalweg.observe.instruments.attention_masks import attention_masks
from thalweg.observe.instruments.baselines import baselines
from thalweg.observe.instruments.batch_composition import batch_composition
from thalweg.observe.instruments.class_weights import class_weights
from thalweg.observe.instruments.distribution_shift import distribution_shift
from thalweg.observe.instruments.dropout import dropout
from thalweg.observe.instruments.duplicates import duplicates
from thalweg.observe.instruments.evaluation import evaluation
from thalweg.observe.instruments.first_nan import first_nan
from thalweg.observe.instruments.frozen_weights import frozen_weights
from thalweg.observe.instruments.gradient_flow import (
    cleared_passes,
    gradient_at_update,
    gradient_flow,
    leftover_gradient,
)
from thalweg.observe.instruments.gradient_norm import gradient_norm
from thalweg.observe.instruments.gradient_ratio import gradient_ratio
from thalweg.observe.instruments.graph_leaves import graph_leaves
from thalweg.observe.instruments.identical_passes import identical_passes
from thalweg.observe.instruments.input_scale import input_scale
from thalweg.observe.instruments.logits_squashed import logits_squashed
from thalweg.observe.instruments.loss_function import loss_function
from thalweg.observe.instruments.loss_rows import loss_rows
from thalweg.observe.instruments.modes import train_modes, val_modes
from thalweg.observe.instruments.nonfinite_inputs import nonfinite_inputs
from thalweg.observe.instruments.norm_statistics import norm_statistics
from thalweg.observe.instruments.outputs import outputs
from thalweg.observe.instruments.own_norms import own_norms
from thalweg.observe.instruments.pass_counts import pass_counts
from thalweg.observe.instruments.sample_independence import sample_independence
from thalweg.observe.instruments.samples_drawn import samples_drawn
from thalweg.observe.instruments.scale_invariance import scale_invariance
from thalweg.observe.instruments.shuffled_labels import shuffled_labels
from thalweg.observe.instruments.step_functions import step_functions
from thalweg.observe.instruments.symmetry import symmetry
from thalweg.observe.instruments.target_among_inputs import target_among_inputs
from thalweg.observe.instruments.targets import chance_loss, targets
from thalweg.observe.instruments.token_order import token_order
from thalweg.observe.instruments.tokens import tokens
from thalweg.observe.instruments.update_ratio import update_ratio

INSTRUMENTS: tuple[Instrument, ...] = (
    gradient_norm,
    gradient_ratio,
    update_ratio,
    leftover_gradient,
    cleared_passes,
    gradient_at_update,
    gradient_flow,
    pass_counts,
    graph_leaves,
    step_functions,
    identical_passes,
    frozen_weights,
    train_modes,
    val_modes,
    loss_function,
    class_weights,
    loss_rows,
    logits_squashed,
    shuffled_labels,
    dropout,
    scale_invariance,
    target_among_inputs,
    attention_masks,
    outputs,
    targets,
    chance_loss,
    tokens,
    input_scale,
    accuracy,
    activations,
    symmetry,
    sample_independence,
    token_order,
    norm_statistics,
    own_norms,
    batch_composition,
    nonfinite_inputs,
    duplicates,
    samples_drawn,
    distribution_shift,
    baselines,
    evaluation,
    first_nan,
)
