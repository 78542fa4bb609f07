"""ImageNet as it is downloaded, and other layouts that no loader reads: what was found there, and what to do."""

import re
from collections.abc import Sequence
from pathlib import Path

from darts_hpc.data.class_folders import Tree
from darts_hpc.data.tar_files import COMPRESSED_SUFFIXES
from darts_hpc.user_files import is_folder, list_folder

KAGGLE = ("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "CLS-LOC")
"""Where train/ and val/ lie in what Kaggle serves."""
ARCHIVES = "ILSVRC2012_img_*.tar"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
PAGE = "docs/imagenet.md, 'ImageNet as it is downloaded', has the commands"


def explain_layout(root: Path, parts: Sequence[str], tree: Tree) -> str | None:
    """Return in one line what was found in place of class folders or shards, and what to do; None for nothing known."""
    for below in (*KAGGLE, *(path.name for path in list_folder(root) if not tree.folders)):
        if is_folder(root / below / "train") and is_folder(root / below / "val"):
            return f"--data {root} has no train/ and val/; they lie in {root / below}: name that"
    for part in parts:
        if part in tree.folders and not tree.classes(part) and (problem := _explain_part(root, part, tree)) is not None:
            return problem
    if not tree.folders and (archives := list_folder(root, ARCHIVES)):
        return (
            f"--data {root} holds {archives[0].name} as it is downloaded; unpack it to train/CLASS/* and val/CLASS/*: "
            f"{PAGE}"
        )
    return None


def compressed_shards(root: Path, parts: Sequence[str]) -> list[Path]:
    """Return the compressed tars in the root that have a part's name in theirs, and those in its train/ and val/."""
    folders = [root, *(root / part for part in parts)]
    return [
        path
        for folder in folders
        for path in list_folder(folder)
        if path.name.lower().endswith(COMPRESSED_SUFFIXES)
        and (folder != root or re.search("train|val", path.name.lower()))
    ]


def _explain_part(root: Path, part: str, tree: Tree) -> str | None:
    tars, images = list_folder(root / part, "n????????.tar"), tree.beside_classes(part)
    if tars:
        return (
            f"{root / part} holds {len(tars)} tars of classes, such as {tars[0].name}, as they are downloaded; unpack "
            f"each into a folder of its own: {PAGE}"
        )
    if not images:
        return None
    if part != "val":
        return None
    found = f"{root / part} holds {len(images)} images, such as {Path(images[0]).name}, and no class folders"
    truth = next((path for path in (root / GROUND_TRUTH, root / "val" / GROUND_TRUTH) if path.exists()), None)
    numbers = "" if truth is None else f" ({truth} counts the classes in an order of its own)"
    return (
        f"{found}; expected val/CLASS/*, or the images' classes in {root}/val_labels.txt or in Kaggle's "
        f"LOC_val_solution.csv there{numbers}: {PAGE}"
    )
