"""Other watchers of training, each at its defaults, called as a program calls ours."""

from typing import Any

import torch

WORDS = {  # a peer has named the fault if one of these is in what it says
    "missing-zero-grad": ("zero_grad", "accumulat"),
    "weights-not-in-optimizer": ("optimizer", "frozen", "stagnant", "not updat"),
    "frozen-random-weights": ("frozen", "requires_grad", "stagnant"),
    "gradient-never-arrives": ("no grad", "without grad", "detach", "none grad", "zero grad"),
    "wrong-mode-in-training": ("eval mode", "train()"),
    "wrong-mode-in-validation": ("eval()", "train mode"),
    "learning-rate-collapsed": ("schedul", "lr collapse", "decayed"),
    "loss-broadcasts": ("broadcast", "shape"),
    "logits-squashed-twice": ("softmax", "sigmoid"),
    "softmax-over-one-unit": ("softmax",),
    "output-cannot-reach-targets": ("output range", "output activation"),
    "loss-does-not-fit-task": ("loss function", "wrong loss"),
    "loss-summed-over-batch": ("reduction", "summed"),
    "unstable-log": ("log(", "logit"),
    "unscaled-inputs": ("input", "normaliz", "scale"),
    "unscaled-targets": ("target",),
    "inputs-not-finite": ("nan", "inf"),
    "label-noise": ("label",),
    "labels-without-signal": ("label",),
    "class-imbalance": ("imbalance",),
    "unshuffled-batches": ("shuffl", "one class", "single class", "single-class"),
    "train-val-leakage": ("leak", "duplicate"),
    "train-val-shift": ("shift", "distribution"),
    "label-encoding-differs": ("label",),
    "augmentation-destroys-labels": ("augment",),
    "vanishing-gradients": ("vanish",),
    "dead-relu": ("dead", "dying"),
    "saturated-activations": ("saturat",),
    "symmetric-initialisation": ("init", "symmetr"),
    "initialisation-scale": ("init",),
    "initial-loss-above-chance": ("init",),
    "no-nonlinearity": ("linear", "activation function"),
    "learning-rate-too-high": ("lr too high", "learning rate too high", "lower the l", "reduce l"),
    "learning-rate-too-low": ("lr too low", "learning rate too low", "increase l", "raise the l"),
    "stopped-too-early": ("still improving", "more epochs", "train longer"),
    "underfitting": ("underfit",),
    "optimisation-failure": ("vanish", "degrad"),
    "overfitting": ("overfit",),
    "over-regularised": ("regulari", "dropout", "weight decay"),
    "batch-norm-on-tiny-batches": ("batch norm", "batchnorm", "batch size"),
    "learning-rate-restarted": ("restart", "schedul"),
    "loss-oscillates": ("oscillat", "unstable"),
    "loss-not-finite": ("nan", "inf"),
}


class Listener:
    """What a program calls in place of our watcher; `said` is what the peer found."""

    def __init__(self, model: torch.nn.Module, optimizer: Any, about: Any) -> None:
        self.model, self.optimizer, self.about = model, optimizer, about
        self.said: list[str] = []
        self.count = 0
        self.ready()

    def ready(self) -> None: ...

    def step(self, loss: Any, batch: Any = None, logits: Any = None) -> None:
        self.seen(float(loss.detach()))
        self.count += 1

    def seen(self, loss: float) -> None: ...

    def log(self, **named: Any) -> None: ...

    def diagnose(self) -> list[str]:
        return self.said

    def close(self) -> None: ...

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_: object) -> None: ...


class Torchmortem(Listener):
    def ready(self) -> None:
        from torchmortem import Autopsy

        self.autopsy = Autopsy(self.model, optimizer=self.optimizer)
        self.autopsy.attach()

    def seen(self, loss: float) -> None:
        self.autopsy.step(loss=loss)

    def diagnose(self) -> list[str]:
        self.autopsy.detach()
        report = self.autopsy.get_report()
        found = report.findings if report else []
        loud = [f for f in found if str(f.severity).lower().rpartition(".")[2] != "info"]
        return [f"{f.title} {f.summary} {f.category}" for f in loud]


class Gradsnitch(Listener):
    def ready(self) -> None:
        import gradsnitch

        self.monitor = gradsnitch.watch(self.model, self.optimizer, check_every=50)

    def seen(self, loss: float) -> None:
        self.monitor.log(self.count, loss)

    def diagnose(self) -> list[str]:
        return [str(finding) for finding in self.monitor.report()]


class Traintools(Listener):
    def ready(self) -> None:
        from traintools import BatchInspector, GradientHealthMonitor

        self.gradients = GradientHealthMonitor()
        batches = BatchInspector(expected_num_classes=self.about.num_classes)
        for step, batch in enumerate(self.about.batches):
            self.said += batches.inspect(*batch, step=step).warnings

    def seen(self, loss: float) -> None:
        rate = self.optimizer.param_groups[0]["lr"]
        report = self.gradients.inspect(self.model, step=self.count, lr=rate)
        if not report.ok:
            self.said.append(str(report))


class TorchAudit(Listener):
    def ready(self) -> None:
        from torch_audit import autopatch

        self.auditor = autopatch(
            self.model, optimizer=self.optimizer, every_n_steps=50, reporters=[]
        )

    def diagnose(self) -> list[str]:
        result = self.auditor.finish(report=False)
        self.auditor.unpatch()
        loud = [f for f in result.findings if str(f.severity).rpartition(".")[2] not in ("INFO",)]
        return [f"{f.rule_id} {f.message}" for f in loud]


PEERS = {
    "torchmortem": Torchmortem,
    "gradsnitch": Gradsnitch,
    "traintools": Traintools,
    "torch_audit": TorchAudit,
}


def importable(name: str) -> bool:
    """Whether that peer is installed."""
    try:
        __import__(name)
    except ImportError:
        return False
    return True
