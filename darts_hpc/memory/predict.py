"""What one search step takes: the step itself, run on meta tensors, which have shapes and no memory."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from darts_hpc.config.shared import SgdConfig
from darts_hpc.distributed.sync_batch_norm import synchronise_batch_norm
from darts_hpc.distributed.world import World
from darts_hpc.memory.live_bytes import BATCH_SIZE, HALF_INIT_CHANNELS, Footprint, MetaLiveBytes
from darts_hpc.models.supernet.base import RelaxedNetwork
from darts_hpc.models.supernet.build import build_supernet
from darts_hpc.search.architect import Architect
from darts_hpc.search.hypergradient import LabelledImages
from darts_hpc.space.genotypes import PRIMITIVES
from darts_hpc.space.phases import meta_stands_for
from darts_hpc.training.optim import build_sgd
from darts_hpc.training.rollback import Rollback
from darts_hpc.training.search_step import search_step

CUDA_BLOCK = 512
"""Bytes that torch's CUDA allocator rounds a tensor up to."""
CPU_ON_TOP = {("plain", False): 0.2, ("plain", True): 0.45, ("stacked", False): 0.6, ("stacked", True): 1.0}
"""(form, recomputed cells) -> what a CPU's convolutions take for themselves, and what its allocator can't use again, as
a share of the live tensors: address space measured with torch 2.15, at 16 channels, 4 cells and 8 to 120 images."""
CUDA_ON_TOP = {("stacked", False): 0.25}
"""The same for cuDNN, on an H200 with torch 2.11, at 16 channels, 5 cells and 16 images; elsewhere nothing was seen."""


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
    """Images of the data set, all of which stay on the device."""
    primitives: tuple[str, ...] = PRIMITIVES
    """Candidate operations of each edge."""
    sync_bn: bool = False
    """BatchNorm over several ranks."""
    dtype: torch.dtype = torch.float32
    precision: str = "fp32"
    """As --precision says: fp32, or bf16, which is autocast's."""
    device: str = "cpu"
    """Type of the device it runs on."""
    optim: SgdConfig = field(default_factory=SgdConfig)
    cuda_graph: bool = False
    """Whether the step's memory stays its own, so that validation needs more."""

    def peak_bytes(self, batch_size: int, init_channels: int, block: int = 1) -> int:
        """Return the most bytes of tensors that live at once: model, optimizers, data set, step and temporaries."""
        # pixels, labels, and the ids of both halves, in order and in this epoch's order
        data_set = self.num_images * (3 * self.image_size**2 + 8 + 4 * 8)
        return data_set + self._peak(_run, batch_size, init_channels, block)

    def validation_bytes(self, batch_size: int, init_channels: int, block: int = 1) -> int:
        """Return the most bytes of tensors that live at once in a batch of validation, the model's among them."""
        alike = replace(self, checkpoint_cells=False, unrolled_method=None, precision="fp32", sync_bn=False)
        return alike._peak(_validate, batch_size, init_channels, block)

    def needed_bytes(self, batch_size: int, init_channels: int, block: int = 1) -> int:
        """Return what has to be free for it: more than its tensors, see CPU_ON_TOP and CUDA_ON_TOP."""
        # a gradient that is differentiated again goes by torch's operations
        form = "stacked" if self.supernet == "fused" and self.unrolled_method == "exact" else self.supernet
        on_top = (CPU_ON_TOP if self.device == "cpu" else CUDA_ON_TOP).get((form, self.checkpoint_cells), 0)
        beside = self.validation_bytes(batch_size, init_channels, block) if self.cuda_graph else 0
        return int((1 + on_top) * self.peak_bytes(batch_size, init_channels, block)) + beside

    def _peak(self, work: "Work", batch_size: int, init_channels: int, block: int) -> int:
        traced_at = 2 * HALF_INIT_CHANNELS if self.scales_with_channels else init_channels
        footprint = _footprint(replace(self, num_images=0, cuda_graph=False), work, traced_at)
        return footprint.peak(batch_size, init_channels, block)

    @property
    def scales_with_channels(self) -> bool:
        """Whether one trace serves all numbers of channels.

        Not where a depthwise convolution is differentiated twice: torch then loops over the channels. Nor where kernels
        cut images into tiles, which are the smaller the more channels there are.
        """
        return self.unrolled_method != "exact" and self.supernet != "fused"


Work = Callable[[Step, int, int, torch.device], None]
"""(step, channels, batch size, device): something to do on tensors without memory."""


@lru_cache
def _footprint(step: Step, work: Work, init_channels: int) -> Footprint:
    events = _trace(step, work, init_channels, BATCH_SIZE).events
    return Footprint(events, scales_with_channels=step.scales_with_channels)


def _trace(step: Step, work: Work, init_channels: int, batch_size: int) -> MetaLiveBytes:
    """Run work on tensors without memory, and return what lived when."""
    if step.precision == "fp32":
        with meta_stands_for(step.device), MetaLiveBytes() as live:
            work(step, init_channels, batch_size, torch.device("meta"))
    else:  # autocast knows no meta tensors; fake ones say that they are on the device, and take longer
        with FakeTensorMode(), MetaLiveBytes() as live:
            work(step, init_channels, batch_size, torch.device(step.device))
    return live


def _run(step: Step, init_channels: int, batch_size: int, device: torch.device) -> None:
    """Do a step that finds momentum in its optimizers, as every step but the first does."""
    world = World(device)
    with device:
        supernet = _supernet(step, init_channels)
    if step.sync_bn:
        synchronise_batch_norm(supernet, World(device, rank=0, size=2))
    if device.type == "meta":  # fake weights can't be converted, and need not: float32, as many bytes in any layout
        supernet = supernet.to(step.dtype).to(memory_format=torch.channels_last)
    optimizer = build_sgd(supernet.weights(), step.optim)
    architect = Architect(
        supernet, learning_rate=1.0, weight_decay=1.0, unrolled_method=step.unrolled_method, world=world
    )
    if step.optim.momentum:
        for weight in supernet.weights():
            optimizer.state[weight]["momentum_buffer"] = torch.empty_like(weight)
    for alpha in supernet.alphas():
        alpha.grad = torch.empty_like(alpha)
    architect.optimizer.step()
    architect.optimizer.zero_grad()
    train, valid = (_batch(step, batch_size, device) for _ in range(2))
    with Rollback(supernet, architect, optimizer):
        search_step(supernet, architect, optimizer, train, valid, grad_clip=1.0, world=world, precision=step.precision)


def _validate(step: Step, init_channels: int, batch_size: int, device: torch.device) -> None:
    with device:
        supernet = _supernet(step, init_channels).eval()
    images, _ = _batch(step, batch_size, device)
    with torch.no_grad():
        supernet.to(step.dtype)(images)


def _supernet(step: Step, init_channels: int) -> RelaxedNetwork:
    sizes = init_channels, step.layers, step.num_classes
    return build_supernet(step.supernet, *sizes, primitives=step.primitives, checkpoint_cells=step.checkpoint_cells)


def _batch(step: Step, batch_size: int, device: torch.device) -> LabelledImages:
    images = torch.empty(batch_size, 3, step.image_size, step.image_size, dtype=step.dtype, device=device)
    labels = torch.empty(batch_size, dtype=torch.int64, device=device)
    return images.contiguous(memory_format=torch.channels_last), labels
