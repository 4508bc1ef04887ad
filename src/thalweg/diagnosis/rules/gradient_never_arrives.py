from collections.abc import Mapping

from thalweg.diagnosis.evidence import curve, latest
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import (
    CALLED_WITH_GRADIENT,
    GRADIENT_AT_UPDATE,
    GRADIENT_PRESENT,
    HELD,
    MODULE_CALLED,
    OUTPUT_HIGH,
    OUTPUT_LOW,
)
from thalweg.wording import some

LEAST = 3  # readings


@rule(
    "gradient-never-arrives",
    stage="wiring",
    needs=(HELD, GRADIENT_PRESENT),
    explains=(
        "frozen-random-weights",
        "initialisation-scale",
        "learning-rate-too-low",
        "symmetric-initialisation",
        "vanishing-gradients",
    ),
)
def gradient_never_arrives(history: History) -> Finding | None:
    """Weights that take part in the forward pass have no gradient when the optimizer steps.

    Why it matters: the graph is cut between them and the loss (`detach`, `.data`, `.item`, a round
    trip through numpy, `no_grad`), or `zero_grad` comes between `backward` and `step`, or `step`
    comes before `backward`. The update is then zero, without any error. Gradient checkpointing with
    `use_reentrant=True` cuts it too, where no input of the block asks for gradient: the usual case
    of adapters (LoRA) in a frozen network.

    Evidence: for each trainable weight whose module ran, whether a gradient reached it at any
    reading; the gradient that the optimizer saw; modules that ran with gradient switched off.
    Readings at which no hook could run, as in a compiled `optimizer.step`, say nothing.
    Threshold: exact: none at all of three readings or more. A model whose output is one constant
    has a gradient of zero for another reason and is not reported.
    A note where it is a part of a stack's last block whose like in every earlier block is trained:
    what a block hands on, the last one hands to nobody.
    False alarms: a branch detached on purpose (a probe, a target network left trainable).
    Convicted by: one backward pass on a copy lists which weights receive any gradient.
    Source: PyTorch documentation, "Autograd mechanics"; exact.
    """
    held = [name for name, flag in latest(history, HELD).items() if flag == 1]
    present = history.by_place(GRADIENT_PRESENT)
    called = latest(history, MODULE_CALLED)
    cut = [
        name
        for name in held
        if _is_never(present.get(name, {})) and called.get(name.rpartition(".")[0]) == 1
    ]
    unused = [name for name in cut if _is_unused_in_last_block(name, held, cut)]
    if cut and len(unused) == len(cut) < len(held):
        return _unused(unused, len(held))
    off = _is_switched_off(history, cut)
    if cut and len(cut) < len(held):
        return _finding(cut, len(held), "no gradient ever reaches", switched_off=off)
    if _constant_output(history):
        return None  # nothing flows through a dead output, however well it is wired
    at_update = history.by_place(GRADIENT_AT_UPDATE)
    if held and all(_is_never(at_update.get(name, {})) for name in held):
        return _finding(held, len(held), "the optimizer always steps without any gradient for")
    if not cut:
        return None
    return _finding(cut, len(held), "no gradient ever reaches", switched_off=off)


def _is_never(flags: Mapping[int, float]) -> bool:
    """True if a flag was read often enough, and never set. One that was not read says nothing."""
    return len(flags) >= LEAST and max(flags.values()) == 0


def _is_unused_in_last_block(name: str, held: list[str], cut: list[str]) -> bool:
    """True for a part of a stack's last block whose like in every earlier block is trained.

    Blocks that hand something on, as a residual stack's backcast, have nobody to hand it to at the
    end. Where the whole block has no gradient, it was forgotten.
    """
    parts = name.split(".")
    for place, part in enumerate(parts):
        if not part.isdecimal():
            continue
        alike = [other.split(".") for other in held if _differ_at(other.split("."), parts, place)]
        block = ".".join(parts[: place + 1]) + "."
        rest = [other for other in held if other.startswith(block) and other not in cut]
        if alike and rest and all(".".join(other) not in cut for other in alike):
            return int(part) > max(int(other[place]) for other in alike)
    return False


def _differ_at(one: list[str], other: list[str], place: int) -> bool:
    """True if two names differ in this number alone."""
    return (
        len(one) == len(other)
        and one[place].isdecimal()
        and one[place] != other[place]
        and one[:place] + one[place + 1 :] == other[:place] + other[place + 1 :]
    )


def _unused(names: list[str], held: int) -> Finding:
    return Finding(
        severity="note",
        summary=f"the last block's {some(names)} are trained by nothing: no later block uses them",
        where=names[0],
        evidence={"weights without gradient": float(len(names)), "of": float(held)},
        prescriptions=(
            Prescription(
                change="leave them out of the last block, or give them to no optimizer",
                expect="the same outputs with fewer weights",
            ),
        ),
    )


def _is_switched_off(history: History, names: list[str]) -> bool:
    """True if each of these weights' modules ran in the training passes without gradient only."""
    recorded = history.by_place(CALLED_WITH_GRADIENT)
    modules = {name.rpartition(".")[0] for name in names}
    flags = [max(recorded[module].values()) for module in modules if module in recorded]
    return bool(flags) and max(flags) == 0


def _constant_output(history: History) -> bool:
    """Return whether the model gave the same number for every sample, at every reading."""
    low, high = curve(history, OUTPUT_LOW).values, curve(history, OUTPUT_HIGH).values
    return len(low) == len(high) > 0 and bool((low == high).all())


def _finding(cut: list[str], held: int, what: str, *, switched_off: bool = False) -> Finding:
    return Finding(
        severity="error",
        summary=f"{what} {some(cut)}"
        + (": their modules run with gradient switched off" if switched_off else ""),
        where=cut[0],
        evidence={"weights without gradient": float(len(cut)), "of": float(held)},
        prescriptions=(
            Prescription(
                change="use checkpoint(..., use_reentrant=False), or let the block's inputs ask "
                "for gradient (model.enable_input_require_grads()); take them out of no_grad"
                if switched_off
                else "look between these weights and the loss for detach(), .data, .item(), "
                "numpy or no_grad; and check the order zero_grad, backward, step",
                expect="every weight that took part has a gradient at the update",
            ),
        ),
    )
