"""A wheel carries everything the package reads, and works away from the checkout."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import darts_hpc

ROOT = Path(__file__).parents[2]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
OFFLINE = ["--no-index", "--no-deps", "--no-cache-dir"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel from a copy of the sources, so that the checkout stays clean."""
    source = tmp_path_factory.mktemp("source")
    for folder in ("darts_hpc", "configs"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    wheels = tmp_path_factory.mktemp("wheels")
    subprocess.run([*PIP, "wheel", "-q", *OFFLINE, "--no-build-isolation", "-w", wheels, source], check=True)
    return next(wheels.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment with nothing but the wheel, and what it depends on from the one that tests it."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    subprocess.run([*PIP, "--python", folder / "bin" / "python", "install", "-q", *OFFLINE, wheel], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    return folder


@pytest.fixture(scope="module")
def elsewhere(environment: Path, tmp_path_factory: pytest.TempPathFactory):
    """Return a function that runs a program of the environment, far from the checkout."""
    cwd = tmp_path_factory.mktemp("elsewhere")

    def run(program: str, *args: str) -> str:
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [environment / "bin" / program, *args]
        done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.replace(str(environment), "ENV")

    return run


def test_wheel_holds_every_file_of_the_package_and_every_preset(wheel: Path):
    held = set(zipfile.ZipFile(wheel).namelist())
    package = [path for path in (ROOT / "darts_hpc").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert any(path.name.startswith("digits") for path in package)
    assert {path.relative_to(ROOT).as_posix() for path in package} <= held
    presets = [path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").glob("*/*.yaml")]
    assert presets
    assert {f"darts_hpc/{preset}" for preset in presets} <= held


def test_installed_wheel_reads_its_own_presets(elsewhere):
    program = """
import darts_hpc
from darts_hpc.config import cli, train_search
cfg = cli.parse_config(train_search.SearchConfig, ["--config", "configs/search/digits.yaml"])
print(darts_hpc.__file__, cfg.data.dataset)
"""
    place, dataset = elsewhere("python", "-c", program).split()
    assert place.startswith("ENV/lib/python") and place.endswith("site-packages/darts_hpc/__init__.py")
    assert dataset == "digits"


def test_installed_wheel_runs_an_entry_by_both_spellings(elsewhere):
    assert "usage: python -m darts_hpc.visualize" in elsewhere("python", "-m", "darts_hpc.visualize", "--help")
    assert "usage: darts visualize" in elsewhere("darts", "visualize", "--help")


@pytest.mark.slow
def test_installed_wheel_searches_and_trains_a_cell_of_the_digits(elsewhere):
    program = """
import darts_hpc
short = {"epochs": 1, "device": "cpu", "tensorboard": False, "memory_check": "off"}
found = darts_hpc.search_cell(config="configs/search/tiny.yaml", space="s2", supernet="plain", **short)
print(darts_hpc.train_cell(config="configs/train/tiny.yaml", arch=found.folder, **short).result["status"])
"""
    assert elsewhere("python", "-c", program).splitlines()[-1] == "finished"


def test_installed_wheel_has_its_command(environment: Path, elsewhere):
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for name in scripts:
        assert darts_hpc.__version__ in elsewhere(name, "--version")


def test_every_extra_that_a_hint_names_exists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    folders = ("darts_hpc", "docs", "launch", "slurm", "examples")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md", ".sh")]
    hints = {}
    for path in [*files, ROOT / "README.md", ROOT / "pyproject.toml"]:
        text = path.read_text(encoding="utf-8")
        for names in re.findall(r"darts_hpc\[([\w, -]+)\]|-e '\.\[([\w, -]+)\]'", text):
            hints |= dict.fromkeys(re.split(r"[, ]+", "".join(names)), path)
    assert {"dali", "mpi", "gpu", "campaign", "export", "timm"} <= set(hints)
    assert not {name: path for name, path in hints.items() if name not in extras}


def test_every_hint_to_install_a_package_names_an_extra_of_ours():
    """A hint such as `pip install timm` would forget the versions we need."""
    for path in (ROOT / "darts_hpc").rglob("*.py"):
        for what in re.findall(r"pip install ([^`\"]+)", path.read_text(encoding="utf-8")):
            assert what.startswith(("'darts_hpc[", "-c constraints.txt")), f"{path}: pip install {what}"
