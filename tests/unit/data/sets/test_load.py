"""From a name to a data set, and what identifies its content."""

import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest

from darts_hpc.config.flags import flags_of
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.data.sets.image_set import ImageSet
from darts_hpc.data.sets.load import dataset_facts, load_dataset
from darts_hpc.data.sets.table import DATASETS, IN_MEMORY


@pytest.mark.parametrize(
    ("name", "words"),
    [("cifar01", "did you mean cifar10"), ("digit", "digits"), ("x", "choose from"), ("imagenet", "choose from")],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, words: str):
    with pytest.raises(ValueError, match=f"--dataset '{name}' is unknown; .*{words}"):
        load_dataset(name, Path())


def test_each_row_of_the_table_has_its_file_and_is_a_value_of_the_flag():
    assert set(IN_MEMORY) == set(DATASETS) - {"imagenet"} == set(get_args(flags_of(TrainConfig)["dataset"].type))
    assert set(get_args(flags_of(SearchConfig)["dataset"].type)) == set(DATASETS)
    for name in IN_MEMORY:
        module = import_module(f"darts_hpc.data.sets.{name}")
        assert callable(module.load) and (DATASETS[name].num_train or callable(module.count))


def test_the_table_says_of_the_digits_what_they_are():
    data, facts = load_dataset("digits", Path()), DATASETS["digits"]
    assert (len(data.train), len(data.test), data.image_size, data.num_classes) == facts[:4]
    assert dataset_facts("digits", Path(), image_size=8) == facts._replace(image_size=8)


def test_looking_at_the_table_and_at_flags_needs_no_torch():
    code = "import sys, darts_hpc.data.sets.table, darts_hpc.config.cli, darts_hpc.config.train_search\n"
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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
