"""From --dataset to a data set in memory."""

from pathlib import Path

from darts_hpc.data.sets.digits import load_digits
from darts_hpc.data.sets.folder import load_folder
from darts_hpc.data.sets.image_set import DataSet
from darts_hpc.data.sets.torchvision_sets import load_cifar10, load_cifar100, load_svhn
from darts_hpc.distributed.world import World
from darts_hpc.suggest import did_you_mean

# name -> load(root, image_size, world)
DATASETS = {
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
    "svhn": load_svhn,
    "digits": load_digits,
    "folder": load_folder,
}


def load_dataset(name: str, root: Path, *, image_size: int | None = None, world: World | None = None) -> DataSet:
    """Load a data set by name from the folder `root`; one process downloads what is missing.

    Raises ValueError, one line, for an unknown name and for missing or damaged files, saying which to place where.
    """
    if name not in DATASETS:
        raise ValueError(f"--dataset {name!r} is unknown; {did_you_mean(name, DATASETS)}")
    return DATASETS[name](root, image_size, world)
