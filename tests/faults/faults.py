"""Faults, each one change to a sound program, and the rules that name it.

`names` holds every rule that counts as the cause: the one the fault is named for, and those that
say the same thing in other words. `mild` faults hardly move the final accuracy.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch
from faults.programs import BASES, Then, program
from torch import nn
from torch.nn import functional as F

CLASSES = 10


@dataclass(frozen=True)
class Fault:
    apply: Callable
    names: tuple[str, ...]
    bases: tuple[str, ...] = BASES
    mild: bool = False


def layers(model):
    return [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]


def bottom(p):
    first = {"mlp": 0, "cnn": 1}.get(p.base)
    if first is not None:
        return p.model[first]
    return p.model.embed if p.base == "transformer" else p.model.gru


def head(p):
    return p.model[-1] if isinstance(p.model, nn.Sequential) else p.model.head


def no_zero_grad(p):
    p.zero_grad, p.lr = "never", p.lr / 4


def no_zero_grad_sgd(p):
    p.zero_grad, p.optimizer, p.lr = "never", torch.optim.SGD, 3e-4


def not_in_optimizer(p):
    keep = {id(w) for w in head(p).parameters()}
    p.weights = lambda model: [w for w in model.parameters() if id(w) in keep]


def bottom_not_in_optimizer(p):
    drop = {id(w) for w in bottom(p).parameters()}
    p.weights = lambda model: [w for w in model.parameters() if id(w) not in drop]


def stale_optimizer(p):
    old = deepcopy(p.model)
    p.weights = lambda model: list(old.parameters())


def frozen(p):
    for weight in bottom(p).parameters():
        weight.requires_grad_(False)


class Detached(nn.Module):
    """The head on features that let no gradient through."""

    def __init__(self, p):
        super().__init__()
        self.model, self.top = p.model, nn.Linear(10, 10)

    def forward(self, inputs):
        return self.top(self.model(inputs).detach())


def detached(p):
    p.model = Detached(p)


def cleared_between(p):
    p.zero_grad = "between"


def eval_in_training(p):
    p.train_mode = False


def train_in_validation(p):
    p.eval_mode = False


def dropout_in_validation(p):
    p.eval_mode = False
    for module in p.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.3


def dropout_in_forward(p):
    p.model = nn.Sequential(Then(p.model[:-1], F.dropout), p.model[-1])


def log_softmax_over_batch(p):
    p.model, p.loss_fn = Then(p.model, lambda z: z.log_softmax(0)), F.nll_loss


def sequence_first(p):
    p.model.gru.batch_first = False


def scheduler_each_step(p):
    p.scheduler = lambda o: torch.optim.lr_scheduler.StepLR(o, 10, gamma=0.5)


def broadcast(p):
    p.train = p.train[0], p.train[1][:, 0]
    p.val = p.val[0], p.val[1][:, 0]
    p.loss_fn = lambda outputs, targets: ((outputs - targets) ** 2).mean()


def rounded_outputs(p):
    p.model = Then(p.model, lambda z: (8 * z).round() / 8)


def softmax_twice(p):
    p.model = Then(p.model, lambda z: z.softmax(1))


def softmax_module(p):
    p.model = nn.Sequential(p.model, nn.Softmax(dim=1))


def sigmoid_before(p):
    p.model = Then(p.model, torch.sigmoid)


def one_unit_softmax(p):
    p.model = Then(type(p.model)(*p.model[:-1], nn.Linear(64, 1)), lambda z: z.softmax(1))
    p.train = p.train[0], (p.train[1] > 4).float()[:, None]
    p.val = p.val[0], (p.val[1] > 4).float()[:, None]
    p.loss_fn, p.num_classes = F.binary_cross_entropy, None


def sigmoid_output(p):
    p.model = nn.Sequential(p.model, nn.Sigmoid())


def relu_output(p):
    p.model = nn.Sequential(p.model, nn.ReLU())


def tanh_output(p):
    p.model = nn.Sequential(p.model, nn.Tanh())
    p.train = p.train[0], p.train[1] * 5
    p.val = p.val[0], p.val[1] * 5


def one_hot(p):
    p.train = p.train[0], F.one_hot(p.train[1], CLASSES).float()
    p.val = p.val[0], F.one_hot(p.val[1], CLASSES).float()
    p.num_classes = None


def mse_of_softmax(p):
    one_hot(p)
    p.model, p.loss_fn = Then(p.model, lambda z: z.softmax(1)), F.mse_loss


def l1_of_sigmoid(p):
    one_hot(p)
    p.model, p.loss_fn = nn.Sequential(p.model, nn.Sigmoid()), F.l1_loss


def nll_of_softmax(p):
    p.model, p.loss_fn = Then(p.model, lambda z: z.softmax(1)), F.nll_loss


def multi_label_softmax(p):
    one_hot(p)
    p.train[1][:, :5] += (torch.rand(len(p.train[1]), 5) < 0.4).float()
    p.train[1].clamp_(max=1)


def summed(p):
    p.loss_fn = lambda outputs, targets: F.cross_entropy(outputs, targets, reduction="sum")


def summed_sgd(p):
    summed(p)
    p.optimizer, p.lr = torch.optim.SGD, 0.05


def log_by_hand(p):
    p.model = Then(p.model, lambda z: (40 * z).softmax(1))
    p.loss_fn = lambda q, targets: F.nll_loss(q.log(), targets)


def raw_pixels(p):
    p.train, p.val = ((x * 60 + 100, y) for x, y in (p.train, p.val))


def raw_large(p):
    p.train, p.val = ((x * 1000, y) for x, y in (p.train, p.val))


def one_huge_feature(p):
    for inputs, _ in (p.train, p.val):
        inputs[:, ::7] *= 3000


def raw_targets(p):
    p.train, p.val = ((x, y * 77 + 152) for x, y in (p.train, p.val))


def huge_targets(p):
    p.train, p.val = ((x, y * 1e5) for x, y in (p.train, p.val))


def nan_inputs(p):
    p.train[0][5, 3] = float("nan")


def noise(share):
    def apply(p):
        generator = torch.Generator().manual_seed(p.seed)
        wrong = torch.rand(len(p.train[1]), generator=generator) < share
        p.train[1][wrong] = (
            p.train[1][wrong] + torch.randint(1, CLASSES, (int(wrong.sum()),), generator=generator)
        ) % CLASSES

    return apply


def shuffled_labels(p):
    generator = torch.Generator().manual_seed(p.seed)
    for _, targets in (p.train, p.val):
        targets[:] = targets[torch.randperm(len(targets), generator=generator)]


def imbalance(p):
    keep = torch.rand(len(p.train[1]), generator=torch.Generator().manual_seed(1))
    kept = (p.train[1] < 5) | (keep < 0.03)
    p.train = p.train[0][kept], p.train[1][kept]
    p.epochs = 8


def sorted_batches(p):
    order = p.train[1].argsort()
    p.train, p.shuffle = (p.train[0][order], p.train[1][order]), False


def leaked(share):
    def apply(p):
        count = int(share * len(p.val[1]))
        p.train = (
            torch.cat([p.train[0], p.val[0][:count]]),
            torch.cat([p.train[1], p.val[1][:count]]),
        )

    return apply


def val_not_normalised(p):
    p.val = p.val[0] * 6 + 5, p.val[1]


def val_inverted(p):
    p.val = 1.5 - p.val[0], p.val[1]


def val_offset(p):
    p.val = p.val[0], (p.val[1] + 1) % CLASSES


def destroying(p):
    def augment(inputs, targets):
        keep = torch.rand(len(inputs), 64) < 0.15
        return inputs * keep, targets

    p.augment = augment


def deep_sigmoid(p):
    inner = [m for _ in range(6) for m in (nn.Linear(64, 64), nn.Sigmoid())]
    p.model = nn.Sequential(*inner, nn.Linear(64, 10))
    p.optimizer, p.lr = torch.optim.SGD, 0.1


def spikes(p):
    p.optimizer, p.lr = torch.optim.SGD, 1.2


def dead(p):
    for layer in layers(p.model)[:-1]:
        nn.init.constant_(layer.bias, -20.0) if layer.bias is not None else None
    if p.base == "cnn":
        for module in p.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.constant_(module.bias, -6.0)


def dying(p):
    for layer in layers(p.model)[:1]:
        if layer.bias is None:
            layer.bias = nn.Parameter(torch.zeros(layer.out_channels))
        nn.init.constant_(layer.bias, -10.0)
    if p.base == "cnn":
        nn.init.constant_(p.model[2].bias[:14], -8.0)


def saturated_tanh(p):
    p.model = nn.Sequential(
        nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10)
    )
    for layer in layers(p.model)[:-1]:
        nn.init.normal_(layer.weight, std=3.0)
    p.optimizer, p.lr = torch.optim.SGD, 0.01


def saturated_sigmoid(p):
    saturated_tanh(p)
    p.model[1] = p.model[3] = nn.Sigmoid()
    p.model[0].weight.data *= 4


def zeros(p):
    for weight in p.model.parameters():
        if weight.ndim >= 2:
            nn.init.zeros_(weight)


def constants(p):
    for layer in layers(p.model)[:-1]:
        nn.init.constant_(layer.weight, 0.02)


def tiny_init(p):
    for weight in p.model.parameters():
        if weight.ndim >= 2:
            weight.data *= 0.003
    p.optimizer, p.lr = torch.optim.SGD, 0.05


def big_init(p):
    for weight in p.model.parameters():
        if weight.ndim >= 2:
            weight.data *= 10


def big_head(p):
    head(p).weight.data *= 30


def linear_only(p):
    for name, module in p.model.named_children():
        if isinstance(module, nn.ReLU):
            setattr(p.model, name, nn.Identity())


def rate(factor, optimizer=None):
    def apply(p):
        if optimizer is not None:
            p.optimizer, p.lr = optimizer, 0.1
        p.lr *= factor

    return apply


def too_short(p):
    p.epochs, p.lr, p.batch_size = 1, p.lr / 3, 24


def bottleneck(p):
    dim = {"mlp": 64, "cnn": 512, "transformer": 32, "gru": 48}[p.base]
    slim = nn.Sequential(nn.Linear(dim, 1), nn.Linear(1, 10))
    if isinstance(p.model, nn.Sequential):
        p.model[-1] = slim
    else:
        p.model.head = slim


def deep_plain(p):
    inner = [m for _ in range(16) for m in (nn.Linear(64, 64), nn.ReLU())]
    p.model = nn.Sequential(*inner, nn.Linear(64, 10))


def few_samples(p):
    count = 60
    p.train = p.train[0][:count], p.train[1][:count]
    noise(0.3)(p)
    p.epochs, p.batch_size = 120, 20


def few_samples_val(p):
    count = 40
    p.train = p.train[0][:count], p.train[1][:count]
    noise(0.2)(p)
    p.epochs, p.batch_size, p.lr = 200, 20, 4e-3


def much_too_long(p):
    p.epochs, p.lr = 150, 5e-3
    p.model[2].p = 0.0


def heavy_dropout(p):
    found = [m for m in p.model.modules() if isinstance(m, nn.Dropout)]
    for module in found:
        module.p = 0.95
    if not found:
        p.model[-1] = nn.Sequential(nn.Dropout(0.97), p.model[-1])


def heavy_decay(p):
    p.optimizer = lambda weights, lr: torch.optim.AdamW(weights, lr=lr, weight_decay=20.0)


def tiny_batches(p):
    p.batch_size, p.epochs, p.drop_last = 2, 1, True


def cosine_too_short(p):
    p.scheduler = lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 200)
    p.lr *= 8


def restarted(p):
    p.scheduler = lambda o: torch.optim.lr_scheduler.LambdaLR(
        o, lambda k: 1e-2 if 200 <= k < 380 else (30.0 if k >= 380 else 1.0)
    )


def oscillating(p):
    p.optimizer, p.lr = (lambda w, lr: torch.optim.SGD(w, lr=lr, momentum=0.9)), 0.35


def clipped_away(p):
    p.optimizer, p.lr, p.clip = (lambda w, lr: torch.optim.SGD(w, lr=lr)), 0.05, 1e-3


HIGH = ("learning-rate-too-high",)
LOW = ("learning-rate-too-low",)
FAULTS = {
    "missing zero_grad": Fault(no_zero_grad, ("missing-zero-grad",)),
    "missing zero_grad, SGD": Fault(no_zero_grad_sgd, ("missing-zero-grad",), mild=True),
    "only the head in the optimizer": Fault(not_in_optimizer, ("weights-not-in-optimizer",)),
    "bottom not in the optimizer": Fault(
        bottom_not_in_optimizer, ("weights-not-in-optimizer",), mild=True
    ),
    "stale optimizer": Fault(stale_optimizer, ("weights-not-in-optimizer",)),
    "frozen at random": Fault(frozen, ("frozen-random-weights",), mild=True),
    "detached": Fault(detached, ("gradient-never-arrives",)),
    "cleared before the step": Fault(cleared_between, ("gradient-never-arrives",)),
    "eval mode in training": Fault(eval_in_training, ("wrong-mode-in-training",), mild=True),
    "train mode in validation": Fault(
        train_in_validation, ("wrong-mode-in-validation",), mild=True
    ),
    "dropout in validation": Fault(
        dropout_in_validation, ("wrong-mode-in-validation",), ("mlp", "transformer", "gru")
    ),
    "dropout made in forward": Fault(
        dropout_in_forward, ("dropout-in-eval-mode",), ("mlp", "cnn"), mild=True
    ),
    "softmax over the batch": Fault(log_softmax_over_batch, ("samples-mixed-in-batch",)),
    "batch_first left out": Fault(sequence_first, ("samples-mixed-in-batch",), ("gru",)),
    "scheduler each step": Fault(scheduler_each_step, ("learning-rate-collapsed",)),
    "loss broadcasts": Fault(broadcast, ("loss-broadcasts",), ("regression",)),
    "rounded outputs": Fault(rounded_outputs, ("gradient-rounded-away",)),
    "softmax twice": Fault(softmax_twice, ("logits-squashed-twice",), mild=True),
    "softmax module": Fault(softmax_module, ("logits-squashed-twice",), mild=True),
    "sigmoid before cross-entropy": Fault(sigmoid_before, ("logits-squashed-twice",), mild=True),
    "softmax over one unit": Fault(one_unit_softmax, ("softmax-over-one-unit",), ("mlp",)),
    "sigmoid output": Fault(sigmoid_output, ("output-cannot-reach-targets",), ("regression",)),
    "relu output": Fault(relu_output, ("output-cannot-reach-targets",), ("regression",)),
    "tanh output": Fault(tanh_output, ("output-cannot-reach-targets",), ("regression",)),
    "squared error of a softmax": Fault(mse_of_softmax, ("loss-does-not-fit-task",), mild=True),
    "absolute error of a sigmoid": Fault(l1_of_sigmoid, ("loss-does-not-fit-task",)),
    "nll of probabilities": Fault(nll_of_softmax, ("loss-does-not-fit-task",), mild=True),
    "cross-entropy of several labels": Fault(multi_label_softmax, ("loss-does-not-fit-task",)),
    "summed loss": Fault(summed, ("loss-summed-over-batch",), mild=True),
    "summed loss, SGD": Fault(summed_sgd, ("loss-summed-over-batch",)),
    "logarithm by hand": Fault(log_by_hand, ("unstable-log",)),
    "raw pixels": Fault(raw_pixels, ("unscaled-inputs",)),
    "inputs of thousands": Fault(raw_large, ("unscaled-inputs",)),
    "one huge feature": Fault(one_huge_feature, ("unscaled-inputs",)),
    "raw targets": Fault(raw_targets, ("unscaled-targets",), ("regression",)),
    "huge targets": Fault(huge_targets, ("unscaled-targets",), ("regression",)),
    "NaN in inputs": Fault(nan_inputs, ("inputs-not-finite",)),
    "40 % label noise": Fault(noise(0.4), ("label-noise",)),
    "15 % label noise": Fault(noise(0.15), ("label-noise",), mild=True),
    "shuffled labels": Fault(shuffled_labels, ("labels-without-signal",)),
    "imbalance": Fault(imbalance, ("class-imbalance",)),
    "sorted batches": Fault(sorted_batches, ("unshuffled-batches",)),
    "leaked, all": Fault(leaked(1.0), ("train-val-leakage",), mild=True),
    "leaked, a tenth": Fault(leaked(0.1), ("train-val-leakage",), mild=True),
    "val not normalised": Fault(val_not_normalised, ("train-val-shift",)),
    "val inverted": Fault(val_inverted, ("train-val-shift",)),
    "val labels offset": Fault(val_offset, ("label-encoding-differs",)),
    "augmentation destroys": Fault(destroying, ("augmentation-destroys-labels",)),
    "deep sigmoid": Fault(deep_sigmoid, ("vanishing-gradients",), ("mlp",)),
    "dead units": Fault(dead, ("dead-relu",), ("mlp", "cnn", "transformer")),
    "mostly dead units": Fault(dying, ("dead-relu",), ("mlp", "cnn"), mild=True),
    "saturated tanh": Fault(
        saturated_tanh, ("saturated-activations", "initialisation-scale"), ("mlp",), mild=True
    ),
    "saturated sigmoid": Fault(
        saturated_sigmoid, ("saturated-activations", "initialisation-scale"), ("mlp",)
    ),
    "zero weights": Fault(zeros, ("symmetric-initialisation",)),
    "constant weights": Fault(
        constants, ("symmetric-initialisation",), ("mlp", "cnn", "transformer"), mild=True
    ),
    "tiny weights": Fault(tiny_init, ("initialisation-scale",), ("mlp", "transformer", "gru")),
    "big weights": Fault(
        big_init, ("initial-loss-above-chance", "initialisation-scale"), mild=True
    ),
    "big head": Fault(big_head, ("initial-loss-above-chance", "initialisation-scale"), mild=True),
    "no activations": Fault(linear_only, ("no-nonlinearity",), ("mlp",), mild=True),
    "rate × 1000": Fault(rate(1000), HIGH),
    "rate × 300": Fault(rate(300), HIGH),
    "rate × 1000, SGD": Fault(rate(300, torch.optim.SGD), HIGH),
    "rate / 1000": Fault(rate(1e-3), LOW),
    "rate / 300": Fault(rate(1 / 300), LOW),
    "rate / 1000, SGD": Fault(rate(1e-3, torch.optim.SGD), LOW),
    "clipped away": Fault(clipped_away, ("clipping-too-tight",)),
    "stopped too early": Fault(
        too_short, ("stopped-too-early", "learning-rate-too-low"), ("mlp", "transformer", "gru")
    ),
    "bottleneck": Fault(bottleneck, ("underfitting", "optimisation-failure")),
    "deep and plain": Fault(
        deep_plain,
        ("optimisation-failure", "vanishing-gradients", "initialisation-scale"),
        ("mlp",),
    ),
    "few noisy samples": Fault(few_samples, ("overfitting", "label-noise")),
    "very few samples": Fault(few_samples_val, ("overfitting", "label-noise"), ("mlp", "gru")),
    "much too long": Fault(much_too_long, ("overfitting",), ("regression",)),
    "heavy dropout": Fault(heavy_dropout, ("over-regularised",)),
    "heavy decay": Fault(heavy_decay, ("over-regularised",)),
    "batch norm on two samples": Fault(tiny_batches, ("batch-norm-on-tiny-batches",), ("cnn",)),
    "rate restarted": Fault(restarted, ("learning-rate-restarted", "learning-rate-too-high")),
    "oscillating": Fault(
        oscillating, ("loss-oscillates", "learning-rate-too-high"), ("mlp", "cnn"), mild=True
    ),
}


def faulty(name, base, seed=0):
    """A program with that fault."""
    p = program(base, seed)
    FAULTS[name].apply(p)
    return p
