"""Search and train on images of your own, handed over as arrays: some 15 seconds on one CPU core.

    python examples/own_data.py

The images here are the digits 0 to 3. Any uint8 array (N, H, W, 3) with N labels does; images in folders or in tars
need no program: docs/data_sets.md.
"""

from pathlib import Path

import numpy as np

import darts_hpc
from darts_hpc.data.sets.image_set import ImageSet
from darts_hpc.data.sets.load import load_dataset

SMALL = {"init_channels": 4, "layers": 3, "epochs": 2, "tensorboard": False, "device": "cpu"}


def four_digits(part: ImageSet) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 8, 8, 3) and labels (N,) of the classes 0 to 3."""
    images, labels = part.images.permute(0, 2, 3, 1).numpy(), part.labels.numpy()
    return images[labels < 4], labels[labels < 4]


def main() -> None:
    digits = load_dataset("digits", Path(), image_size=8)
    data = darts_hpc.array_data(
        four_digits(digits.train),
        four_digits(digits.test),
        classes=["zero", "one", "two", "three"],
        flip=False,  # a mirrored 2 is no 2
    )
    found = darts_hpc.search_cell(data=data, batch_size=120, arch_learning_rate=0.03, save="own-data", **SMALL)
    trained = darts_hpc.train_cell(
        data=data, batch_size=32, arch=found.folder, drop_path_prob=0, save="own-data", **SMALL
    )
    print(
        f"accuracy: {trained.accuracy:.2f} % of the test images, classes {trained.result['preprocessing']['classes']}"
    )


if __name__ == "__main__":
    main()
