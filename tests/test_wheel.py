"""The built wheel, from an empty folder: nothing comes from the source tree and no file of the product is missing."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SKIPPED = shutil.ignore_patterns("__pycache__", ".*", "build", "dist", "*.egg-info", "tests", "docs")
LOOK = """
import importlib, pathlib, sys
from importlib.resources import files
for name in {modules}:
    module = importlib.import_module(name)
    assert pathlib.Path(module.__file__).is_relative_to({target!r}), module.__file__
assert files("visavis.bot.web").joinpath("index.html").is_file()
from visavis.bot.chat_models import model_folder
assert model_folder("embedded").is_relative_to({target!r})
"""
MODULES = ["visavis.bot.cli", "visavis.bot.app", "visavis.dialogue.manager", "visavis.models.chat_model"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built offline from a copy, so that no `build/` folder of an earlier time gets in."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", ignore=SKIPPED)
    _pip("wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(folder), str(folder / "source"))
    return next(folder.glob("visavis-*.whl"))


def test_every_file_of_the_product_is_in_the_wheel(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    for package in ("bot", "dialogue", "models"):
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".md":
                assert f"visavis/{path.relative_to(ROOT).as_posix()}" in packed


def test_it_shadows_nobody(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"visavis"}


def test_it_runs_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    target, empty = tmp_path / "target", tmp_path / "empty"
    empty.mkdir()
    _pip("install", "--no-deps", "--target", str(target), str(wheel))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VISAVIS"))}
    look = LOOK.format(modules=MODULES, target=str(target))
    code = f"import sys; sys.path.insert(0, {str(target)!r})\n{look}"
    subprocess.run([sys.executable, "-c", code], cwd=empty, env=environment, check=True)
    assert (target / "bin" / "visavis").is_file()


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--no-cache-dir", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PIP_NO_INDEX": "1"})
    assert done.returncode == 0, done.stderr
