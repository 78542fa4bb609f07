"""What only a GPU can show of ImageNet training: number formats, fused optimizers, compiled networks, utilisation."""

import copy
import importlib.util
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from darts_hpc.config.train import TrainDataConfig
from darts_hpc.config.train_imagenet import ImageNetOptimConfig
from darts_hpc.data.loading.batches import Batch
from darts_hpc.data.loading.sources import training_source
from darts_hpc.data.sets.load import load_dataset
from darts_hpc.distributed.world import World
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.derived_fast.build import choose_network
from darts_hpc.run.metrics import Meter
from darts_hpc.run.performance import DataWait, gpu_utilisation
from darts_hpc.space.genotypes import load_genotype
from darts_hpc.training.loops import StepConfig, train_step
from darts_hpc.training.optim import build_sgd, build_sgd_of, set_learning_rate
from darts_hpc.training.precision import Precision, choose_precision
from darts_hpc.training.training_step import build_forward, build_training_step

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
GPU = torch.device("cuda:0")


def losses(
    precision_name: str, steps: int = 8, compiled: bool = False, impl: str = "fused", form: str = "plain"
) -> list[float]:
    """Return the loss of each step on one batch, which a working format brings down."""
    torch.manual_seed(0)
    plain = DerivedNetwork("imagenet", 16, 10, 5, True, load_genotype("DARTS")).to(GPU)
    network = choose_network(form, plain, GPU)[0].to(memory_format=torch.channels_last)
    weights = list(network.train().parameters())
    if compiled:
        network.compile()
    optimizer = build_sgd_of(impl, weights, ImageNetOptimConfig(learning_rate=0.05))
    labels = torch.arange(16, device=GPU) % 10
    batch = Batch(torch.randn(16, 3, 224, 224, device=GPU), labels, labels)
    precision, step_cfg, seen = Precision(precision_name, GPU), StepConfig(batch_size=16), []
    for _ in range(steps):
        meter = Meter(GPU)
        train_step(network, optimizer, iter([batch]), step_cfg, precision, weights, meter, World(GPU))
        seen.append(meter.totals[0].item() / 16)
    assert precision.skipped <= 1
    return seen


@pytest.mark.parametrize("form", ["plain", "fast"])
@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_every_number_format_learns_one_batch(name, form):
    if name == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("this GPU does not compute in bfloat16")
    seen = losses(name, form=form)
    assert seen[-1] < 0.8 * seen[0]
    assert seen[0] == pytest.approx(losses("fp32", steps=1)[0], rel=0.05)


@pytest.mark.parametrize("form", ["plain", "fast"])
@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_replayed_steps_equal_eager_ones_also_after_other_rates_and_chances(name, form, caplog, monkeypatch):
    caplog.set_level("INFO")
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    runs = []
    for as_graph in (False, True):
        torch.manual_seed(0)
        plain = DerivedNetwork("cifar", 8, 10, 5, True, load_genotype("DARTS")).to(GPU)
        network = choose_network(form, plain, GPU)[0].to(memory_format=torch.channels_last).train()
        network.set_drop_path(0.2)
        optimizer = build_sgd_of("fused", list(network.parameters()), ImageNetOptimConfig())
        data = load_dataset("digits", Path(), image_size=32).to(GPU)
        source = training_source(data, TrainDataConfig(dataset="digits", batch_size=32), 0, World(GPU))
        meter, precision, step_cfg = Meter(GPU), Precision(name, GPU), StepConfig(batch_size=32, accumulate=2)
        step = build_training_step(
            network, optimizer, source, step_cfg, precision, meter, World(GPU), as_graph=as_graph
        )  # fmt: skip
        forward, losses = build_forward(network, World(GPU), as_graph=as_graph), []
        for epoch in range(3):
            set_learning_rate(optimizer, 0.02 / (1 + epoch))
            network.set_drop_path(0.1 * epoch)
            batches = step.batches(epoch, 0)
            for number in range(4):
                if epoch and number:  # once recorded, a step waits for nothing
                    torch.cuda.set_sync_debug_mode("error")
                losses.append(step.take(batches)[0].clone())
                torch.cuda.set_sync_debug_mode("default")
        network.eval()
        with torch.inference_mode():
            images = source.batch(0, 0).images
            logits = [forward(images + number).clone() for number in range(5)][-1]
        runs.append((torch.stack(losses), meter.totals.clone(), logits))
    assert "the training step is one CUDA graph" in caplog.text and "the evaluation step is one" in caplog.text
    for eager, graphed in zip(*runs, strict=True):
        torch.testing.assert_close(graphed.float(), eager.float(), rtol=5e-2, atol=2e-2)


def test_auto_is_bf16_where_the_gpu_has_it():
    expected = "bf16" if torch.cuda.get_device_capability(GPU)[0] >= 8 else "fp32"
    assert choose_precision("auto", GPU) == expected


def test_a_compiled_network_learns_as_the_plain_one():
    assert losses("fp32", compiled=True) == pytest.approx(losses("fp32"), rel=0.05)


def test_an_fp16_overflow_is_left_out_and_counted_with_the_fused_optimizer():
    weight = nn.Parameter(torch.ones(4, device=GPU))
    precision, optimizer = Precision("fp16", GPU), build_sgd_of("fused", [weight], ImageNetOptimConfig())
    precision.backward((weight * float("inf")).sum())
    precision.clip_and_step(optimizer, [weight], 5.0)
    assert weight.eq(1).all() and precision.skipped == 1


@pytest.mark.skipif(importlib.util.find_spec("amp_C") is None, reason="needs apex, built with its CUDA extensions")
def test_apex_takes_torchs_steps_and_goes_on_from_its_state():
    first = [nn.Parameter(torch.linspace(-1, 1, 1000, device=GPU)) for _ in range(2)]
    ours, theirs = build_sgd([first[0]], ImageNetOptimConfig()), build_sgd_of("apex", [first[1]], ImageNetOptimConfig())
    for step in range(20):
        if step == 10:
            theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
        for optimizer, weight in zip((ours, theirs), first, strict=True):
            weight.grad = torch.sin(weight.detach() * 3 + step)
            optimizer.step()
    assert torch.allclose(first[0], first[1], atol=1e-6)


@pytest.mark.parametrize("busy", [False, True])
def test_waiting_for_data_is_the_time_the_gpu_is_idle_not_the_host(busy):
    wait = DataWait(GPU)

    def batches():
        for _ in range(4):
            time.sleep(0.1)
            yield None

    for _ in wait.timed(batches()):
        if busy:
            torch.cuda._sleep(1_000_000_000)  # some 0.5 s of work for the GPU, which the next batch comes within
    waited = wait.read()
    assert 0.08 < waited < 0.2 if busy else 0.35 < waited < 0.6  # all wait for the first one


@pytest.mark.skipif(importlib.util.find_spec("pynvml") is None, reason="needs nvidia-ml-py")
def test_utilisation_is_a_percentage():
    used = gpu_utilisation(GPU)
    assert used is None or 0 <= used <= 100
