"""`thalweg train PATH --compare-scratch`: train by transfer and from scratch, and compare."""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.cli.output import print_json, print_run
from thalweg.cli.settings import Settings
from thalweg.cli.terminal import table
from thalweg.errors import UsageError, printable
from thalweg.runs.progress_line import show_progress
from thalweg.wording import clock_time

if TYPE_CHECKING:
    from thalweg.api import Run


def compare_with_scratch(settings: Settings, out: Path, *, json: bool) -> int:
    """Train both on the same data and split; print the report of the transfer, then both scores."""
    from thalweg import api

    _check_comparable(settings.edits)
    try:
        transferred = _train(settings.edits, out, title="by transfer:")
        edits = {k: v for k, v in settings.edits.items() if not k.startswith("transfer.")}
        scratch = _train(edits | {"transfer.method": "none"}, out, title="from scratch:")
    except api.InterruptedRunError as stop:
        print(printable(str(stop)), file=sys.stderr)
        return stop.exit_code
    if json:
        print_json(transfer=_run_facts(transferred), scratch=_run_facts(scratch))
        return 0
    print_run(transferred.reader, transferred.diagnosis, json=False)
    print(f"\n{_table(transferred, scratch)}")
    return 0


def _check_comparable(edits: Mapping[str, object]) -> None:
    """Raise UsageError if there is no transfer to compare, or several processes would train."""
    from thalweg.data.sources import samples_at
    from thalweg.planning.checks import check_alone
    from thalweg.planning.make_plan import absolute_if_exists
    from thalweg.planning.transfer import implied_transfer

    check_alone()
    if edits.get("devices", 1) != 1:
        raise UsageError(
            "--compare-scratch begins with a transfer, which one process trains",
            seen=f"devices = {edits['devices']}",
            fix="--devices 1; or without --compare-scratch, two commands: --transfer probe, and "
            f"--transfer none --devices {edits['devices']}",
        )
    path = absolute_if_exists(str(edits.get("data.path", "")))
    list_samples = partial(
        samples_at,
        Path(path),
        target=str(edits.get("data.target", "")),
        group=str(edits.get("data.group", "")),
    )
    transfer, note = implied_transfer({**edits, "data.path": path}, list_samples)
    if not transfer:
        raise UsageError(
            "there is no transfer to compare with training from scratch",
            seen=note or "with these data and options, training starts from scratch anyway",
            fix="--transfer probe",
        )


def _train(edits: Mapping[str, object], out: Path, *, title: str) -> "Run":
    from thalweg import api

    progress = api.Progress()
    progress.messages.append(title)
    with show_progress(progress, sys.stderr):
        return api.train(edits=edits, out=out, progress=progress)


def _run_facts(run: "Run") -> dict[str, object]:
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
            start,
            run.reader.meta["model"],
            f"{run.metrics[metric]:.4f}",
            clock_time(_seconds(run)),
            run.path,
        )
        for start, run in (("transfer", transferred), ("from scratch", scratch))
    ]
    return table(("start", "network", metric, "time", "run"), rows)
