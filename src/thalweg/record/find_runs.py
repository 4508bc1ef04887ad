"""Find the run that somebody may have meant, where a folder is none."""

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from thalweg.record.schema import DATABASE

DEFAULT_PARENT = Path("runs")  # where the commands put runs
MOST_ENTRIES = 1_000  # of a folder that are looked at


def has_model(folder: Path) -> bool:
    """Return whether the run there ended with a saved model."""
    return (folder / "model" / "model.json").is_file()


def can_be_resumed(folder: Path) -> bool:
    """Return whether a training was begun there: a watched script leaves no recipe."""
    return (folder / DATABASE).is_file() and (folder / "recipe.toml").is_file()


def run_to_name(folder: Path, *, with_model: bool = False) -> str:
    """A fix for an error: the run that `folder` holds or lies in, the newest one, or a command."""
    candidates = chain(_inside(folder), folder.absolute().parents[:2], _inside(DEFAULT_PARENT))
    for run in candidates:
        if has_model(run) if with_model else (run / DATABASE).is_file():
            return f"the folder of a run, such as {run}"
    return "the folder of a run, as `thalweg runs` lists them; `thalweg train PATH` makes one"


def _inside(folder: Path) -> Iterator[Path]:
    """The runs in a folder, and in its folders such as those of a ladder; the newest first."""
    children = _folders(folder)
    runs = [path for path in children if (path / DATABASE).is_file()]
    others = [path for path in children if path not in runs]
    runs += [run for path in others for run in _folders(path) if (run / DATABASE).is_file()]
    yield from sorted(runs, key=lambda run: -(run / DATABASE).stat().st_mtime)


def _folders(folder: Path) -> list[Path]:
    try:
        return [path for path in islice(folder.iterdir(), MOST_ENTRIES) if path.is_dir()]
    except OSError:
        return []
