"""Settings timed side by side on one model and batch, and checked against plain float32."""

from copy import deepcopy
from dataclasses import dataclass, field, replace
from math import ceil, nan
from time import perf_counter
from typing import NamedTuple

import torch
from torch import nn

from thalweg.borrow import Subject
from thalweg.data.batch import Batch
from thalweg.planning.speed.accuracy_check import Deviation, Gradient, deviation
from thalweg.training.numerics import Setting, inputs_for

GAIN = 0.95  # of the time so far: for less, rounding is not changed
HOPELESS = 1.5  # times the time so far, in the first step
CLEAR = 1.15  # times as slow or as fast after one more turn: what a busy machine hardly fakes twice
SHORT_STEP = 0.1  # s; longer ones are timed on a part of the batch
LONG_STEP = 0.05  # s, of such a part: few of them say enough
PART = 8  # of which one is taken
LEAST_PART = 8  # samples: fewer have no statistics
FEW_STEPS, MANY_STEPS, STEPS_SECONDS = 3, 20, 0.1
_ZERO_START = 0.2  # deviation of what is put in the place of weights that start at zero


class Row(NamedTuple):
    """One setting that was tried."""

    setting: Setting
    seconds: float  # of an update without the optimizer's part; NaN where it failed
    loss_error: float  # share of the float32 loss; NaN where it was too slow to be checked
    cosine: float  # of the gradient with float32's
    verdict: str  # "chosen", or why not


@dataclass(slots=True)
class Contest:
    """The times and errors found so far. Failures are results, too."""

    subject: Subject
    scale: float  # samples of the whole batch for one of the subject's
    reference: Gradient
    _seconds: dict[Setting, float] = field(default_factory=dict)
    _verdicts: dict[Setting, str] = field(default_factory=dict)
    _deviations: dict[Setting, Deviation] = field(default_factory=dict)
    _ready: dict[Setting, Subject] = field(default_factory=dict)
    _gradients: dict[Setting, Gradient] = field(default_factory=dict)  # of the last step of each

    def time_of(self, setting: Setting) -> float:
        """Seconds of a step on the whole batch, about."""
        if setting not in self._seconds:
            self._timed(setting)  # memory, kernels and caches are made ready
            if self._timed(setting) < LONG_STEP:
                self._timed(setting)
        return self._seconds[setting] * self.scale

    def wins(self, challenger: Setting, best: Setting) -> bool:
        """Whether it is faster than the best so far by enough, and exact enough."""
        if challenger in self._seconds:
            return False
        try:
            won = self._duel(challenger, best)
            return won and self.is_exact(challenger)
        except Exception as error:  # kernels, compilers and allocators fail in ways of their own
            self._seconds[challenger] = nan
            self._verdicts[challenger] = f"failed: {' '.join(str(error).split())[:80]}"
            return False

    def is_exact(self, setting: Setting) -> bool:
        """Whether loss and gradient are within the bounds; if not, the verdict says which broke."""
        made = self._gradients.get(setting) or self._step(setting)
        found = deviation(made, self.reference)
        self._deviations[setting], self._verdicts[setting] = found, found.complaint
        return not found.complaint

    def keep_only(self, setting: Setting) -> None:
        """Give back the memory of the others."""
        self._ready = {kept: ready for kept, ready in self._ready.items() if kept == setting}
        self._gradients.clear()

    def rows(self, best: Setting) -> tuple[Row, ...]:
        """All that was tried, in order."""
        return tuple(self._row(setting, best) for setting in self._seconds)

    def _row(self, setting: Setting, best: Setting) -> Row:
        off = self._deviations.get(setting, Deviation(loss_error=nan, cosine=nan, worst_cosine=nan))
        verdict = "chosen" if setting == best else self._verdicts.get(setting) or "not faster"
        seconds = self._seconds[setting] * self.scale
        return Row(setting, seconds, off.loss_error, off.cosine, verdict)

    def _duel(self, challenger: Setting, best: Setting) -> bool:
        """Time both in turns; whether the challenger is faster by enough, and in most turns.

        The least time of each counts: a busy machine only ever adds. So the first step, in which
        memory, kernels and caches are made ready, counts, too, where it is quick all the same.
        """
        first = self._timed(challenger)
        is_long = first > LONG_STEP and not challenger.compile
        if is_long and self._gain(challenger, best) > CLEAR:
            self._timed(best)
            if self._gain(challenger, best) > CLEAR:
                return True
        for _ in range(1 if is_long else 2):  # one may be a hiccup
            first = self._timed(challenger)
            if self._gain(challenger, best) * HOPELESS >= 1:
                break
        else:
            return False
        if first > LONG_STEP:
            return self._long_duel(challenger, best)
        turns = max(FEW_STEPS, min(MANY_STEPS, ceil(STEPS_SECONDS / first))) - 1
        faster = sum(self._is_faster_now(challenger, best) for _ in range(turns))
        return self._gain(challenger, best) * GAIN >= 1 and 2 * faster >= turns

    def _long_duel(self, challenger: Setting, best: Setting) -> bool:
        """Of long steps few say enough: one more of each, and a turn where that leaves it open."""
        self._timed(best)
        if self._gain(challenger, best) > CLEAR:
            return True
        self._timed(challenger)
        if self._gain(challenger, best) < 1:
            return False
        self._is_faster_now(challenger, best)
        return self._gain(challenger, best) * GAIN >= 1

    def _gain(self, challenger: Setting, best: Setting) -> float:
        """Times as fast as the best, by the least times so far."""
        return self._seconds[best] / self._seconds[challenger]

    def _is_faster_now(self, challenger: Setting, best: Setting) -> bool:
        return self._timed(challenger) < self._timed(best)

    def _timed(self, setting: Setting) -> float:
        begin = perf_counter()
        self._step(setting)
        seconds = perf_counter() - begin
        self._seconds[setting] = min(seconds, self._seconds.get(setting, seconds))
        return seconds

    def _step(self, setting: Setting) -> Gradient:
        if setting not in self._ready:
            # The first takes the subject's own, which is a copy already; weights never change.
            model = deepcopy(self.subject.model) if self._seconds else self.subject.model
            self._ready[setting] = _laid_out(replace(self.subject, model=model), setting)
        made = gradient(self._ready[setting], setting)
        self._gradients[setting] = made
        return made


def contest(subject: Subject, start: Setting) -> Contest:
    """A contest on the whole batch, or on a part of it where steps are long."""
    typical = replace(subject, model=_typical(subject.model))
    size = len(subject.batches[0].inputs)
    part = max(LEAST_PART, size // PART)
    if part >= size:
        return _on_part(typical, size)
    small = _on_part(typical, part)
    return small if small.time_of(start) > SHORT_STEP else _on_part(typical, size)


def _on_part(subject: Subject, samples: int) -> Contest:
    inputs, targets = subject.batches[0]
    part = replace(subject, batches=[Batch(inputs[:samples], targets[:samples])])
    exact = gradient(_laid_out(part, Setting()), Setting())
    return Contest(part, len(inputs) / len(part.batches[0].inputs), exact)


def _laid_out(subject: Subject, setting: Setting) -> Subject:
    """The subject in a setting's order of memory."""
    inputs, targets = subject.batches[0]
    batch = Batch(inputs_for(setting, inputs), targets)
    return replace(subject, model=setting.laid_out(subject.model), batches=[batch])


def gradient(subject: Subject, setting: Setting) -> Gradient:
    """Loss and gradient of the subject as it lies; on a GPU this waits for them."""
    torch.manual_seed(0)  # what is left of chance is the same each time
    inputs, targets = subject.batches[0]
    device = inputs.device
    with setting.in_effect():
        with setting.autocast(device.type):
            loss = subject.loss_fn(subject.model(inputs), targets)
        loss.backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    grads = [w.grad for w in subject.model.parameters() if w.grad is not None]
    subject.model.zero_grad(set_to_none=True)
    return Gradient(loss.detach(), grads)


def _typical(model: nn.Module) -> nn.Module:
    """A copy in training mode whose every weight carries signal, and whose chance is switched off.

    Branches that start at zero would hide their errors; masks that are drawn in another order of
    memory would pass for errors.
    """
    chance = torch.Generator().manual_seed(0)
    copy = deepcopy(model).train()
    for module in copy.modules():
        if "drop" in type(module).__name__.lower():
            module.eval()
    with torch.no_grad():
        for weight in copy.parameters():
            if not weight.any():
                noise = torch.empty(weight.shape).normal_(0, _ZERO_START, generator=chance)
                weight.copy_(noise)
    return copy
