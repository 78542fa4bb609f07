"""Images that are none, and what machines do to a run."""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from attempts import BEGAN
from row import GO_ON, NEW_RUN, TRAIN, Fault, Row, replaced, to_device


def images(change: Callable[[Path], object] = lambda root: None) -> Fault:
    """Copy the images to {new}/images, and change them."""
    return lambda things, new: change(Path(shutil.copytree(things / "images", new / "images")))


def image(change: Callable[[Path], object]) -> Fault:
    """Copy the images, and change one of them."""
    return images(lambda root: change(root / "train" / "cat" / "1.png"))


OF_FOLDER = (*TRAIN, "--dataset", "folder", "--data", "{new}/images", "--image_size", "4", "--batch_size", "2")
IMAGES = (
    Row("an image that is a pipe", (*OF_FOLDER, *NEW_RUN), "1.png", image(partial(replaced, put=os.mkfifo))),
    Row("an image that is a device", (*OF_FOLDER, *NEW_RUN), "1.png", image(partial(replaced, put=to_device))),
    Row("an image that is cut short", (*OF_FOLDER, *NEW_RUN), "1.png", image(lambda path: os.truncate(path, 60))),
    Row("pack into its own source", ("pack", "{new}/images", "{new}/images/packed"), "images", images()),
    Row("stage onto itself", ("stage", "{new}/images", "{new}/images"), "images", images()),
)


def onto_full_disk() -> None:
    """Write to a terminal that takes nothing."""
    os.dup2(os.open("/dev/full", os.O_WRONLY), 2)


def file_in_the_way(things: Path, new: Path) -> None:
    """Put a file where checkpoints go."""
    (new / "run").mkdir()
    (new / "run" / "checkpoints").touch()


RUN = (*TRAIN, *NEW_RUN)
MACHINES = (
    Row("a terminal on a full disk", RUN, before=onto_full_disk, code=0, runs=True, finishes="train"),
    Row("checkpoints that are a file", GO_ON, "no checkpoint can be written to", file_in_the_way),
    Row("no GPU that is visible", RUN, before=partial(os.environ.update, CUDA_VISIBLE_DEVICES=""), code=BEGAN),
    Row("a user without a home", RUN, before=partial(os.environ.pop, "HOME", None), code=BEGAN),
)
