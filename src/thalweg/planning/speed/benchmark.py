"""Time candidate numerics alternately on one model and batch; check them against float32."""

from copy import deepcopy
from dataclasses import dataclass, field, replace
from math import ceil, nan
from time import perf_counter
from typing import NamedTuple

import torch
from torch import nn

from thalweg.borrow import Subject, seed_torch
from thalweg.data.batch import Batch, each_tensor, forward, row_count
from thalweg.planning.speed.accuracy_check import Deviation, Gradient, deviation
from thalweg.training.numerics import Numerics, inputs_for

MIN_GAIN = 0.95  # share of the best time: a smaller gain is not worth other rounding
HOPELESS = 1.5  # times the best time, in the first steps
CLEAR = 1.15  # ratio of times after one more round: a busy machine hardly fakes it twice
SHORT_STEP = 0.1  # s; longer ones are timed on a part of the batch
LONG_STEP = 0.05  # s, on such a part: a few steps suffice
PART = 8  # divides the batch
MIN_PART = 8  # samples: fewer have no statistics
FEW_STEPS, MANY_STEPS, STEPS_SECONDS = 3, 20, 0.1
_ZERO_WEIGHT_STD = 0.2  # of the noise that replaces weights that start at zero


class NumericsResult(NamedTuple):
    """Time and errors of one candidate."""

    numerics: Numerics
    seconds: float  # of a step without the optimizer; NaN if it failed
    loss_error: float  # share of the float32 loss; NaN if it was too slow to be checked
    cosine: float  # of its gradient with the gradient in float32
    verdict: str  # "chosen", or why not


@dataclass(slots=True)
class Benchmark:
    """Times and errors of the candidates so far. Failures are results, too."""

    subject: Subject
    scale: float  # samples of the whole batch per sample of the subject's batch
    reference: Gradient
    _seconds: dict[Numerics, float] = field(default_factory=dict)
    _verdicts: dict[Numerics, str] = field(default_factory=dict)
    _deviations: dict[Numerics, Deviation] = field(default_factory=dict)
    _prepared: dict[Numerics, Subject] = field(default_factory=dict)
    _gradients: dict[Numerics, Gradient] = field(default_factory=dict)  # of the last step of each

    def step_seconds(self, numerics: Numerics) -> float:
        """Estimate the seconds of a step on the whole batch."""
        if numerics not in self._seconds:
            self._time_step(numerics)  # warms up memory, kernels and caches
            if self._time_step(numerics) < LONG_STEP:
                self._time_step(numerics)
        return self._seconds[numerics] * self.scale

    def is_better(self, candidate: Numerics, best: Numerics) -> bool:
        """Return whether the candidate is clearly faster than the best so far, and accurate."""
        if candidate in self._seconds:
            return False
        try:
            return self._is_faster(candidate, best) and self.is_accurate(candidate)
        except Exception as error:  # kernels, compilers and allocators fail in ways of their own
            self._seconds[candidate] = nan
            self._verdicts[candidate] = f"failed: {' '.join(str(error).split())[:80]}"
            return False

    def is_accurate(self, numerics: Numerics) -> bool:
        """Return whether loss and gradient keep the bounds; note the violated one as verdict."""
        step = self._gradients.get(numerics) or self._run_step(numerics)
        errors = deviation(step, self.reference)
        self._deviations[numerics], self._verdicts[numerics] = errors, errors.violation
        return not errors.violation

    def free_all_but(self, numerics: Numerics) -> None:
        """Free the models and inputs of all other candidates."""
        self._prepared = {k: v for k, v in self._prepared.items() if k == numerics}
        self._gradients.clear()

    def results(self, best: Numerics) -> tuple[NumericsResult, ...]:
        """The results of all candidates, in the order of their trial."""
        return tuple(self._result(numerics, best) for numerics in self._seconds)

    def _result(self, numerics: Numerics, best: Numerics) -> NumericsResult:
        unknown = Deviation(loss_error=nan, cosine=nan, worst_cosine=nan)
        errors = self._deviations.get(numerics, unknown)
        verdict = "chosen" if numerics == best else self._verdicts.get(numerics) or "not faster"
        seconds = self._seconds[numerics] * self.scale
        return NumericsResult(numerics, seconds, errors.loss_error, errors.cosine, verdict)

    def _is_faster(self, candidate: Numerics, best: Numerics) -> bool:
        """Time both alternately; return whether the candidate is clearly and mostly faster.

        The minimum of each counts, since other load only adds time. So the first step counts, too,
        if it is quick although it warms up memory, kernels and caches.
        """
        first = self._time_step(candidate)
        is_long = first > LONG_STEP and not candidate.compile
        if is_long and self._speedup(candidate, best) > CLEAR:
            self._time_step(best)
            if self._speedup(candidate, best) > CLEAR:
                return True
        for _ in range(1 if is_long else 2):  # one may be an outlier
            first = self._time_step(candidate)
            if self._speedup(candidate, best) * HOPELESS >= 1:
                break
        else:
            return False
        if first > LONG_STEP:
            return self._is_faster_in_long_steps(candidate, best)
        rounds = max(FEW_STEPS, min(MANY_STEPS, ceil(STEPS_SECONDS / first))) - 1
        faster = sum(self._is_faster_now(candidate, best) for _ in range(rounds))
        return self._speedup(candidate, best) * MIN_GAIN >= 1 and 2 * faster >= rounds

    def _is_faster_in_long_steps(self, candidate: Numerics, best: Numerics) -> bool:
        """Compare with few long steps: one more of each, and another round if that is not clear."""
        self._time_step(best)
        if self._speedup(candidate, best) > CLEAR:
            return True
        self._time_step(candidate)
        if self._speedup(candidate, best) < 1:
            return False
        self._is_faster_now(candidate, best)
        return self._speedup(candidate, best) * MIN_GAIN >= 1

    def _speedup(self, candidate: Numerics, best: Numerics) -> float:
        """Speed of the candidate over the best, from the minimum times so far."""
        return self._seconds[best] / self._seconds[candidate]

    def _is_faster_now(self, candidate: Numerics, best: Numerics) -> bool:
        return self._time_step(candidate) < self._time_step(best)

    def _time_step(self, numerics: Numerics) -> float:
        start = perf_counter()
        self._run_step(numerics)
        seconds = perf_counter() - start
        self._seconds[numerics] = min(seconds, self._seconds.get(numerics, seconds))
        return seconds

    def _run_step(self, numerics: Numerics) -> Gradient:
        if numerics not in self._prepared:
            # The first candidate uses the subject's model, a copy already; weights never change.
            model = deepcopy(self.subject.model) if self._seconds else self.subject.model
            self._prepared[numerics] = _prepare(replace(self.subject, model=model), numerics)
        step = loss_and_gradient(self._prepared[numerics], numerics)
        self._gradients[numerics] = step
        return step


def start_benchmark(subject: Subject, start: Numerics) -> Benchmark:
    """A benchmark on the whole batch, or on a part of it if steps are long."""
    typical = replace(subject, model=_representative(subject.model))
    size = row_count(subject.batches[0].inputs)
    part = max(MIN_PART, size // PART)
    if part >= size:
        return _benchmark_on(typical, size)
    on_part = _benchmark_on(typical, part)
    return on_part if on_part.step_seconds(start) > SHORT_STEP else _benchmark_on(typical, size)


def _benchmark_on(subject: Subject, samples: int) -> Benchmark:
    inputs, targets = subject.batches[0]
    few = each_tensor(inputs, lambda tensor: tensor[:samples])
    part = replace(subject, batches=[Batch(few, targets[:samples])])
    exact = loss_and_gradient(_prepare(part, Numerics()), Numerics())
    return Benchmark(part, row_count(inputs) / row_count(few), exact)


def _prepare(subject: Subject, numerics: Numerics) -> Subject:
    """The subject in the memory format of the numerics."""
    inputs, targets = subject.batches[0]
    batch = Batch(inputs_for(numerics, inputs), targets)
    return replace(subject, model=numerics.prepare(subject.model), batches=[batch])


def loss_and_gradient(subject: Subject, numerics: Numerics) -> Gradient:
    """Compute loss and gradient; the memory format stays. Waits for a GPU."""
    seed_torch(0)  # the same dropout each time
    inputs, targets = subject.batches[0]
    device = targets.device
    with numerics.in_effect():
        with numerics.autocast(device.type):
            loss = subject.loss_fn(forward(subject.model, inputs), targets)
        loss.backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    grads = [w.grad for w in subject.model.parameters() if w.grad is not None]
    subject.model.zero_grad(set_to_none=True)
    return Gradient(loss.detach(), grads)


def _representative(model: nn.Module) -> nn.Module:
    """A copy in training mode without zero weights and without dropout.

    Branches that start at zero would hide errors; dropout masks drawn in another memory format
    would look like errors.
    """
    generator = torch.Generator().manual_seed(0)
    copy = deepcopy(model).train()
    for module in copy.modules():
        if "drop" in type(module).__name__.lower():
            module.eval()
    with torch.no_grad():
        for weight in copy.parameters():
            if not weight.any():
                noise = torch.empty(weight.shape).normal_(0, _ZERO_WEIGHT_STD, generator=generator)
                weight.copy_(noise)
    return copy
