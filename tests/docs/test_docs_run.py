"""The README and the documentation do what they say: every block in them is carried out.

A ```python block is run, all of one page in one namespace. Of a ```console block every line that
starts with "$ " is run; every line shown must have been printed, in that order, where a number
stands for any number and "…" for anything. A block after `<!-- not run: reason -->` is not.
"""

import math
import os
import random
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINKED = [*PAGES, ROOT / "CONTRIBUTING.md", *sorted((ROOT / ".github").rglob("*.*"))]
BLOCK = re.compile(
    r"(?P<mark><!-- not run: [^>]+ -->\n)?^```(?P<kind>python|console)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
NUMBER = re.compile(r"[-+]?\d(?:[\d.,:×]|e[-+]?\d)*")


# They train for longer; `make nightly` runs them.
NIGHTLY = {"devices", "forecasting", "questions", "sequences", "text", "text_classification"}


@dataclass
class Block:
    kind: str
    text: str
    place: str


def blocks(page):
    source = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(source):
        if not match["mark"]:
            line = source[: match.start("text")].count("\n") + 1
            yield Block(match["kind"], match["text"], f"{page.relative_to(ROOT)}:{line}")


def with_blocks(pages):
    return [
        pytest.param(page, id=page.stem, marks=[pytest.mark.slow] * (page.stem in NIGHTLY))
        for page in pages
        if any(blocks(page))
    ]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with what the pages speak of (photos, a text, a series); a quiet environment."""
    photos(tmp_path)
    words = ["river", "valley", "stone", "water", "falls", "slope", "down", "the", "a", "of"]
    chance = random.Random(0)
    lines = (" ".join(chance.choices(words, k=8)) for _ in range(500))
    (tmp_path / "input.txt").write_text("\n".join(lines))
    (tmp_path / "commands.csv").write_text("command,actions\n" + "".join(commands()))
    (tmp_path / "sales.csv").write_text("\n".join(["month,sales", *monthly_sales(chance)]))
    moods = {"good": ("lovely", "superb", "moving"), "bad": ("dull", "awful", "hollow")}
    rows = [(" ".join(chance.choices([*words, *moods[mood]], k=9)), mood) for mood in [*moods] * 60]
    (tmp_path / "reviews.csv").write_text("\n".join(map(",".join, [("text", "mood"), *rows])))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("THALWEG_BUDGET_EPOCHS", "20")  # so few images would else get 67
    return tmp_path


def commands():
    """Rows such as "jump twice and run,JUMP JUMP RUN"."""
    verbs, times = ("jump", "run", "walk", "look", "turn"), ("once", "twice", "thrice")
    for first in verbs:
        for number, time in enumerate(times, 1):
            for second in verbs:
                actions = " ".join([first.upper()] * number + [second.upper()])
                yield f"{first} {time} and {second},{actions}\n"


def monthly_sales(chance):
    """A hundred and fifty months with a trend, a season and noise."""
    for n in range(150):
        value = 200 + n + 30 * math.sin(2 * math.pi * n / 12) + chance.gauss(0, 5)
        yield f"{2010 + n // 12}-{n % 12 + 1:02},{value:.2f}"


def photos(folder):
    """Forty scans of each of three digits, under the names that the pages use."""
    pytest.importorskip("sklearn", reason="the photos are scikit-learn's scans")
    from PIL import Image
    from sklearn.datasets import load_digits

    scans = load_digits()
    for target, name in enumerate(("daisy", "rose", "tulip")):
        for number, scan in enumerate(scans.images[scans.target == target][:40]):
            path = folder / "photos" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((scan * 15.9).astype("uint8")).resize((16, 16)).save(path)
    Image.open(folder / "photos/rose/0.png").save(folder / "new.jpg")


@pytest.mark.parametrize("page", with_blocks(PAGES))
def test_every_block_of_a_page_runs(page, desk):
    namespace = {}
    for block in blocks(page):
        if block.kind == "python":
            exec(compile(block.text, block.place, "exec"), namespace)
        else:
            check_console(block)


def check_console(block):
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        done = subprocess.run(
            ["bash", "-c", command], capture_output=True, encoding="utf-8", check=False
        )
        printed = iter(list(map(shape, (done.stdout + done.stderr).splitlines())))
        for line in filter(None, map(shape, shown.splitlines())):
            pattern = re.compile(".*".join(map(re.escape, line.split("…"))))
            assert line == "…" or any(map(pattern.fullmatch, printed)), (
                f"{block.place}: `{command}` does not print {line!r} (there, in that order) but\n"
                f"{done.stdout}{done.stderr}"
            )


def shape(line):
    """What of a line must be the same on every machine: all but numbers and spacing."""
    return " ".join(NUMBER.sub("0", line).split())


def test_what_is_shown_must_have_been_printed():
    check_console(Block("console", "$ echo took 3.5 s; echo done\ntook 12 s\n…\nd…e\n", "here"))
    with pytest.raises(AssertionError, match="does not print"):
        check_console(Block("console", "$ echo took 3 s\ntook 3 min\n", "here"))


def test_every_link_between_pages_leads_somewhere():
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in LINKED
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert dead == []


def test_the_layers_that_are_drawn_are_those_that_are_enforced():
    contract, *_ = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    page = (ROOT / "docs/how_it_works.md").read_text(encoding="utf-8")
    drawn = page.partition("```\ncli\n")[2].partition("```")[0].splitlines()
    assert ["cli", *drawn] == [present(layer) for layer in contract["layers"]]


def present(layer):
    """The layer without the packages in parentheses, which are rooms for what is to come."""
    return " | ".join(name for name in layer.split(" | ") if not name.startswith("("))
