"""From --dataset to a data set in memory, or to what is known of it before."""

from importlib import import_module
from pathlib import Path
from types import ModuleType

from darts_hpc.data.sets.image_set import DataSet
from darts_hpc.data.sets.table import DATASETS, IN_MEMORY, DatasetFacts
from darts_hpc.distributed.world import World
from darts_hpc.suggest import did_you_mean


def load_dataset(name: str, root: Path, *, image_size: int | None = None, world: World | None = None) -> DataSet:
    """Load a data set by name from the folder `root`; one process downloads what is missing.

    Raises ValueError, one line, for an unknown name and for missing or damaged files, saying which to place where.
    """
    return _module(name).load(root, image_size, world)


def dataset_facts(name: str, root: Path, image_size: int | None = None) -> DatasetFacts:
    """Return what load_dataset would give, without reading an image; only a folder's files are counted.

    Raises ValueError as load_dataset does.
    """
    facts = DATASETS.get(name)
    if facts is None or not facts.num_train:
        return _module(name).count(root, image_size)
    return facts._replace(image_size=image_size or facts.image_size)


def _module(name: str) -> ModuleType:
    """Import the file of a data set, which is called as its row of the table is."""
    if name not in IN_MEMORY:
        raise ValueError(f"--dataset {name!r} is unknown; {did_you_mean(name, IN_MEMORY)}")
    return import_module(f"{__package__}.{name}")
