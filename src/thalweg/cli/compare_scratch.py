"""`thalweg train PATH --compare-scratch`: by transfer and from scratch, side by side."""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.cli.output import print_json, print_run
from thalweg.cli.progress import painted
from thalweg.cli.settings import Settings
from thalweg.cli.terminal import table
from thalweg.errors import UsageError, printable
from thalweg.wording import clock_time

if TYPE_CHECKING:
    from thalweg.api import Run


def compared(settings: Settings, out: Path, *, json: bool) -> int:
    """Two runs on the same data and split; the first one's report, and what both came to."""
    from thalweg import api

    _check(settings.edits)
    try:
        transferred = _run(settings.edits, out, said="by transfer:")
        kept = {k: v for k, v in settings.edits.items() if not k.startswith("transfer.")}
        scratch = _run(kept | {"transfer.method": "none"}, out, said="from scratch:")
    except api.InterruptedRunError as stop:
        print(printable(str(stop)), file=sys.stderr)
        return stop.exit_code
    if json:
        found = {"transfer": transferred, "scratch": scratch}
        print_json(**{name: _facts(run) for name, run in found.items()})
        return 0
    print_run(transferred.reader, transferred.diagnosis, json=False)
    print(f"\n{_table(transferred, scratch)}")
    return 0


def _check(edits: Mapping[str, object]) -> None:
    """Raises: UsageError where nothing would be compared, or one side could not be trained."""
    from thalweg.data.sources import samples_at
    from thalweg.planning.checks import check_alone
    from thalweg.planning.make_plan import from_root
    from thalweg.planning.transfer import implied_transfer

    check_alone()
    if edits.get("devices", 1) != 1:
        raise UsageError(
            "--compare-scratch begins with a transfer, which one process trains",
            seen=f"devices = {edits['devices']}",
            fix="--devices 1; or without --compare-scratch, two commands: --transfer probe, and "
            f"--transfer none --devices {edits['devices']}",
        )
    path = from_root(str(edits.get("data.path", "")))
    list_samples = partial(samples_at, Path(path), target=str(edits.get("data.target", "")))
    transfer, note = implied_transfer({**edits, "data.path": path}, list_samples)
    if not transfer:
        raise UsageError(
            "there is no transfer to compare with training from scratch",
            seen=note or "these data, trained with these options, begin from scratch anyway",
            fix="--transfer probe",
        )


def _run(edits: Mapping[str, object], out: Path, *, said: str) -> "Run":
    from thalweg import api

    progress = api.Progress()
    progress.messages.append(said)
    with painted(progress, sys.stderr):
        return api.train(edits=edits, out=out, progress=progress)


def _facts(run: "Run") -> dict[str, object]:
    return {
        "path": str(run.path),
        "model": run.reader.meta["model"],
        "metrics": dict(run.metrics),
        "seconds": _seconds(run),
    }


def _seconds(run: "Run") -> float:
    return float(sum(run.reader.meta.get("time_spent", {}).values()))


def _table(transferred: "Run", scratch: "Run") -> str:
    metric = str(transferred.reader.meta["headline_metric"])
    rows = [
        (
            how,
            run.reader.meta["model"],
            f"{run.metrics[metric]:.4f}",
            clock_time(_seconds(run)),
            run.path,
        )
        for how, run in (("transfer", transferred), ("from scratch", scratch))
    ]
    return table(("how", "network", metric, "time", "run"), rows)
