"""Take some images of each class from folders, make them smaller, and write them as another folder of --dataset folder.

    python benchmarks/smaller_images.py SOURCE DESTINATION --train 400 --test 200 --image_size 16

SOURCE has train/CLASS/* and test/CLASS/* (or val/CLASS/*). What it takes is a function of --seed and of the names.
They are resized as --dataset folder does it, and written as PNG, which keeps every pixel.
"""

import argparse
import hashlib
import sys
from pathlib import Path

from PIL import Image

from darts_hpc.data.sets.folder import SUFFIXES, decode


def main() -> None:
    """Write both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("destination", type=Path)
    parser.add_argument("--train", type=int, default=400, help="training images of each class")
    parser.add_argument("--test", type=int, default=200, help="test images of each class")
    parser.add_argument("--image_size", type=int, default=16, help="side in pixels")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if asked.destination.exists() and any(asked.destination.iterdir()):
        sys.exit(f"error: {asked.destination} holds something already; expected a new or an empty folder")
    test = next((part for part in ("test", "val") if (asked.source / part).is_dir()), "test")
    chosen = {
        f"{written}/{folder.name}": some_of(folder, count, asked.seed)
        for part, written, count in (("train", "train", asked.train), (test, "test", asked.test))
        for folder in classes(asked.source / part)
    }
    for name, files in chosen.items():
        (asked.destination / name).mkdir(parents=True)
        for path in files:
            Image.fromarray(decode(path, path, asked.image_size)).save(asked.destination / name / f"{path.stem}.png")
    print(f"next: --dataset folder --image_size {asked.image_size} --data {asked.destination}")


def classes(part: Path) -> list[Path]:
    """Return the folders of a part's classes."""
    if not part.is_dir():
        sys.exit(f"error: {part} is no folder; expected train/CLASS/* and test/CLASS/* in {part.parent}")
    return sorted(path for path in part.iterdir() if path.is_dir())


def some_of(folder: Path, count: int, seed: int) -> list[Path]:
    """Return images of a folder, the same ones on every machine."""
    files = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    if len(files) < count:
        sys.exit(f"error: {folder} holds {len(files)} images; expected {count} or more: ask for fewer")
    return sorted(files, key=lambda path: hashlib.sha256(f"{seed} {path.name}".encode()).digest())[:count]


if __name__ == "__main__":
    main()
