"""A small ImageFolder tree, and its manifest."""

from pathlib import Path

import pytest
from small_imagenet import make_tree

from darts_hpc.data.imagenet.list.inspect import build_manifest
from darts_hpc.data.imagenet.list.manifest import Manifest


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree that tests only read."""
    return make_tree(tmp_path_factory.mktemp("imagenet"))


@pytest.fixture
def own_tree(tmp_path: Path) -> Path:
    """A tree that a test may damage."""
    return make_tree(tmp_path / "imagenet")


@pytest.fixture(scope="session")
def manifest(tree: Path) -> Manifest:
    return build_manifest(tree, 2)
