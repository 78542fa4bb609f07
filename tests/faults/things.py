"""The things that users name, whole and odd ones: presets, cells, weights, images, run folders. Made once, for all."""

import json
import os
from pathlib import Path

import numpy as np
import torch
from attempts import attempt
from PIL import Image

from darts_hpc.space.genotypes import GENOTYPES

NOBODY = 65534
SMALL = "dataset: digits\nimage_size: 4\nbatch_size: 240\ninit_channels: 4\nlayers: 3\nepochs: 2\nreport_freq: 1\n"
SMALL += "device: cpu\ntensorboard: false\n"
PRESETS = {
    "search": SMALL + "supernet: plain\nspace: s2\nmemory_check: 'off'\n",
    "train": SMALL + "arch: DARTS_V1\n",
    "imagenet": "loader: synthetic\nsynthetic_images: 64\nbatch_size: 8\nimage_size: 32\ninit_channels: 4\nlayers: 3\n"
    "epochs: 1\ndevice: cpu\ntensorboard: false\narch: DARTS_V1\n",
}
CELL = GENOTYPES["DARTS_V2"]


def make_things(folder: Path) -> Path:
    """Fill a folder with them. The runs in it are finished ones of the tiny presets."""
    for name, text in PRESETS.items():
        _write(folder / "presets" / f"{name}.yaml", text)
    _write(folder / "cells" / "cell.txt", f"{CELL}\n")
    _write(folder / "cells" / "cell.json", CELL.to_json())
    make_images(folder / "images")
    for entry, name in (("train_search", "search"), ("train", "train")):
        preset = ("--config", f"{folder}/presets/{name}.yaml", "--save", f"{folder}/runs/{name}/")
        done = attempt((entry, *preset), folder, runs=True)
        assert done.code == 0, done.said
    listed = attempt(("pack", f"{folder}/images", f"{folder}/packed", "--num_threads", "1"), folder)
    assert listed.code == 0, listed.said  # beside the images lies their manifest.npz now
    state = torch.load(folder / "runs" / "train" / "weights.pt", weights_only=True)
    (folder / "weights").mkdir()
    torch.save(state, folder / "weights" / "bare.pt")
    torch.save({"state_dict": state, "best_acc_top1": np.float64(9.5)}, folder / "weights" / "whole.pt")
    _make_odd(folder / "odd")
    return folder


def make_images(folder: Path) -> None:
    """Write three photos of noise for each of two classes, in train, val and test."""
    draw = np.random.default_rng(0)
    for part in ("train", "val", "test"):
        for name in ("cat", "dog"):
            place = folder / part / name
            place.mkdir(parents=True)
            for index in range(3):
                pixels = draw.integers(0, 255, (9, 11, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{index}.{'png' if index else 'jpg'}")


def _make_odd(folder: Path) -> None:
    """What is no file, or none of a kind that anything expects."""
    folder.mkdir()
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to("loop")
    (folder / "nowhere").symlink_to("gone")
    (folder / "zero").symlink_to("/dev/zero")
    for name, content in {
        "empty": b"",
        "nul": bytes(100),
        "latin1": b"caf\xe9: 1\n",
        "utf16": "epochs: 1\n".encode("utf-16"),
        "deep.json": b"[" * 100_000,
        "deep.yaml": b"epochs: " + b"[" * 100_000,
        "digits.json": b'{"genotype": ' + b"9" * 5000 + b"}",
        "null.json": b"null",
        "list.json": b"[1, 2]",
        "text.json": b'"text"',
    }.items():
        (folder / name).write_bytes(content)
    with (folder / "huge").open("wb") as file:
        file.truncate(1 << 40)
    laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for one, two in zip("abcdefgh", "bcdefghi", strict=True):
        laughs += f"{two}: &{two} [{', '.join([f'*{one}'] * 9)}]\n"
    _write(folder / "laughs.yaml", laughs)
    locked = folder / "locked"
    locked.mkdir()
    _write(locked / "inside.json", json.dumps({"a": 1}))
    locked.chmod(0)
    if not os.geteuid():
        os.chown(locked, NOBODY, NOBODY)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
