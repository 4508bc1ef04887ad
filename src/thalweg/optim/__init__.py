"""Optimizers, weight groups, schedules: the tables that recipes choose from."""

from collections.abc import Callable

from torch.optim import Optimizer

from thalweg.optim.adagrad import adagrad
from thalweg.optim.adam import adam, adamw
from thalweg.optim.momentum import momentum, momentum_velocity
from thalweg.optim.muon import muon
from thalweg.optim.nesterov import nesterov
from thalweg.optim.rmsprop import rmsprop
from thalweg.optim.schedule import SCHEDULES, Schedule
from thalweg.optim.sgd import sgd
from thalweg.optim.sign_descent import sign_descent
from thalweg.registry import Registry

__all__ = ["OPTIMIZERS", "SCHEDULES", "Schedule"]

OPTIMIZERS: Registry[Callable[..., Optimizer]] = Registry(
    "optimizer",
    (
        sgd,
        adamw,
        adam,
        momentum,
        momentum_velocity,
        nesterov,
        adagrad,
        rmsprop,
        sign_descent,
        muon,
    ),
)
