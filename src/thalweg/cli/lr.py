"""`thalweg lr PATH`: which learning rates train, and one to train with."""

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
    """Try rising learning rates on a copy for a hundred steps, and suggest one. Trains nothing.

    Parameters
    ----------
    path: str
        What `thalweg train` takes.
    model: str
        A network's name; by default what suits the data.
    batch_size: int
        Samples per step; by default what suits the data.
    steps: int
        How many rates to try.
    json: bool
        Print JSON instead of a table.
    """
    from thalweg import api

    found = api.find_lr(path, steps=steps, model=model, batch_size=batch_size)
    if json:
        print_json(
            suggestion=found.suggestion if found.fell else None,
            lrs=found.lrs,
            losses=found.losses,
            smoothed=found.smoothed,
        )
        return
    top = max(found.smoothed[: max(1, len(found.smoothed) // 2)], default=1.0)
    rows = [
        (f"{rate:.1e}", f"{loss:.3f}", "█" * round(WIDTH * min(1.0, loss / top)))
        for rate, loss in list(zip(found.lrs, found.smoothed, strict=True))[::4]
    ]
    print(table(("lr", "loss", ""), rows))
    if not found.fell:
        raise DataError(
            "the loss fell at no learning rate",
            seen=f"{len(found.losses)} steps from {found.lrs[0]:.0e} to {found.lrs[-1]:.0e}",
            fix="more --steps, or look at the inputs and targets",
        )
    print(f"\nsuggestion: --lr {found.suggestion:.1e} (a tenth of where the loss is least)")
