"""`thalweg lr PATH`: run a learning-rate range test, and suggest a learning rate."""

from thalweg.cli.output import print_json
from thalweg.cli.terminal import table
from thalweg.errors import DataError

WIDTH = 40  # characters of the longest bar


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
    tallest = max(test.smoothed[: max(1, len(test.smoothed) // 2)], default=1.0)
    rows = [
        (f"{rate:.1e}", f"{loss:.3f}", "█" * round(WIDTH * min(1.0, loss / tallest)))
        for rate, loss in list(zip(test.lrs, test.smoothed, strict=True))[::4]
    ]
    print(table(("lr", "loss", ""), rows))
    if not test.fell:
        raise DataError(
            "the loss fell at no learning rate",
            seen=f"{len(test.losses)} steps from {test.lrs[0]:.0e} to {test.lrs[-1]:.0e}",
            fix="more --steps, or check the inputs and targets",
        )
    print(f"\nsuggestion: --lr {test.suggestion:.1e} (a tenth of the rate with the least loss)")
