"""Sound programs, the unusual ones above all: any warning about them is a false alarm."""

from functools import cache
from typing import Any

import torch
from faults.programs import BASES, Then, program, run
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler


def plain(p):
    """As it is."""


def two_lines(p):
    p.told = ()


def told_classes(p):
    p.told = ("num_classes",)


def accumulated(p):
    p.accumulate, p.batch_size = 4, 16


def warm_restarts(p):
    p.scheduler = lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 125)
    p.epochs = 9


def one_cycle(p):
    p.scheduler = lambda o: lr_scheduler.OneCycleLR(o, 4 * p.lr, total_steps=500)


def cosine(p):
    p.scheduler = lambda o: lr_scheduler.CosineAnnealingLR(o, 440)


def decayed_by_epoch(p):
    p.scheduler, p.scheduler_per_step = (lambda o: lr_scheduler.StepLR(o, 4, 0.3)), False


def momentum(p):
    p.optimizer, p.lr = (lambda w, lr: torch.optim.SGD(w, lr=lr, momentum=0.9)), 0.03


def plain_sgd(p):
    p.optimizer, p.lr, p.epochs = torch.optim.SGD, 0.15, 14


def rmsprop(p):
    p.optimizer, p.lr = torch.optim.RMSprop, 1e-3


def smoothed(p):
    p.loss_fn = nn.CrossEntropyLoss(label_smoothing=0.1)


def clipped(p):
    p.clip = 0.5


def decayed(p):
    p.optimizer = lambda w, lr: torch.optim.AdamW(w, lr=lr, weight_decay=0.5)


def small_batches(p):
    p.batch_size, p.lr, p.epochs = 8, p.lr / 3, 5


def big_batches(p):
    p.batch_size, p.epochs, p.lr = 256, 40, p.lr * 2


def cleared_after(p):
    p.zero_grad = "after"


def unit_range(p):
    low = p.train[0].min()
    p.train, p.val = (((x - low) / 2.66, y) for x, y in (p.train, p.val))


def raw_scans(p):
    low = p.train[0].min()
    p.train, p.val = (((x - low) * 6, y) for x, y in (p.train, p.val))


def weighted_imbalance(p):
    keep = torch.rand(len(p.train[1]), generator=torch.Generator().manual_seed(1))
    kept = (p.train[1] < 5) | (keep < 0.25)
    p.train = p.train[0][kept], p.train[1][kept]
    p.loss_fn = nn.CrossEntropyLoss(weight=1 / p.train[1].bincount().float().sqrt())
    p.epochs = 20


def multi_label(p):
    powers = 2 ** torch.arange(4)
    p.train, p.val = ((x, ((y[:, None] // powers) % 2).float()) for x, y in (p.train, p.val))
    p.model = Then(p.model, lambda z: z[:, :4])
    p.loss_fn, p.num_classes = F.binary_cross_entropy_with_logits, None


def binary(p):
    p.train, p.val = ((x, (y > 4).float()) for x, y in (p.train, p.val))
    p.model = Then(p.model, lambda z: z[:, 0])
    p.loss_fn, p.num_classes = F.binary_cross_entropy_with_logits, None


def tiny_validation(p):
    p.val = p.val[0][:20], p.val[1][:20]


def little_data(p):
    p.train = p.train[0][:80], p.train[1][:80]
    p.batch_size, p.epochs = 16, 40


@cache
def trained(base):
    p = program(base, 99)
    run(p, watched=False)
    return p.model.state_dict()


def frozen_backbone(p):
    p.model.load_state_dict(trained(p.base))
    head: Any = p.model[-1] if isinstance(p.model, nn.Sequential) else p.model.head
    for weight in p.model.parameters():
        weight.requires_grad_(False)
    head.reset_parameters()
    for weight in head.parameters():
        weight.requires_grad_(True)
    p.weights = lambda model: [w for w in model.parameters() if w.requires_grad]


def head_in_optimizer(p):
    """The backbone is trained and left out of the optimizer without being frozen."""
    p.model.load_state_dict(trained(p.base))
    head: Any = p.model[-1] if isinstance(p.model, nn.Sequential) else p.model.head
    p.weights = lambda model: list(head.parameters())


def converged(p):
    p.model.load_state_dict(trained(p.base))
    p.lr, p.epochs = p.lr / 10, 6


def fine_tuned(p):
    p.model.load_state_dict(trained(p.base))
    p.train = p.train[0] + 0.2 * torch.randn(p.train[0].shape), p.train[1]
    p.lr = p.lr / 5


def half_precision(p):
    inner = p.model

    class Cast(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, inputs):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.inner(inputs).float()

    p.model = Cast()


def sparse(p):
    for module in p.model.modules():
        if isinstance(module, nn.Linear) and module.out_features >= 64:
            nn.init.constant_(module.bias, -0.4)


def noisy_inputs(p):
    def augment(inputs, targets):
        return inputs + 0.3 * torch.randn_like(inputs), targets

    p.augment = augment


def shifted_inputs(p):
    def augment(inputs, targets):
        grid = F.pad(inputs.view(-1, 1, 8, 8), (1, 1, 1, 1), value=float(inputs.min()))
        i, j = torch.randint(0, 3, (2,)).tolist()
        return grid[:, :, i : i + 8, j : j + 8].reshape(len(inputs), 64), targets

    p.augment, p.epochs = augment, 14


def mixed_up(p):
    def augment(inputs, targets):
        other, share = torch.randperm(len(inputs)), float(torch.rand(()))
        one_hot = F.one_hot(targets, 10).float()
        return (
            share * inputs + (1 - share) * inputs[other],
            share * one_hot + (1 - share) * one_hot[other],
        )

    p.augment, p.epochs = augment, 14


def half_dropped(p):
    for module in p.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.4
    p.epochs = 14


def zero_head(p):
    head: Any = p.model[-1] if isinstance(p.model, nn.Sequential) else p.model.head
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)


def frozen_norms(p):
    p.model.load_state_dict(trained(p.base))
    for module in p.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train = lambda mode=True, module=module: module  # type: ignore[misc]  # its default
            module.eval()
            module.training = False


def gelu(p):
    for name, module in p.model.named_children():
        if isinstance(module, nn.ReLU):
            setattr(p.model, name, nn.GELU())


def tanh(p):
    for name, module in p.model.named_children():
        if isinstance(module, nn.ReLU):
            setattr(p.model, name, nn.Tanh())


def wide(p):
    p.model = nn.Sequential(nn.Linear(64, 1024), nn.ReLU(), nn.Linear(1024, 10))
    p.lr = 5e-4


def log_softmax(p):
    p.model = Then(p.model, lambda z: z.log_softmax(1))
    p.loss_fn = F.nll_loss


def sorted_but_shuffled(p):
    order = p.train[1].argsort()
    p.train = p.train[0][order], p.train[1][order]


def dropped_last(p):
    p.drop_last = True


def one_sample(p):
    p.batch_size, p.epochs, p.lr = 1, 2, p.lr / 4


def step_decay(p):
    p.scheduler = lambda o: lr_scheduler.MultiStepLR(o, [200, 350], gamma=0.1)


def regression_outliers(p):
    p.train[1][::40] += 6
    p.loss_fn = F.smooth_l1_loss


def regression_scaled(p):
    p.train, p.val = ((x, y * 3 + 5) for x, y in (p.train, p.val))


def regression_sigmoid(p):
    p.train, p.val = ((x, torch.sigmoid(y)) for x, y in (p.train, p.val))
    p.model = nn.Sequential(p.model, nn.Sigmoid())


def regression_batch_given(p):
    p.optimizer, p.lr = (lambda w, lr: torch.optim.SGD(w, lr=lr, momentum=0.9)), 0.003


def regression_counts(p):
    p.train, p.val = ((x, (y * 3 + 8).round().clamp(min=0)) for x, y in (p.train, p.val))


def synthetic_regression(p):
    x = torch.randn(600, 5)
    y = (x[:, :1] * x[:, 1:2] + x[:, 2:3].sin() + 0.1 * torch.randn(600, 1)).float()
    p.train, p.val = (x[:450], y[:450]), (x[450:], y[450:])
    p.model = nn.Sequential(nn.Linear(5, 64), nn.Tanh(), nn.Linear(64, 1))
    p.lr, p.epochs = 5e-3, 40


ALL = BASES
NETS = ("mlp", "transformer", "gru")
HEALTHY = {
    plain: (*ALL, "regression"),
    two_lines: (*ALL, "regression"),
    told_classes: ALL,
    accumulated: ALL,
    warm_restarts: ALL,
    one_cycle: ALL,
    cosine: ALL,
    decayed_by_epoch: ALL,
    momentum: ALL,
    plain_sgd: ("mlp", "cnn"),
    rmsprop: ALL,
    smoothed: ALL,
    clipped: ALL,
    decayed: ALL,
    small_batches: ALL,
    big_batches: ("mlp", "cnn", "gru"),
    cleared_after: ALL,
    unit_range: ALL,
    raw_scans: ("mlp", "cnn"),
    weighted_imbalance: ALL,
    multi_label: ALL,
    binary: ALL,
    tiny_validation: ALL,
    little_data: ("mlp", "cnn", "gru"),
    frozen_backbone: ALL,
    head_in_optimizer: ALL,
    converged: ALL,
    fine_tuned: ALL,
    half_precision: ("mlp", "cnn"),
    sparse: ("mlp", "transformer"),
    noisy_inputs: ALL,
    shifted_inputs: ("cnn", "mlp"),
    mixed_up: ALL,
    half_dropped: NETS,
    zero_head: ALL,
    frozen_norms: ("cnn",),
    gelu: ("mlp", "cnn"),
    tanh: ("mlp", "cnn"),
    wide: ("mlp",),
    log_softmax: ALL,
    sorted_but_shuffled: ALL,
    dropped_last: ("cnn",),
    one_sample: ("mlp",),
    step_decay: ALL,
    regression_outliers: ("regression",),
    regression_scaled: ("regression",),
    regression_sigmoid: ("regression",),
    regression_batch_given: ("regression",),
    regression_counts: ("regression",),
    synthetic_regression: ("regression",),
}
RUNS = [(change.__name__, base) for change, bases in HEALTHY.items() for base in bases]


def sound(name, base, seed=0):
    """A sound program of that kind."""
    p = program(base, seed)
    globals()[name](p)
    return p
