"""On a GPU: decoding there gives the pixels of the CPU, near enough, and exact colour jitter gives them exactly."""

import dataclasses
from pathlib import Path

import pytest
import torch
from small_imagenet import joined, open_loader, signature

from darts_hpc.data.imagenet.list.manifest import Manifest
from darts_hpc.data.imagenet.read.augment_params import draw
from darts_hpc.data.imagenet.read.dali import DaliLoader
from darts_hpc.data.imagenet.read.jitter import jitter_batch, twist_batch
from darts_hpc.data.imagenet.read.samples import STD

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]


def on_gpu(tree: Path, manifest: Manifest, part: str = "train", exact: bool = False, **options) -> DaliLoader:
    samples = dataclasses.replace(open_loader(tree, manifest, part, **options).samples, device=torch.device("cuda", 0))
    return DaliLoader(samples, exact_jitter=exact, decode_on_gpu=True, num_threads=2, prefetch=2)


@pytest.mark.parametrize("part", ["train", "val"])
def test_decoding_on_the_gpu_is_near_decoding_on_the_cpu(tree: Path, manifest: Manifest, part: str):
    level = 255 * torch.tensor(STD).view(1, 3, 1, 1)
    pairs = zip(on_gpu(tree, manifest, part).batches(0), open_loader(tree, manifest, part).batches(0), strict=True)
    for gpu, cpu in pairs:
        assert torch.equal(gpu.labels.cpu(), cpu.labels) and torch.equal(gpu.keys.cpu(), cpu.keys)
        assert gpu.images.is_contiguous(memory_format=torch.channels_last)
        assert ((gpu.images.cpu() - cpu.images) * level).abs().mean() < 2


def test_the_gpu_sees_the_same_for_any_number_of_processes_and_after_a_restart(tree: Path, manifest: Manifest):
    def pixels(loaders: list[DaliLoader], first_step: int = 0) -> list:
        return signature(batch._replace(images=batch.images.cpu()) for batch in joined(loaders, 0, first_step))

    alone = pixels([on_gpu(tree, manifest)])
    assert pixels([on_gpu(tree, manifest, batch_size=4, rank=rank, world_size=2) for rank in range(2)]) == alone
    assert pixels([on_gpu(tree, manifest)], 1) == alone[1:]


def test_exact_jitter_on_the_gpu_equals_that_on_the_cpu():
    images = torch.randint(0, 256, (64, 96, 96, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    size = torch.full((64,), 96)
    _, _, factors, orders = draw(0, 0, torch.arange(64), size, size)
    assert torch.equal(jitter_batch(images.cuda(), factors, orders).cpu(), jitter_batch(images, factors, orders))


def test_twist_on_the_gpu_is_that_on_the_cpu_but_for_ties_of_rounding():
    images = torch.randint(0, 256, (64, 96, 96, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    size = torch.full((64,), 96)
    factors = draw(0, 0, torch.arange(64), size, size).factors
    difference = (twist_batch(images.cuda(), factors).cpu().int() - twist_batch(images, factors).int()).abs()
    assert difference.max() <= 1 and (difference > 0).float().mean() < 1e-4
