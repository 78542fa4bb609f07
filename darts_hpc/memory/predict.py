"""Predict the memory of a search step by running it on meta tensors, which have shapes and no memory."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from darts_hpc.config.shared import SgdConfig
from darts_hpc.distributed.sync_batch_norm import synchronise_batch_norm
from darts_hpc.distributed.world import World
from darts_hpc.memory.live_bytes import HALF_INIT_CHANNELS
from darts_hpc.memory.trace import Work, data_set_bytes, footprint
from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.models.supernet.build import build_supernet
from darts_hpc.models.supernet.fast.kernels.stage_convolutions import MOST_CHANNELS
from darts_hpc.models.supernet.mixing import Columns
from darts_hpc.search.architect import Architect
from darts_hpc.search.architecture import Architecture
from darts_hpc.search.conditions import Conditions
from darts_hpc.search.curvature import alpha_hessian_product
from darts_hpc.search.hypergradient import UNROLLED_GRADIENTS, LabelledImages
from darts_hpc.space.operations import OPERATIONS
from darts_hpc.space.spaces import SPACES, SearchSpace
from darts_hpc.training.optim import build_sgd
from darts_hpc.training.rollback import Rollback
from darts_hpc.training.search_step import search_step
from darts_hpc.units import readable_bytes

METHODS = {None: "first order", "finite_difference": "finite differences", "exact": "exact second order"}
CPU_OVERHEAD = {("plain", False): 0.2, ("plain", True): 0.45, ("stacked", False): 0.6, ("stacked", True): 1.0}
"""(form, recomputed cells) -> a CPU's convolution workspaces and allocator fragmentation, as a fraction of the live
tensors: address space measured with torch 2.15, at 16 channels, 4 cells and 8 to 120 images."""
CUDA_OVERHEAD = {("stacked", False): 0.25}
"""The same for cuDNN, on an H200 with torch 2.11, at 16 channels, 5 cells and 16 images; other forms showed none."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """Everything but the batch size and the channels that a step's memory depends on."""

    supernet: str
    """Form of the supernet, a key of models.supernet.build.SUPERNETS."""
    checkpoint_cells: bool
    unrolled_method: str | None
    """None for first order."""
    layers: int
    num_classes: int
    image_size: int
    num_images: int
    """Images of the data set that stay on the device: all, or none where they are read batch by batch."""
    batches_ahead: int = 0
    """Batches of pixels that are read ahead."""
    stem: str = "cifar"
    """A key of models.stems.STEMS."""
    space: SearchSpace = SPACES["darts"]
    """Candidate operations of each edge."""
    partial_channels: int = 1
    edge_norm: bool = False
    auxiliary_skip: bool = False
    relaxation: str = "softmax"
    perturb: str = "none"
    """A key of PERTURBATIONS, or none."""
    drop_path: bool = False
    eigenvalue: bool = False
    """Whether the curvature in alpha is measured between epochs."""
    sync_bn: bool = False
    """BatchNorm over several ranks."""
    dtype: torch.dtype = torch.float32
    precision: str = "fp32"
    """As --precision says: fp32, or bf16, which is autocast's."""
    device: str = "cpu"
    """Type of the device it runs on."""
    optim: SgdConfig = field(default_factory=SgdConfig)
    cuda_graph: bool = False
    """Whether the step keeps its memory as a CUDA graph, so that validation needs memory besides."""

    def build(self, init_channels: int) -> RelaxedNetwork:
        """Return a new supernet, as a search makes it."""
        sizes = init_channels, self.layers, self.num_classes
        plain_only: dict[str, Any] = {}
        if self.supernet == "plain":
            plain_only = {"space": self.space, "partial_channels": self.partial_channels}
            plain_only["auxiliary_skip"] = self.auxiliary_skip
        common = {"checkpoint_cells": self.checkpoint_cells, "edge_norm": self.edge_norm, "stem": self.stem}
        supernet = build_supernet(self.supernet, *sizes, **common, **plain_only)
        if self.sync_bn:
            synchronise_batch_norm(supernet, World(torch.device(self.device), rank=0, size=2))
        return supernet.to(self.dtype).to(memory_format=torch.channels_last)

    def peak_bytes(self, batch_size: int, init_channels: int, block: int = 1) -> int:
        """Return the most bytes of tensors that live at once: model, optimizers, data set, step and temporaries."""
        ahead = self.batches_ahead * batch_size * 3 * self.image_size**2
        step = self._peak(_run, batch_size, init_channels, block)
        data_set = data_set_bytes(self.num_images, self.image_size) + ahead
        return data_set + max(step, self.eigenvalue_bytes(batch_size, init_channels, block))

    def eigenvalue_bytes(self, batch_size: int, init_channels: int, block: int = 1) -> int:
        """Return the most bytes of tensors that live at once while the curvature is measured; 0 where it is not."""
        if not self.eigenvalue:
            return 0
        once = replace(self, unrolled_method="exact", perturb="none")  # differentiated twice, like an exact gradient
        return once._peak(_measure, batch_size, init_channels, block)

    def validation_bytes(self, batch_size: int, init_channels: int, block: int = 1) -> int:
        """Return the most bytes of tensors that live at once in a batch of validation, the model's among them."""
        alike = replace(self, checkpoint_cells=False, unrolled_method=None, precision="fp32", sync_bn=False)
        return alike._peak(_validate, batch_size, init_channels, block)

    def needed_bytes(self, batch_size: int, init_channels: int, block: int = 1) -> int:
        """Return the bytes that have to be free: its tensors, and CPU_OVERHEAD or CUDA_OVERHEAD."""
        # a gradient that is differentiated again runs by torch's operations instead of the kernels
        form = "stacked" if self.supernet == "fused" and self.unrolled_method == "exact" else self.supernet
        overhead = (CPU_OVERHEAD if self.device == "cpu" else CUDA_OVERHEAD).get((form, self.checkpoint_cells), 0)
        beside = self.validation_bytes(batch_size, init_channels, block) if self.cuda_graph else 0
        return int((1 + overhead) * self.peak_bytes(batch_size, init_channels, block)) + beside

    def usable_batch(self, most: int) -> int:
        """Return the largest batch size up to `most`: any is."""
        return most

    def remark(self, batch_size: int, init_channels: int, block: int) -> str:
        """Return what is worth knowing besides the step's memory, in words."""
        if not self.eigenvalue:
            return ""
        needed = readable_bytes(self.eigenvalue_bytes(batch_size, init_channels, block))
        return f"between epochs, an eigenvalue's double backward takes {needed}"

    def _peak(self, work: Work, batch_size: int, init_channels: int, block: int) -> int:
        traced_at = 2 * HALF_INIT_CHANNELS if self.scales_with_channels else init_channels
        traced = footprint(replace(self, num_images=0, batches_ahead=0, cuda_graph=False), work, traced_at)
        return traced.peak(batch_size, init_channels, block)

    @property
    def scales_with_channels(self) -> bool:
        """Whether one trace serves all numbers of channels.

        Not where a depthwise convolution is differentiated twice: torch then loops over the channels. Nor where kernels
        cut images into tiles, which are the smaller the more channels there are.
        """
        return self.unrolled_method != "exact" and self.supernet != "fused" and self.partial_channels == 1

    @property
    def channel_multiple(self) -> int:
        """The number of channels is a multiple of this."""
        return math.lcm(2, self.partial_channels)

    @property
    def most_channels(self) -> int | None:
        """The kernels' limit; None where there is none."""
        return MOST_CHANNELS // 4 if self.supernet == "fused" else None

    @property
    def title(self) -> str:
        """The form of the step, as the flags name it."""
        flags = f", --partial_channels {self.partial_channels}" * (self.partial_channels > 1)
        flags += ", --checkpoint_cells" * self.checkpoint_cells + ", --precision bf16" * (self.precision == "bf16")
        return f"{METHODS[self.unrolled_method]}, {self.supernet}{flags}"


def _run(step: Step, supernet: RelaxedNetwork, batch_size: int, device: torch.device) -> None:
    """Run a step whose optimizers hold momentum, as in every step but the first."""
    world = World(device)
    optimizer = build_sgd(supernet.weights(), step.optim)
    architecture = _LargestDraw(step, supernet)
    architect = Architect(
        supernet,
        learning_rate=1.0,
        weight_decay=1.0,
        unrolled_method=step.unrolled_method,
        world=world,
        architecture=architecture,
    )
    if step.optim.momentum:
        for weight in supernet.weights():
            optimizer.state[weight]["momentum_buffer"] = torch.empty_like(weight)
    for alpha in supernet.alphas():
        alpha.grad = torch.empty_like(alpha)
    architect.optimizer.step()
    architect.optimizer.zero_grad()
    train, valid = (_batch(step, batch_size, device) for _ in range(2))
    with Rollback(supernet, optimizer, architect):
        search_step(
            supernet, architect, optimizer, train, valid, grad_clip=1.0, world=world, precision=step.precision,
            conditions=_conditions(step, device), perturb=step.perturb,
        )  # fmt: skip


def _measure(step: Step, supernet: RelaxedNetwork, batch_size: int, device: torch.device) -> None:
    """Measure the curvature, as between two epochs."""
    architecture = _LargestDraw(step, supernet)
    held = [torch.empty_like(weight) for weight in supernet.weights()]  # the optimizer's momentum
    product = alpha_hessian_product(
        supernet, architecture, _batch(step, batch_size, device), _conditions(step, device), weight_decay=1.0,
        world=World(device),
    )  # fmt: skip
    product(torch.cat([alphas.detach().flatten() for alphas in architecture.alphas()]))
    del held


def _validate(step: Step, supernet: RelaxedNetwork, batch_size: int, device: torch.device) -> None:
    images, *_ = _batch(step, batch_size, device)
    with torch.no_grad():
        supernet.eval()(images, _LargestDraw(step, supernet).mix_expected(_conditions(step, device)))


class _LargestDraw(Architecture):
    """Where one operation per edge runs, it is the one with the most weights."""

    def __init__(self, step: Step, supernet: RelaxedNetwork):
        super().__init__(
            supernet, step.relaxation, auxiliary_skip=step.auxiliary_skip, drop_path=step.drop_path
        )  # fmt: skip
        self._runs_all, self._space = step.device != "cpu", step.space

    def columns_drawn(self, m: Tensor) -> Columns:
        size = {name: sum(w.numel() for w in OPERATIONS[name](8, 1, False).parameters()) for name in OPERATIONS}
        rows = self._space.normal  # reduction cells of the named spaces have no larger ones
        return None if self._runs_all else tuple((max(range(len(row)), key=lambda i: size[row[i]]),) for row in rows)


def _conditions(step: Step, device: torch.device) -> Conditions | None:
    if not (step.relaxation != "softmax" or step.perturb != "none" or step.auxiliary_skip or step.drop_path):
        return None
    keys = {name: torch.zeros((), dtype=torch.int64, device=device) for name in ("alpha_key", "weight_key")}
    names = "tau", "epsilon", "auxiliary_share", "regulariser_weight", "drop_path"
    return Conditions(**keys, **{name: torch.ones((), dtype=torch.float64, device=device) for name in names})


def _batch(step: Step, batch_size: int, device: torch.device) -> LabelledImages:
    images = torch.empty(batch_size, 3, step.image_size, step.image_size, dtype=step.dtype, device=device)
    labels = torch.zeros(batch_size, dtype=torch.int64, device=device)  # valid classes, where the device is a real one
    keys = [torch.zeros_like(labels)] if step.drop_path or step.space.has("noise") else []
    return images.contiguous(memory_format=torch.channels_last), labels, *keys


assert set(METHODS) == {None, *UNROLLED_GRADIENTS}
