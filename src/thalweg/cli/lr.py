"""`thalweg lr PATH`: run a learning-rate range test, and suggest a learning rate."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from thalweg.cli.output import print_json
from thalweg.cli.terminal import table
from thalweg.errors import DataError

WIDTH = 40  # characters of the plot
EVERY = 4  # steps for one row of it

if TYPE_CHECKING:
    from thalweg.training.lr_range import LrRange


def lr(
    path: str,
    /,
    *,
    model: str | None = None,
    batch_size: int | None = None,
    steps: int = 100,
    json: bool = False,
) -> None:
    """Train a copy for a hundred steps at a rising learning rate; suggest one. Writes no run.

    Parameters
    ----------
    path: str
        Data, as `thalweg train` takes them.
    model: str
        Name of a network; by default the one that suits the data.
    batch_size: int
        Samples per step; by default the number that suits the data.
    steps: int
        Number of learning rates to try.
    json: bool
        Print JSON instead of a table.
    """
    from thalweg import api

    test = api.find_lr(path, steps=steps, model=model, batch_size=batch_size)
    if json:
        print_json(
            suggestion=test.suggestion if test.fell else None,
            lrs=test.lrs,
            losses=test.losses,
            smoothed=test.smoothed,
        )
        return
    print(table(("lr", "loss", _scale(test)), _rows(test)))
    if not test.fell:
        raise DataError(
            "the loss fell at no learning rate",
            seen=f"{len(test.losses)} steps from {test.lrs[0]:.0e} to {test.lrs[-1]:.0e}",
            fix="more --steps, or check the inputs and targets",
        )
    print(f"\nsuggestion: --lr {test.suggestion:.1e} (a tenth of the rate with the least loss)")


def _ends(test: "LrRange") -> tuple[float, float]:
    """The losses at the left and the right end of the plot: those before the loss diverges."""
    losses = test.smoothed or (0.0,)
    lowest = min(losses)
    return lowest, max(losses[: losses.index(lowest) + 1])


def _scale(test: "LrRange") -> str:
    """The head of the plot: its ends."""
    low, high = (f"{end:.3f}" for end in _ends(test))
    return f"{low}{high:>{WIDTH - len(low)}}"


def _rows(test: "LrRange") -> Iterator[tuple[str, str, str]]:
    """Some of the rates, each with its smoothed loss, as a number and as a dot between the ends."""
    low, high = _ends(test)
    pairs = list(zip(test.lrs, test.smoothed, strict=True))
    shown = sorted({*range(0, len(pairs), EVERY), *_place_of(test, low)})
    for place in shown:
        rate, loss = pairs[place]
        share = (min(loss, high) - low) / (high - low) if high > low else 0.0
        dot = "●" if loss <= high else "▸"  # beyond the right end
        column = WIDTH - 1 if loss > high else round((WIDTH - 1) * share)
        mark = "  least" if loss == low else ""
        yield f"{rate:.1e}", f"{loss:.3f}", " " * column + dot + mark


def _place_of(test: "LrRange", loss: float) -> list[int]:
    return [test.smoothed.index(loss)] if test.smoothed else []
