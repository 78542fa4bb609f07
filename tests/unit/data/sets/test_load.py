"""From a name to a data set, and what identifies its content."""

from dataclasses import replace
from pathlib import Path

import pytest

from darts_hpc.data.sets.image_set import ImageSet
from darts_hpc.data.sets.load import load_dataset


@pytest.mark.parametrize(
    ("name", "words"), [("cifar01", "did you mean cifar10"), ("digit", "digits"), ("x", "choose from")]
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, words: str):
    with pytest.raises(ValueError, match=f"--dataset '{name}' is unknown; .*{words}"):
        load_dataset(name, Path())


def test_fingerprint_follows_every_pixel_and_label():
    data = load_dataset("digits", Path(), image_size=8)
    assert data.fingerprint() == load_dataset("digits", Path(), image_size=8).fingerprint()
    for part in ("train", "test"):
        images, labels = getattr(data, part).images, getattr(data, part).labels
        pixel, label = images.clone(), labels.clone()
        pixel[-1, 0, 7, 7] ^= 1
        label[5] += 1
        for changed in (ImageSet(pixel, labels), ImageSet(images, label)):
            assert replace(data, **{part: changed}).fingerprint() != data.fingerprint()
