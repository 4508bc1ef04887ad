"""Which rows of the checklist a test or a page names. Usage: python docs/checklist.py [--all]

A row is named by a comment or docstring with the word "checklist" and a colon before its number.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMED = re.compile(r"checklist:((?:\s+[A-Z]\d+,?)+)")
LAST = {  # how many rows each section has; what the toolbox is to cover
    "B": 19,
    "C": 10,
    "D": 11,
    "E": 13,
    "F": 21,
    "G": 9,
    "H": 24,
    "I": 20,
    "J": 9,
    "K": 7,
    "L": 7,
    "M": 12,
    "N": 3,
}


def named(folders: tuple[str, ...] = ("tests", "src/thalweg/lab", "docs")) -> dict[str, list[str]]:
    """Row → the files that name it."""
    found: dict[str, list[str]] = {}
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix not in (".py", ".md") or path == Path(__file__).resolve():
                continue
            for rows in NAMED.findall(path.read_text(encoding="utf-8")):
                for row in re.findall(r"[A-Z]\d+", rows):
                    files = found.setdefault(row, [])
                    if (name := str(path.relative_to(ROOT))) not in files:
                        files.append(name)
    return found


def wanted() -> list[str]:
    return [f"{section}{number}" for section, last in LAST.items() for number in range(1, last + 1)]


def main(arguments: list[str]) -> int:
    found = named()
    covered = [row for row in wanted() if row in found]
    for row in covered:
        print(f"{row:4} {', '.join(found[row])}")
    if "--all" in arguments:
        for row in sorted(found.keys() - set(wanted())):
            print(f"{row:4} {', '.join(found[row])}")
    missing = [row for row in wanted() if row not in found]
    print(f"\n{len(covered)} of {len(wanted())} rows are named; not yet: {' '.join(missing)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
