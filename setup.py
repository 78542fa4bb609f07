"""All metadata is in pyproject.toml; this lists the packages, configs/ among them so that a wheel ships presets."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["darts_hpc", "darts_hpc.*"]), "darts_hpc.configs"],
    package_dir={"darts_hpc.configs": "configs"},
)
