"""Take some images of each class from folders, make them smaller, and write them as another folder of --dataset folder.

    python benchmarks/smaller_images.py SOURCE DESTINATION --train 400 --test 200 --image_size 16

SOURCE has train/CLASS/* and test/CLASS/* (or val/CLASS/*). What it takes is a function of --seed and of the
order of the names. They are resized as --dataset folder does it, and written as PNG, which keeps every pixel.
"""

import argparse
import hashlib
import sys
from pathlib import Path

from PIL import Image

from darts_hpc.data.sets.load import load_dataset


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
    try:
        data = load_dataset("folder", asked.source, image_size=asked.image_size)
    except ValueError as error:
        sys.exit(f"error: {error}")
    chosen = {
        (part, name): some_of(
            (images.labels == label).nonzero().flatten().tolist(), count, f"{asked.seed} {part} {name}"
        )
        for part, images, count in (("train", data.train, asked.train), ("test", data.test, asked.test))
        for label, name in enumerate(data.classes)
    }
    for (part, name), places in chosen.items():
        folder = asked.destination / part / name
        folder.mkdir(parents=True)
        for place in places:
            pixels = getattr(data, part).images[place].permute(1, 2, 0)  # (H, W, 3)
            Image.fromarray(pixels.numpy()).save(folder / f"{place:06d}.png")
    print(f"next: --dataset folder --image_size {asked.image_size} --data {asked.destination}")


def some_of(places: list[int], count: int, key: str) -> list[int]:
    """Return `count` of the places of a class's images, the same ones on every machine."""
    if len(places) < count:
        sys.exit(
            f"error: {' '.join(key.split()[1:])} has {len(places)} images; expected {count} or more: ask for fewer"
        )
    return sorted(sorted(places, key=lambda place: hashlib.sha256(f"{key} {place}".encode()).digest())[:count])


if __name__ == "__main__":
    main()
