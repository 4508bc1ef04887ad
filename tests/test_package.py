"""The installed package: its contents, and the cost of importing it."""

import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

import thalweg
import thalweg.api

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that a user would install, as an open archive."""
    folder = tmp_path_factory.mktemp("wheel")
    command = f"-m pip wheel --quiet --no-deps --disable-pip-version-check --wheel-dir {folder}"
    subprocess.run([sys.executable, *command.split(), ROOT], check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("thalweg-*.whl"))) as archive:
        yield archive


def test_the_wheel_holds_the_package_its_types_and_its_licence(wheel):
    names = set(wheel.namelist())
    sources = {
        f"thalweg/{path.relative_to(ROOT / 'src/thalweg').as_posix()}" for path in _tracked()
    }
    assert sources <= names
    assert "thalweg/py.typed" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert not [name for name in names if not name.startswith("thalweg")]


def _tracked():
    return (ROOT / "src/thalweg").rglob("*.py")


def test_the_wheel_states_its_licence_version_and_needs(wheel):
    name = next(name for name in wheel.namelist() if name.endswith("METADATA"))
    about = Parser().parsestr(wheel.read(name).decode())
    assert about["License-Expression"] == "Apache-2.0"
    assert about["Version"] == thalweg.__version__
    assert about["Requires-Python"] == ">=3.11"
    needed = {re.split(r"[ <>=!;\[]", line)[0] for line in about.get_all("Requires-Dist")}
    assert "torch" in needed
    assert "torchvision" not in needed  # its Linux wheels need the CUDA build of torch


def test_the_version_stands_in_one_place():
    assert version("thalweg") == thalweg.__version__
    places = [
        path
        for path in [ROOT / "pyproject.toml", *_tracked()]
        if f'"{thalweg.__version__}"' in path.read_text(encoding="utf-8")
    ]
    assert places == [ROOT / "src/thalweg/__init__.py"]


@pytest.mark.parametrize("name", thalweg.__all__)
def test_every_public_name_resolves(name):
    assert getattr(thalweg, name) is not None
    assert name in dir(thalweg)


def test_no_module_hides_a_public_name():
    modules = {path.stem for path in Path(thalweg.__file__).parent.iterdir()}
    assert not modules & set(thalweg.__all__)
    assert not [name for name in thalweg.__all__ if isinstance(getattr(thalweg, name), ModuleType)]


def test_the_api_loads_no_torch():
    code = "import sys, thalweg.api; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = thalweg.trian


def test_importing_it_loads_no_heavy_package():
    heavy = ("torch", "numpy", "PIL", "matplotlib", "cyclopts", "rich", "starlette")
    code = f"import sys, thalweg; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_pinned_versions_cover_what_the_project_declares():
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower()
    declared = re.findall(r'^ *"([a-z0-9-]+)>=', _project_table(), flags=re.MULTILINE)
    assert declared
    assert [name for name in declared if f"\n{name}==" not in f"\n{pins}"] == []
    assert "torch==2.13.0" in pins


def _project_table():
    return (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[project.scripts]")[0]
