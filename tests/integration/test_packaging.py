"""A wheel carries everything the package reads, and works away from the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

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
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory):
    """Install the wheel in a folder of its own; return a function that runs python there, far from the checkout."""
    site, cwd = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("elsewhere")
    subprocess.run([*PIP, "install", "-q", *OFFLINE, "--target", site, wheel], check=True)

    def run(*args: str) -> str:
        env = os.environ | {"PYTHONPATH": str(site)}
        there = [arg.replace("SITE", str(site)) for arg in args]
        done = subprocess.run([sys.executable, *there], cwd=cwd, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.replace(str(site), "SITE")

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
    assert elsewhere("-c", program) == "SITE/darts_hpc/__init__.py digits\n"


def test_installed_wheel_runs_an_entry_by_both_spellings(elsewhere):
    assert "usage: python -m darts_hpc.visualize" in elsewhere("-m", "darts_hpc.visualize", "--help")
    assert "usage: darts visualize" in elsewhere("SITE/bin/darts", "visualize", "--help")
