"""BatchNorm whose statistics are those of the joined batch of all ranks.

torch.nn.SyncBatchNorm refuses CPU tensors, and its backward can't be differentiated again. The one here runs anywhere,
in any floating type, and differentiates as often as asked: second-order search needs it. Plain training on GPUs takes
torch's, whose fused kernels are faster.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from darts_hpc.distributed.world import World


class _SumOverRanks(torch.autograd.Function):
    """All-reduce. Its backward is itself, so it differentiates any number of times."""

    @staticmethod
    def forward(ctx: object, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        if type(total) is Tensor and total.device.type != "meta":  # else a memory plan looks at the shapes
            dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return sum_over_ranks(gradients[0])


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Return the sum over ranks, differentiably: a gradient through it is the gradient of the ranks' summed losses."""
    return _SumOverRanks.apply(tensor)  # pyright: ignore[reportReturnType]


def joined_moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return count (), mean (C,) and biased variance (C,) of all ranks' x (B, C, ...); B may differ, and be 0.

    One all-reduce of (count, sum, sum of squares). They are joined in float64, where the subtraction of large squares
    does no harm, from each rank's own mean and variance.
    """
    dims = [dim for dim in range(x.dim()) if dim != 1]
    if x.numel():
        variance, mean = torch.var_mean(x, dims, correction=0)
    else:  # a rank without images still takes part in the collective, and in its backward
        variance = mean = x.sum(dims)
    variance, mean = variance.double(), mean.double()
    count = mean.new_full((1,), x.numel() // x.shape[1])
    count, sums, squares = sum_over_ranks(
        torch.cat([count, count * mean, count * (variance + mean.square())])
    ).split([1, len(mean), len(mean)])  # fmt: skip
    mean = sums / count
    return count[0], mean, (squares / count - mean.square()).clamp(min=0)


class SyncBatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d over the joined batch of all ranks, with its state dict and its evaluation mode.

    Every rank's gradient is that of the sum of the ranks' losses with respect to its own copy of the weights; their
    average over ranks is the gradient of the mean loss, as under DDP with torch.nn.SyncBatchNorm. The same goes for
    second derivatives: for one v on all ranks, the average over ranks of d<gradient, v>/dw is the Hessian of the mean
    loss times v, where `gradient` is the rank's own, not yet averaged.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, H, W)."""
        if not self.training and self.running_mean is not None:
            return super().forward(input)
        self._check_input_dim(input)
        x = input if input.dtype == torch.float64 else input.float()  # autocast hands over bf16 or fp16
        count, mean, variance = joined_moments(x)
        if self.training and self.track_running_stats:
            self._update(count.detach(), mean.detach(), variance.detach())
        mean, scale = mean.to(x.dtype), (variance + self.eps).rsqrt().to(x.dtype)
        if self.weight is not None:
            scale = scale * self.weight
        out = (x - mean[:, None, None]) * scale[:, None, None]
        if self.bias is not None:
            out = out + self.bias[:, None, None]
        return out.to(input.dtype)

    @torch.no_grad()
    def _update(self, count: Tensor, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        rate = self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
            if rate is None:
                rate = 1 / self.num_batches_tracked
        if rate is None:
            raise ValueError("a BatchNorm without momentum averages over all batches, and needs to count them")
        unbiased = variance * count / (count - 1).clamp(min=1)
        self.running_mean += rate * (mean - self.running_mean).to(self.running_mean.dtype)
        self.running_var += rate * (unbiased - self.running_var).to(self.running_var.dtype)


def synchronise_batch_norm(model: nn.Module, world: World, *, once_differentiable: bool = False) -> nn.Module:
    """Replace every BatchNorm2d by one over the joined batch; parameters, buffers and state-dict keys stay.

    once_differentiable: no second derivative is needed, so that torch's own may be taken, on CUDA. With one process
    the model is returned as it is.
    """
    if world.size == 1:
        return model
    if once_differentiable and world.device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return _convert(model)


def _convert(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.BatchNorm2d) and not isinstance(module, SyncBatchNorm2d):
        converted = SyncBatchNorm2d.__new__(SyncBatchNorm2d)
        converted.__dict__ = module.__dict__  # the same parameters, buffers, hooks and mode
        return converted
    for name, child in module.named_children():
        setattr(module, name, _convert(child))
    return module


@torch.no_grad()
def average_running_statistics_(model: nn.Module, world: World) -> None:
    """Give every rank the running statistics of all ranks' images: mean of means, and the variance around it.

    Ranks that agree already keep theirs to the last bit, so that doing it again changes nothing.
    """
    norms = [
        m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is not None
    ]
    if world.size == 1 or not norms:
        return
    means, variances = (
        torch.cat([getattr(norm, name).double() for norm in norms]) for name in ("running_mean", "running_var")
    )
    mean = world.mean([means])[0]
    variance = world.mean([variances + (means - mean).square()])[0]
    start = 0
    for norm in norms:
        assert norm.running_mean is not None and norm.running_var is not None
        part = slice(start, start + len(norm.running_mean))
        norm.running_mean.copy_(mean[part])
        norm.running_var.copy_(variance[part])
        start = part.stop
