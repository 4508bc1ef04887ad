"""`python -m benchmarks [NAME…]`: run the scripts, one claim each, and print what they found.

A script has `main() -> dict`. What it returns is printed, as JSON, with the machine and the
versions that it was found on; `--write` also keeps it in benchmarks/results/NAME.json and renews
the tables of goals in both README.md, as `python -m benchmarks table` does alone.
"""

import json
import sys
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from benchmarks import _table
from benchmarks._peers import NotMeasuredError
from thalweg.record.environment import environment

FOLDER = Path(__file__).parent


def run(arguments: list[str]) -> None:
    if arguments == ["table"]:
        _table.write()
        return
    wanted = [name for name in arguments if name != "--write"] or names()
    if unknown := sorted(set(wanted) - set(names())):
        sys.exit(f"error: there is no benchmark {unknown[0]}\n  fix:  one of {', '.join(names())}")
    for name in wanted:
        report(name, write="--write" in arguments)


def names() -> list[str]:
    """The scripts there are."""
    scripts = [path.stem for path in FOLDER.glob("*.py")]
    packages = [path.parent.name for path in FOLDER.glob("*/__init__.py")]
    return sorted(name for name in scripts + packages if name[0] != "_")


def report(name: str, *, write: bool = False) -> None:
    """Run one script; print, and keep if asked, its result."""
    try:
        found = import_module(f"benchmarks.{name}").main()
    except NotMeasuredError as reason:
        print(f"{name} is not measured: {reason}", file=sys.stderr)
        return
    text = json.dumps(
        {"benchmark": name, "date": _today(), "machine": environment()} | found, indent=2
    )
    print(text)
    if write and not found.get("tiny"):  # a toy run shows that a script works, and nothing else
        (FOLDER / "results").mkdir(exist_ok=True)
        (FOLDER / "results" / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        _table.write()


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


if __name__ == "__main__":
    run(sys.argv[1:])
