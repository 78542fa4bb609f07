"""A training's step as a graph: what is recorded once repeats the eager steps, whatever changes between them.

A recorder on the CPU stands for CUDA's: it keeps the operations that a step dispatches, with their tensors, and runs
them again. As in a CUDA graph, numbers of Python's are constants in it, and reading back from the device breaks it.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import on_ranks
from run_entries import TINY
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from darts_hpc.commands import train
from darts_hpc.config.cli import parse_config
from darts_hpc.config.train import TrainConfig
from darts_hpc.data.loading.augment import Augmentation
from darts_hpc.data.loading.batches import BatchSource
from darts_hpc.data.sets.image_set import DataSet, ImageSet
from darts_hpc.distributed.world import World
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.optimizers import SGD
from darts_hpc.run.checkpoint import CheckpointStore
from darts_hpc.run.metrics import Meter
from darts_hpc.space.genotypes import load_genotype
from darts_hpc.training import cuda_graph, train_network
from darts_hpc.training.cuda_graph import WARM_UP_STEPS, GraphedStep
from darts_hpc.training.loops import StepConfig, train_step
from darts_hpc.training.precision import Precision
from darts_hpc.training.training_step import can_graph

CPU = torch.device("cpu")


class CpuRecorder(TorchDispatchMode):
    """As cuda_graph.Recorder, of operations on a CPU."""

    def __init__(self):
        super().__init__()
        self.operations: list[tuple] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None):
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("a step may not wait for the device")
        out = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, out))
        return out

    def warm_up(self, step: Callable[[], Any]) -> Any:
        return step()

    def record(self, step: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """A real capture runs nothing; this one does, and undoes it."""
        before = [(t, t.clone()) for t in self.state()]
        with self:
            numbers = step()
        with torch.no_grad():
            for tensor, value in before:
                tensor.copy_(value)
        return self.replay, numbers

    def state(self) -> list[Tensor]:
        return []

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, out in self.operations:
            again = func(*args, **kwargs)
            if not func._schema.is_mutable:  # of a view, the new one shows the old one's memory
                for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


def run(folder: Path, *flags: str) -> dict[str, Any]:
    """Train in this process; return weights, momentum and what was measured."""
    torch.set_num_threads(1)
    train.main(parse_config(TrainConfig, [*TINY, "--optimizer_impl", "fused", *flags, "--save", f"{folder}/"]))
    newest = CheckpointStore(folder / "checkpoints").load_newest()
    assert newest is not None
    state = newest.load("state")["objects"]
    found = {
        **state["network"],
        **{f"{k}, averaged": v for k, v in state.get("average", {}).items()},
        **{f"{k}.momentum": v for k, v in state["optimizer"]["momentum_buffer"].items()},
    }
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    numbers = {f"{i} {k}": v for i, r in enumerate(records) for k, v in r.items() if isinstance(v, float)}
    return {**found, "numbers": numbers}


@pytest.fixture
def recorders(monkeypatch) -> list[CpuRecorder]:
    """Trainings on a CPU take graphs, by CpuRecorder; the recorders that they made."""
    made: list[CpuRecorder] = []
    parts: list[Callable[[], list[Tensor]]] = []

    class Undoing(CpuRecorder):
        def __init__(self):
            super().__init__()
            made.append(self)

        def state(self) -> list[Tensor]:
            return [tensor for part in parts for tensor in part()]

    build = train_network.build_training_step

    def building(network, optimizer, loader, step_cfg, precision, meter, world, average, *, as_graph):
        def everything() -> list[Tensor]:
            momentum = [own["momentum_buffer"] for own in optimizer.state.values()]
            weights = [weight.detach() for weight in network.parameters()]
            averages = [] if average is None else average.network.state_dict().values()
            return [*weights, *network.buffers(), *momentum, *averages, meter.totals, precision.skipped]

        parts.append(everything)
        cuda_graph.hold_learning_rate_on(CPU, optimizer)  # of the eager steps as well, which then have the same bits,
        network.set_drop_path(0.4)  # and operations for drop path from the first step on
        return build(network, optimizer, loader, step_cfg, precision, meter, world, average, as_graph=as_graph)

    monkeypatch.setattr(train_network, "build_training_step", building)
    monkeypatch.setattr(train_network, "can_graph", lambda asked, impl, device: asked)
    monkeypatch.setattr(cuda_graph, "Recorder", Undoing)
    return made


def test_a_step_has_no_tensor_on_the_host_and_reads_none_back():
    """On tensors without memory that stand for a GPU's: any other tensor is one of the host."""
    meta, seen = torch.device("meta"), []

    class Devices(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None):
            out = func(*args, **(kwargs or {}))
            seen.extend((func, t.device.type) for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor))
            return out

    with meta:
        network = DerivedNetwork("cifar", 4, 10, 3, True, load_genotype("DARTS")).train()
        images, labels = torch.zeros(8, 3, 8, 8, dtype=torch.uint8), torch.zeros(8, dtype=torch.int64)
    network.set_drop_path(0.3)
    thirds = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    part = ImageSet(images, labels)
    data = DataSet(name="none", classes=tuple("0123456789"), train=part, test=part, crop_padding=1, flip=True, **thirds)
    source = BatchSource(data, part, batch_size=4, seed=0, device=meta, augmentation=Augmentation(1, True, 2))
    weights, meter, precision = list(network.parameters()), Meter(meta), Precision("fp32", CPU)
    precision.skipped = precision.skipped.to(meta)
    optimizer, step_cfg = SGD(weights, 0.1, momentum=0.9, foreach=True), StepConfig(batch_size=4)
    selection = source.select(0, 0)
    with Devices():
        train_step(network, optimizer, iter([source.load(selection)]), step_cfg, precision, weights, meter, World(meta))
    assert len(seen) > 1000 and {device for _, device in seen} == {"meta"}


FLAGS = ["--arch", "DARTS_V2", "--drop_path_prob", "0.4", "--auxiliary", "--cutout", "--cutout_length", "2"]


@pytest.mark.parametrize("form", [("plain",), ("fast", "--ema", "0.9")], ids=" ".join)
def test_replayed_steps_are_the_eager_ones_through_epochs_of_other_rates_and_chances(form, tmp_path, recorders, caplog):
    caplog.set_level("INFO")
    flags = [*FLAGS, "--network", *form, "--batch_size", "120", "--global_batch_size", "240"]
    eager = run(tmp_path / "eager", *flags, "--no_cuda_graph")
    assert not recorders
    graphed = run(tmp_path / "graphed", *flags)
    assert "the training step is one CUDA graph from here on" in caplog.text
    step = recorders[0].operations
    assert len(step) > 500 and any(func is torch.ops.aten._fused_sgd_.tensor_lr for func, *_ in step)
    assert any(func is torch.ops.aten.index.Tensor for func, *_ in step)  # the selection of images
    for name, value in eager.pop("numbers").items():
        assert graphed["numbers"][name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    for name, tensor in eager.items():
        torch.testing.assert_close(graphed[name], tensor, rtol=1e-3, atol=1e-5, msg=name)


def test_a_step_that_reads_back_runs_eagerly_and_a_line_says_why(monkeypatch, caplog):
    monkeypatch.setattr(cuda_graph, "Recorder", CpuRecorder)
    step = GraphedStep(lambda x: torch.full((), x.sum().item()), World(CPU), "training step")
    assert [step(torch.ones(2) * i).item() for i in range(WARM_UP_STEPS + 3)] == [2 * i for i in range(6)]
    assert caplog.text.count("no CUDA graph (a step may not wait for the device): each training step runs eagerly") == 1


def test_inputs_of_another_shape_run_eagerly_and_the_graph_goes_on_after_them(monkeypatch, caplog):
    monkeypatch.setattr(cuda_graph, "Recorder", CpuRecorder)
    step = GraphedStep(lambda pair: (pair[0] + pair[1]).sum(), World(CPU), "evaluation step")
    sizes = [2] * (WARM_UP_STEPS + 2) + [3, 2, 3]
    assert [step((torch.ones(n), torch.ones(n))).item() for n in sizes] == [2 * n for n in sizes]
    assert caplog.text.count("a batch of another size: this evaluation step runs without the CUDA graph") == 1


def test_where_one_rank_cannot_capture_none_does_and_graphs_are_dropped_before_the_ranks_part(caplog):
    def on_rank(failing: int) -> tuple:
        cuda_graph.Recorder = CpuRecorder  # pyright: ignore
        with World.open("cpu") as world:
            step = GraphedStep(lambda x: world.sum(x) + (x.item() if world.rank == failing else 0), world, "step")
            for _ in range(WARM_UP_STEPS + 1):
                step(torch.ones(()))
            during = step._replay is not None
        return during, step._replay is not None

    assert on_ranks(2, on_rank, 1) == [(False, False)] * 2
    assert on_ranks(2, on_rank, -1) == [(True, False)] * 2


def test_graphs_are_for_gpus_and_need_a_rate_on_the_device(caplog):
    gpu = torch.device("cuda")
    assert can_graph(True, "fused", gpu) and not can_graph(False, "fused", gpu) and not can_graph(True, "fused", CPU)
    assert not caplog.text
    for impl in ("foreach", "apex"):
        assert not can_graph(True, impl, gpu)
        assert f"no CUDA graph: --optimizer_impl {impl} reads the learning rate on the host" in caplog.text
