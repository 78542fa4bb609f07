"""benchmarks/smaller_images.py takes the same images everywhere, and makes them what --dataset folder would."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from darts_hpc.data.sets.load import load_dataset

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "smaller_images.py"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in ("ant", "bee"):
            folder = tmp_path / "source" / part / name
            folder.mkdir(parents=True)
            for number in range(5):
                Image.fromarray(random.integers(0, 255, (12, 10, 3), dtype=np.uint8)).save(folder / f"{number}.jpg")
    return tmp_path / "source"


def take(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["smaller_images.py", *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_what_is_taken_is_what_a_run_on_all_images_would_have_seen(source: Path, tmp_path: Path, monkeypatch):
    take(monkeypatch, source, tmp_path / "few", "--train", 3, "--test", 2, "--image_size", 8)
    few, whole = (load_dataset("folder", folder, image_size=8) for folder in (tmp_path / "few", source))
    assert few.train.labels.tolist() == [0, 0, 0, 1, 1, 1] and few.test.labels.tolist() == [0, 0, 1, 1]
    for image, label in zip(few.train.images, few.train.labels, strict=True):
        same = [torch.equal(image, other) for other in whole.train.images[whole.train.labels == label]]
        assert sum(same) == 1


def test_which_images_are_taken_follows_from_the_seed_alone(source: Path, tmp_path: Path, monkeypatch):
    taken = []
    for number, seed in enumerate((0, 0, 1)):
        take(monkeypatch, source, tmp_path / f"{number}", "--train", 2, "--test", 1, "--seed", seed)
        taken.append({str(path.relative_to(tmp_path / f"{number}")) for path in tmp_path.glob(f"{number}/*/*/*.png")})
    assert taken[0] == taken[1] != taken[2] and len(taken[0]) == 6


def test_what_can_not_be_taken_is_refused_and_nothing_written(source: Path, tmp_path: Path, monkeypatch):
    for arguments, said in (
        ((source, tmp_path / "a", "--train", 6, "--test", 1), "train ant has 5 images; expected 6 or more"),
        ((tmp_path / "nowhere", tmp_path / "a"), "^error: .*nowhere"),
        ((source, source.parent), "holds something already"),
    ):
        with pytest.raises(SystemExit, match=said):
            take(monkeypatch, *arguments)
    assert not (tmp_path / "a").exists()
