"""The sums of each channel that a kernel takes while it writes, for the BatchNorm that follows."""

from torch import Tensor

from darts_hpc.models.norm import Statistics
from darts_hpc.models.supernet.fast.kernels.launching import FINISH, accumulator, ceil_div, launch


class ChannelSums:
    """Partial sums of the channels of `raw` (B, C, H, W), a row per tile; none where running statistics are used.

    partial: sums and squares (rows, C), which the kernel writes. mean, inv_std (C,): valid once finished.
    """

    def __init__(self, norm: Statistics, raw: Tensor, rows: int):
        self.norm, self.raw, self.rows = norm, raw, rows
        channels, dtype = raw.shape[1], accumulator(raw.dtype)[0]
        if norm.of_batch:
            self.partial = tuple(raw.new_empty(rows, channels, dtype=dtype) for _ in range(2))
            self.mean, self.inv_std = (raw.new_empty(channels, dtype=dtype) for _ in range(2))
        else:
            assert norm.running_mean is not None and norm.running_variance is not None
            self.partial = (raw, raw)
            self.mean, self.inv_std = norm.running_mean, (norm.running_variance + norm.eps).rsqrt()

    def finish(self, tiles: int, block: int) -> tuple[Tensor, Tensor]:
        """Return mean and 1 / std, and move the running statistics. tiles: of an image, of `block` pixels each."""
        from darts_hpc.models.supernet.fast.kernels.batch_norms import finish_statistics

        norm, (batch, channels, height, width) = self.norm, self.raw.shape
        if norm.of_batch:
            has_running = norm.running_mean is not None
            running = (norm.running_mean, norm.running_variance) if has_running else (self.mean, self.mean)
            launch(
                finish_statistics, (ceil_div(channels, FINISH["CHANNELS"]),),
                *self.partial, self.mean, self.inv_std, *running, self.rows, tiles, height * width, channels,
                batch * height * width, norm.momentum, norm.eps, BLOCK=block, UPDATE=has_running, **FINISH,
            )  # fmt: skip
        return self.mean, self.inv_std
