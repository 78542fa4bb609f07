"""Predict the memory of a training step of a derived network, as predict.py does for the search."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import repeat

import torch
from torch import Tensor

from darts_hpc.config.shared import SgdConfig
from darts_hpc.data.loading.batches import Batch
from darts_hpc.distributed.sync_batch_norm import synchronise_batch_norm
from darts_hpc.distributed.world import World
from darts_hpc.memory.trace import Work, data_set_bytes, footprint
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.models.derived_fast.build import AnyDerivedNetwork
from darts_hpc.models.derived_fast.network import FastDerivedNetwork
from darts_hpc.run.metrics import Meter
from darts_hpc.space.genotypes import Genotype
from darts_hpc.training.loops import StepConfig, train_step
from darts_hpc.training.optim import build_sgd, build_sgd_of
from darts_hpc.training.precision import Precision
from darts_hpc.training.rollback import Rollback

CPU_OVERHEAD = {("plain", False): 0.15, ("plain", True): 0.8, ("fast", False): 0.2, ("fast", True): 0.65}
"""(form, recomputed cells) -> a CPU's convolution workspaces and allocator fragmentation, as a fraction of the live
tensors: resident memory after six steps took at most so much more, and 100 MiB, which the margin of the free memory
holds. Measured with torch 2.15 on one thread, for CIFAR's and ImageNet's network of 8 to 20 cells, 16 to 48 channels,
8 to 96 images, 70 MiB to 3.4 GiB of tensors."""


@dataclass(frozen=True, kw_only=True)
class TrainingStep:
    """Everything but the batch size and the channels that a training step's memory depends on."""

    network: str
    """Form of the network: plain or fast."""
    checkpoint_cells: bool
    genotype: Genotype
    stem: str
    """A key of models.derived.STEMS."""
    layers: int
    num_classes: int
    image_size: int
    num_images: int = 0
    """Images of the data set, where all of them stay on the device."""
    auxiliary: bool = False
    drop_path: bool = False
    label_smooth: bool = False
    ema: bool = False
    """Whether a moving average of the weights is kept."""
    images_per_update: int | None = None
    """Images of this process whose gradients make one step; None for one batch, whatever its size."""
    valid_batch_size: int | None = None
    """Images of a batch of the evaluation; None for valid_batches times as many as in training."""
    valid_batches: int = 1
    """Batches of the training that make one of the evaluation."""
    optimizer_impl: str = "foreach"
    data_parallel: bool = False
    """Whether several processes average their gradients."""
    sync_bn: bool = False
    """BatchNorm over several ranks."""
    dtype: torch.dtype = torch.float32
    precision: str = "fp32"
    """fp32, bf16 or fp16, which takes what bf16 does."""
    device: str = "cpu"
    """Type of the device it runs on."""
    optim: SgdConfig = field(default_factory=SgdConfig)
    cuda_graph: bool = False
    """Whether the step keeps its memory as a CUDA graph, so that the evaluation needs memory besides."""

    @property
    def scales_with_channels(self) -> bool:
        """No: each number of channels takes a trace of its own, of a second; a classifier of 1,000 classes has more
        weights than what tells a power of the channels from a constant."""
        return False

    @property
    def channel_multiple(self) -> int:
        """The number of channels is a multiple of this: ImageNet's stem has half of them."""
        return 2

    most_channels = None

    @property
    def title(self) -> str:
        """The form of the step, as the flags name it."""
        precision = "" if self.precision == "fp32" else f", --precision {self.precision}"
        return f"{self.network} network" + ", --checkpoint_cells" * self.checkpoint_cells + precision

    def build(self, init_channels: int) -> AnyDerivedNetwork:
        """Return a new network, as a training makes it."""
        sizes = init_channels, self.num_classes, self.layers
        plain = DerivedNetwork(self.stem, *sizes, self.auxiliary, self.genotype).to(self.dtype)
        plain = plain.to(memory_format=torch.channels_last)
        plain.cells.checkpoint_cells = self.checkpoint_cells
        network = FastDerivedNetwork(plain) if self.network == "fast" else plain
        if self.sync_bn:
            synchronise_batch_norm(network, World(torch.device(self.device), rank=0, size=2))
        return network

    def peak_bytes(self, batch_size: int, init_channels: int, block: int = 1) -> int:
        """Return the most bytes of tensors that live at once: network, optimizer, data set, step and temporaries."""
        step = self._peak(_train, batch_size, init_channels, block)
        if self._num_valid(batch_size) > batch_size:
            step = max(step, self.validation_bytes(batch_size, init_channels, block))
        return data_set_bytes(self.num_images, self.image_size) + step

    def validation_bytes(self, batch_size: int, init_channels: int, block: int = 1) -> int:
        """Return the most bytes of tensors that live at once in a batch of the evaluation, the network's among them."""
        return self._peak(_evaluate, self._num_valid(batch_size), init_channels, block)

    def _num_valid(self, batch_size: int) -> int:
        return self.valid_batch_size or self.valid_batches * batch_size

    def needed_bytes(self, batch_size: int, init_channels: int, block: int = 1) -> int:
        """Return the bytes that have to be free: its tensors, and on a CPU CPU_OVERHEAD."""
        overhead = CPU_OVERHEAD[self.network, self.checkpoint_cells] if self.device == "cpu" else 0
        beside = self.validation_bytes(batch_size, init_channels, block) if self.cuda_graph else 0
        return int((1 + overhead) * self.peak_bytes(batch_size, init_channels, block)) + beside

    def usable_batch(self, most: int) -> int:
        """Return the largest batch size up to `most` of which whole batches make an update; 0 for none."""
        share = self.images_per_update
        if share is None or not most:
            return most
        return next(size for size in range(min(most, share), 0, -1) if share % size == 0)

    def remark(self, batch_size: int, init_channels: int, block: int) -> str:
        """Return nothing: between epochs there is nothing that takes more than a step."""
        return ""

    def _peak(self, work: Work, batch_size: int, init_channels: int, block: int) -> int:
        share = self.images_per_update
        accumulate = 2 if share is not None and batch_size < share else 1  # any more are as the second
        traced = replace(
            self,
            num_images=0,
            images_per_update=accumulate,
            valid_batch_size=None,
            valid_batches=1,
            cuda_graph=False,
            precision="fp32" if self.precision == "fp32" else "bf16",
        )
        return footprint(traced, work, init_channels).peak(batch_size, init_channels, block)


def _train(step: TrainingStep, network: AnyDerivedNetwork, batch_size: int, device: torch.device) -> None:
    """Run a step whose optimizer holds momentum, as in every step but the first."""
    if step.drop_path:
        network.set_drop_path(0.1)
    weights = list(network.parameters())
    sgd = partial(build_sgd_of, "foreach") if step.optimizer_impl == "foreach" else build_sgd
    optimizer = sgd(weights, step.optim)
    if step.optim.momentum:
        for weight in weights:
            optimizer.state[weight]["momentum_buffer"] = torch.empty_like(weight)
    average = [torch.empty_like(tensor) for tensor in (*weights, *network.buffers())] if step.ema else []
    precision, meter = Precision(step.precision, device), Meter(device)
    accumulate = step.images_per_update or 1
    step_cfg = StepConfig(batch_size=batch_size, accumulate=accumulate, label_smooth=0.1 * step.label_smooth)
    batches = (_batch(step, batch_size, device) for _ in repeat(None, accumulate))
    with Rollback(network, optimizer, others=[meter.totals]):
        world = _OneOfMany(device, rank=0, size=2) if step.data_parallel else World(device)
        train_step(network, optimizer, batches, step_cfg, precision, weights, meter, world)
    del average


class _OneOfMany(World):
    """A rank of several, of which no other is there: averaging takes its memory, and exchanges nothing."""

    def mean(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return tensors of the means' sizes."""
        vector = torch.cat([tensor.reshape(-1) for tensor in tensors])
        torch.empty_like(vector)
        parts = vector.split([tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


@torch.no_grad()
def _evaluate(step: TrainingStep, network: AnyDerivedNetwork, batch_size: int, device: torch.device) -> None:
    network.eval()
    held = [torch.empty_like(weight) for weight in network.parameters()]  # the optimizer's momentum
    images, _, keys = _batch(step, batch_size, device)
    with Precision(step.precision, device).autocast():
        network(images, keys)
    del held


def _batch(step: TrainingStep, batch_size: int, device: torch.device) -> Batch:
    size = step.image_size
    images = torch.empty(batch_size, 3, size, size, dtype=step.dtype, device=device)
    labels, keys = (torch.zeros(batch_size, dtype=torch.int64, device=device) for _ in range(2))
    return Batch(images.contiguous(memory_format=torch.channels_last), labels, keys)
