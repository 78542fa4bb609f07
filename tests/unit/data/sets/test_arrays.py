"""Images and labels of a user's own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from darts_hpc import api
from darts_hpc.data.sets.arrays import array_data
from darts_hpc.data.sets.load import dataset_facts, load_dataset

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)  # (N, H, W, 3)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def test_numpy_and_torch_give_the_same_images_which_are_copies():
    pixels = PIXELS.copy()
    ours = array_data((pixels, LABELS), (pixels[:2], [0, 1]))
    assert np.array_equal(ours.train.images.permute(0, 2, 3, 1).numpy(), PIXELS)
    theirs = array_data(
        (torch.from_numpy(PIXELS).permute(0, 3, 1, 2), torch.from_numpy(LABELS).int()), (PIXELS[:2], [0, 1])
    )
    assert ours.fingerprint() == theirs.fingerprint()
    pixels[:] = 0
    assert ours.train.images.max() > 0
    assert ours.train.labels.dtype == torch.int64 and ours.test.labels.tolist() == [0, 1]
    scaled = PIXELS.reshape(-1, 3) / 255
    assert ours.mean == pytest.approx(scaled.mean(0)) and ours.std == pytest.approx(scaled.std(0))
    assert (ours.classes, ours.flip, ours.crop_padding) == (("0", "1", "2"), True, 1)


def test_views_reversed_read_only_and_grey_arrays_are_read():
    grey = PIXELS[..., 0]
    for images in (grey, grey[..., None], torch.from_numpy(grey), torch.from_numpy(grey)[:, None]):
        assert array_data((images, LABELS)).train.images[5].eq(torch.from_numpy(grey[5])).all()
    backwards = PIXELS[::-1, :, ::-1]
    backwards.flags.writeable = False
    assert np.array_equal(array_data((backwards, LABELS)).train.images[0].permute(1, 2, 0), PIXELS[-1, :, ::-1])


def test_names_augmentation_and_size_may_be_given():
    data = array_data((PIXELS, LABELS), classes=["a", "b", "c"], flip=False, crop_padding=0, image_size=4)
    assert (data.classes, data.flip, data.crop_padding, data.image_size) == (("a", "b", "c"), False, 0, 4)
    assert data.facts()[:4] == (6, 0, 4, 3)


FLOATS = PIXELS / 255
ONE_HOT = np.eye(3, dtype=np.int64)[LABELS]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (PIXELS, r"data: expected \(images, labels\), and not ndarray"),
        ((PIXELS, LABELS, LABELS), r"data: expected \(images, labels\)"),
        ((PIXELS.tolist(), LABELS), "data: images are a list; expected a numpy array"),
        ((FLOATS, LABELS), "data: images are float64; expected uint8"),
        ((torch.zeros(6, 3, 8, 8), LABELS), "data: images are float32; expected uint8"),
        ((PIXELS.transpose(0, 3, 1, 2), LABELS), r"images are \(6, 3, 8, 8\); .*images\.transpose\(0, 2, 3, 1\)"),
        ((torch.from_numpy(PIXELS), LABELS), r"images are \(6, 8, 8, 3\); .*images\.permute\(0, 3, 1, 2\)"),
        ((PIXELS[0], LABELS), "6 labels|squares"),
        ((PIXELS[..., :2], LABELS), r"images are \(6, 8, 8, 2\)"),
        ((PIXELS[:, :6], LABELS), "images are 6x8 pixels; expected squares"),
        ((PIXELS[:, :2, :2], LABELS), "images are 2x2 pixels; expected squares, 4x4 or larger"),
        ((PIXELS[:5], LABELS), "data has 5 images and 6 labels"),
        ((PIXELS[:0], LABELS[:0]), "data holds no image"),
        ((PIXELS, LABELS.astype(float)), "labels are float64; expected whole numbers"),
        ((PIXELS, LABELS > 0), "labels are bool; expected whole numbers"),
        ((PIXELS, list("abcabc")), "labels are no numbers; .* their names in classes"),
        ((PIXELS, ONE_HOT), r"labels are \(6, 3\); .*labels\.argmax\(1\)"),
        ((PIXELS, LABELS - 1), "data has the label -1"),
        ((PIXELS, LABELS * 2), "class '1' has no training image"),
        ((PIXELS, LABELS * 0), "data holds 1 class; expected two or more"),
        ((PIXELS * 0, LABELS), "all 6 training images are equal"),
    ],
)
def test_each_mistake_is_one_line(data: Any, said: str):
    with pytest.raises(ValueError, match=said) as caught:
        array_data(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("test_data", "more", "said"),
    [
        ((PIXELS[:1], [3]), {}, "test_data has the label 3; expected labels below 3"),
        ((PIXELS[:1, :4, :4], [0]), {}, "test_data has images of 4 pixels and data of 8; give image_size"),
        ((PIXELS[:1], [0, 1]), {}, "test_data has 1 images and 2 labels"),
        (None, {"classes": ["a", "b"]}, "data has the label 2; expected labels below 2"),
        (None, {"classes": list("abcd")}, "class 'd' has no training image"),
        (None, {"classes": list("aab")}, "classes .*: expected a list of names, each of them once"),
        (None, {"classes": "abc"}, "classes 'abc': expected a list of names"),
    ],
)
def test_test_images_and_names_that_do_not_fit_are_one_line(test_data, more, said):
    with pytest.raises(ValueError, match=said):
        array_data((PIXELS, LABELS), test_data, **more)


@pytest.mark.parametrize("read", [load_dataset, dataset_facts])
def test_the_flag_alone_has_no_images(read):
    with pytest.raises(ValueError, match="--dataset arrays: images and labels are handed over from Python"):
        read("arrays", Path())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"data": (PIXELS, LABELS), "dataset": "cifar10"}, "dataset='cifar10' beside images of your own"),
        ({"data": "somewhere", "test_data": (PIXELS, LABELS)}, "test_data goes with data"),
        ({"data": (PIXELS, LABELS), "device": "cpu", "arch": "DARTS_V2"}, "there are no test images; give test_data"),
        ({"data": array_data((PIXELS, LABELS)), "image_size": 4}, "image_size are array_data's"),
    ],
)
def test_a_training_says_what_it_lacks_before_it_makes_a_folder(flags, said, tmp_path: Path):
    with pytest.raises(ValueError, match=said):
        api.train_cell(save=f"{tmp_path}/run/", **flags)
    assert not list(tmp_path.iterdir())
