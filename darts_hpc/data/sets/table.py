"""Every data set in one table: what is known of it before its files are read.

To add one: a row here, and beside this file one of the row's name with load(root, image_size, world) -> DataSet. The
flag --dataset, the networks and the estimates follow from the row. Where only the files say how large it is, that file
has count(root, image_size) -> DatasetFacts too. Without torch, so that --help stays light.
"""

from typing import NamedTuple


class DatasetFacts(NamedTuple):
    """How large a data set is; 0 for what only its files say."""

    num_train: int
    num_test: int
    image_size: int
    """Side in pixels of the square images."""
    num_classes: int
    in_memory: bool = True
    """Whether it is loaded as a whole; ImageNet is read batch by batch, and has an entry of its own."""


DATASETS = {
    "cifar10": DatasetFacts(50_000, 10_000, 32, 10),
    "cifar100": DatasetFacts(50_000, 10_000, 32, 100),
    "svhn": DatasetFacts(73_257, 26_032, 32, 10),
    "digits": DatasetFacts(1_437, 360, 16, 10),
    "folder": DatasetFacts(0, 0, 0, 0),
    "webdataset": DatasetFacts(0, 0, 0, 0),
    "arrays": DatasetFacts(0, 0, 0, 0),
    "imagenet": DatasetFacts(1_281_167, 50_000, 224, 1000, in_memory=False),
}
IN_MEMORY = tuple(name for name, facts in DATASETS.items() if facts.in_memory)
"""The values of --dataset where a data set is loaded."""
