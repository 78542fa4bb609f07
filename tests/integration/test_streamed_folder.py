"""A folder of images that is too large for the device is read step by step, and nothing else changes."""

from pathlib import Path

import pytest
import torch
from few_digits import few_digits
from run_entries import SMALL_SEARCH, entry

from darts_hpc.commands.train_search import search_sources
from darts_hpc.config.cli import parse_config
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.data.loading.streamed import StreamedSource
from darts_hpc.data.sets.folder import count, load, open_stream
from darts_hpc.distributed.world import World
from darts_hpc.memory.plan import plan_search
from darts_hpc.user_files import is_file

WORLD = World(torch.device("cpu"))
FLAGS = [*SMALL_SEARCH, "--checkpoint_cells", "--memory_check", "auto"]


@pytest.mark.parametrize(("rank", "size"), [(0, 1), (1, 2)])
def test_its_batches_are_those_of_the_images_in_memory(rank, size):
    cfg = parse_config(SearchConfig, FLAGS)
    whole, (data, read, digest) = load(few_digits(), 8, None), open_stream(few_digits(), 8, WORLD)
    assert digest == whole.fingerprint()
    assert [*data.mean, *data.std] == pytest.approx([*whole.mean, *whole.std], rel=1e-12)
    assert (data.classes, data.crop_padding, data.flip) == (whole.classes, whole.crop_padding, whole.flip)
    world = World(torch.device("cpu"), rank=rank, size=size)
    for kept, source in zip(*(search_sources(one, cfg.data, 3, world) for one in (whole, data)), strict=True):
        streamed = StreamedSource(source, read)
        assert (streamed.steps_per_epoch, streamed.num_samples) == (kept.steps_per_epoch, kept.num_samples)
        for epoch, first_step in ((0, 0), (1, 1), (1, kept.steps_per_epoch)):
            batches = zip(streamed.batches(epoch, first_step), kept.batches(epoch, first_step), strict=True)
            for ours, theirs in batches:
                assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_search_that_fits_only_so_streams_says_so_and_finds_the_same(tmp_path: Path):
    cfg = parse_config(SearchConfig, FLAGS)
    facts = count(cfg.data.data, cfg.data.image_size)
    streamed = plan_search(cfg, facts._replace(in_memory=False), WORLD)
    limit = streamed.needed_bytes(streamed.step)
    for name, more in (("whole", []), ("streamed", ["--memory_limit", limit])):
        done = entry("train_search", *FLAGS, *more, "--save", tmp_path / name)
        assert done.returncode == 0, done.stderr
        assert ("would not fit beside a step, and are read step by step" in done.stderr) == (name == "streamed")
    for name in ("weights.pt", "alphas.pt", "metrics.jsonl", "genotypes.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "streamed" / name).read_bytes()
    done = entry("train_search", *FLAGS, "--memory_limit", limit - 1000, "--save", tmp_path / "refused")
    assert done.returncode == 2 and "would fit" in done.stderr and not is_file(tmp_path / "refused" / "config.yaml")


def test_equal_images_are_refused_as_in_memory_and_a_damaged_one_by_its_name(tmp_path: Path):
    digit = next((few_digits() / "train" / "3").iterdir()).read_bytes()
    for part in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            (tmp_path / part / name / "1.png").write_bytes(digit)
    with pytest.raises(ValueError, match="all 2 training images are equal"):
        open_stream(tmp_path, 8, WORLD)
    (tmp_path / "train" / "a" / "2.png").write_bytes(digit[:50])
    with pytest.raises(ValueError, match=r"a/2.png can't be read as an image"):
        open_stream(tmp_path, 8, WORLD)
