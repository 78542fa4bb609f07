"""What is predicted for a training step, against torch's own record of the allocations of a real one."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from allocations import STEP as STEP_EVENT
from allocations import most_allocated
from torch.profiler import ProfilerActivity, profile, record_function

from darts_hpc.config.shared import TrainModelConfig, TrainOptimConfig
from darts_hpc.config.train import TrainConfig, TrainDataConfig
from darts_hpc.config.train_imagenet import ImageNetConfig, ImageNetDataConfig, ImageNetModelConfig
from darts_hpc.data.loading.batches import Batch
from darts_hpc.data.sets.table import DatasetFacts
from darts_hpc.distributed.world import World
from darts_hpc.memory.available import FreeMemory
from darts_hpc.memory.plan import MemoryPlan
from darts_hpc.memory.plan_training import plan_training
from darts_hpc.memory.predict_training import TrainingStep
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.derived_fast.network import FastDerivedNetwork
from darts_hpc.run.metrics import Meter
from darts_hpc.space.genotypes import GENOTYPES
from darts_hpc.training.loops import StepConfig, train_step
from darts_hpc.training.optim import build_sgd_of
from darts_hpc.training.precision import Precision
from darts_hpc.training.weight_average import WeightAverage

CPU = torch.device("cpu")
STEP = TrainingStep(
    network="plain",
    checkpoint_cells=False,
    genotype=GENOTYPES["DARTS_V2"],
    stem="cifar",
    layers=3,
    num_classes=10,
    image_size=8,
)
RICH: dict[str, Any] = {"auxiliary": True, "drop_path": True, "label_smooth": True}
CONFIGURATIONS: dict[str, tuple[dict[str, Any], int, int]] = {  # what differs from STEP, channels, batch size
    "plain": ({}, 4, 64),
    "plain, recomputed": ({"checkpoint_cells": True, "layers": 5, **RICH}, 6, 32),
    "plain, two batches an update": ({"images_per_update": 32, "genotype": GENOTYPES["NASNet"]}, 8, 8),
    "plain, few images": ({"auxiliary": True}, 16, 2),
    "plain, averaged weights": ({"auxiliary": True, "ema": True}, 16, 2),
    "plain, float64": ({"dtype": torch.float64, "image_size": 9}, 4, 8),
    "plain, bfloat16": ({"precision": "bf16", **RICH}, 4, 16),
    "fast": ({"network": "fast", **RICH}, 4, 16),
    "fast, recomputed": ({"network": "fast", "checkpoint_cells": True, "layers": 5}, 6, 32),
    "fast, bfloat16, two batches an update": (
        {"network": "fast", "precision": "bf16", "images_per_update": 160},
        4,
        80,
    ),
    "ImageNet": ({"stem": "imagenet", "image_size": 64, "num_classes": 1000, **RICH}, 8, 4),
    "ImageNet, fast": ({"network": "fast", "stem": "imagenet", "image_size": 64, "num_classes": 100}, 8, 12),
}


def allocated_peak(step: TrainingStep, init_channels: int, batch_size: int) -> int:
    """Take two real steps; return the most bytes that torch's CPU allocator had given out after their operations.

    Not after those of making the network, which may take more than steps of few images, and is predicted with them.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        network = DerivedNetwork(
            step.stem, init_channels, step.num_classes, step.layers, step.auxiliary, step.genotype
        ).to(step.dtype)
        network.cells.checkpoint_cells = step.checkpoint_cells
        if step.network == "fast":
            network = FastDerivedNetwork(network)
        network = network.to(memory_format=torch.channels_last).train()
        network.set_drop_path(0.2 if step.drop_path else 0)
        weights = list(network.parameters())
        optimizer = build_sgd_of("foreach", weights, step.optim)
        average = WeightAverage(network, 0.9) if step.ema else None
        size, accumulate = step.image_size, (step.images_per_update or batch_size) // batch_size

        def batches():
            for _ in range(accumulate):
                yield Batch(  # of which nothing but the step keeps anything
                    torch.randn(batch_size, 3, size, size, dtype=step.dtype).to(memory_format=torch.channels_last),
                    torch.randint(step.num_classes, (batch_size,)),
                    torch.arange(batch_size),
                )

        cfg = StepConfig(batch_size=batch_size, accumulate=accumulate, label_smooth=0.1 * step.label_smooth)
        for _ in range(2):
            precision = Precision(step.precision, CPU)
            with record_function(STEP_EVENT):
                train_step(network, optimizer, batches(), cfg, precision, weights, Meter(CPU), World(CPU))
                if average is not None:
                    average.update()
    return most_allocated(recorded)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_prediction_is_within_5_percent_of_what_the_allocator_gave(name):
    changes, init_channels, batch_size = CONFIGURATIONS[name]
    step = replace(STEP, **changes)
    assert step.peak_bytes(batch_size, init_channels) == pytest.approx(
        allocated_peak(step, init_channels, batch_size), rel=0.05
    )


def test_recomputed_cells_take_less_and_gradients_that_are_averaged_more():
    for network in ("plain", "fast"):
        step = replace(STEP, network=network, layers=6)
        assert replace(step, checkpoint_cells=True).peak_bytes(64, 8) < 0.8 * step.peak_bytes(64, 8)
    few = replace(STEP, image_size=4)
    assert replace(few, data_parallel=True).peak_bytes(1, 128) > 1.1 * few.peak_bytes(1, 128)


def test_batch_norm_over_several_processes_is_predicted_where_no_process_can_answer():
    step = replace(STEP, precision="bf16")
    assert replace(step, sync_bn=True).peak_bytes(64, 4) > 1.1 * step.peak_bytes(64, 4)


def test_a_large_batch_of_the_evaluation_counts():
    large = replace(STEP, valid_batch_size=4000)
    assert large.peak_bytes(8, 4) > 10 * STEP.peak_bytes(8, 4) and replace(STEP, valid_batch_size=9).peak_bytes(
        8, 4
    ) == STEP.peak_bytes(8, 4)


def tight(step: TrainingStep, free: float) -> MemoryPlan[TrainingStep]:
    return MemoryPlan(step, batch_size=96, init_channels=8, free=FreeMemory(free, "the test leaves"))


@pytest.mark.parametrize(("images_per_update", "sizes"), [(None, range(1, 97)), (96, (1, 2, 3, 4, 6, 8, 12, 16, 24))])
def test_the_batch_that_a_refusal_names_fits_and_makes_the_whole_update(images_per_update, sizes):
    step = replace(STEP, images_per_update=images_per_update)
    recomputed = replace(step, checkpoint_cells=True)
    plan = tight(step, recomputed.needed_bytes(30, 8))
    form, line = plan.choose("auto")
    named = int(line.split("--batch_size ")[1].split()[0])
    assert form is None and named in sizes and named > 20
    assert recomputed.needed_bytes(named, 8) <= plan.free.num_bytes
    channels = int(line.split("--init_channels ")[1].split()[0])
    assert 0 < channels < 8 and recomputed.needed_bytes(96, channels) <= plan.free.num_bytes


FACTS = DatasetFacts(1000, 100, 8, 10)


def test_a_graph_keeps_its_memory_beside_that_of_an_evaluation_of_larger_batches():
    graphed = replace(STEP, device="cuda", cuda_graph=True, valid_batches=5)
    beside = graphed.needed_bytes(8, 4) - replace(graphed, cuda_graph=False).needed_bytes(8, 4)
    assert (
        beside
        == graphed.validation_bytes(8, 4)
        == replace(STEP, valid_batch_size=40, device="cuda").validation_bytes(8, 4)
    )


def test_the_plan_of_a_training_has_what_its_flags_say():
    world = World(CPU, rank=1, size=1)
    cfg = TrainConfig(
        data=TrainDataConfig(batch_size=10),
        model=TrainModelConfig(layers=3, init_channels=4, auxiliary=True, checkpoint_cells=True, network="fast"),
        optim=TrainOptimConfig(global_batch_size=40, label_smooth=0.1, ema=0.9, optimizer_impl="auto"),
    )
    plan = plan_training(cfg, FACTS, world)
    expected = replace(
        STEP, genotype=GENOTYPES["DARTS"], network="fast", checkpoint_cells=True, num_images=1100, **RICH,
        images_per_update=40, ema=True, optim=cfg.optim,
    )  # fmt: skip
    assert (plan.step, plan.batch_size, plan.init_channels) == (expected, 10, 4)
    assert [step.network for step in plan.variants] == ["plain", "fast"]
    assert plan.step.peak_bytes(10, 4) - replace(plan.step, num_images=0).peak_bytes(10, 4) > 1100 * 3 * 8 * 8
    changed = plan_training(replace(cfg, data=replace(cfg.data, augment="trivial")), FACTS, world).step
    assert changed.num_images == 1100 + FACTS.num_train  # a policy changes copies
    with pytest.raises(ValueError, match="--global_batch_size 45 is no multiple of --batch_size 10"):
        plan_training(replace(cfg, optim=replace(cfg.optim, global_batch_size=45)), FACTS, world)
    imagenet = ImageNetConfig(
        data=ImageNetDataConfig(valid_batch_size=99), model=ImageNetModelConfig(layers=3, init_channels=4)
    )
    step = plan_training(imagenet, FACTS._replace(in_memory=False), world).step
    assert (step.stem, step.valid_batch_size, step.num_images, step.drop_path) == ("imagenet", 99, 0, False)
