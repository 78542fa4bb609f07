"""Search and train on images of your own: some 15 seconds on one CPU core.

    python examples/own_data.py [FOLDER]

FOLDER has train/CLASS/* and test/CLASS/*, one folder of images per class. Without one, the example writes such a folder
from arrays: the digits 0 to 3.
"""

import sys
from pathlib import Path

from PIL import Image

import darts_hpc
from darts_hpc.data.sets.image_set import ImageSet
from darts_hpc.data.sets.load import load_dataset

SMALL = {"image_size": 8, "init_channels": 4, "layers": 3, "epochs": 2, "tensorboard": False}


def write_images(images: ImageSet, folder: Path, num_classes: int) -> None:
    """Write arrays (N, 3, H, W) with labels (N,) as FOLDER/LABEL/NUMBER.png."""
    for number, (pixels, label) in enumerate(zip(images.images, images.labels.tolist(), strict=True)):
        if label < num_classes:
            path = folder / str(label) / f"{number:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "data/four_digits")
    if not folder.is_dir():
        digits = load_dataset("digits", folder, image_size=8)
        write_images(digits.train, folder / "train", num_classes=4)
        write_images(digits.test, folder / "test", num_classes=4)
    own = {"dataset": "folder", "data": folder, "device": "cpu", **SMALL}
    found = darts_hpc.search_cell(**own, batch_size=120, arch_learning_rate=0.03, save="own-data")
    trained = darts_hpc.train_cell(**own, batch_size=32, arch=found.folder, drop_path_prob=0, save="own-data")
    print(
        f"accuracy: {trained.accuracy:.2f} % of the test images, classes {trained.result['preprocessing']['classes']}"
    )


if __name__ == "__main__":
    main()
