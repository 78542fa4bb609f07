"""Which images a rank takes at which step: a pure function of (seed, epoch, step)."""

import torch
from torch import Tensor

from darts_hpc import counter_rng

ORDER, IMAGE, DROP_PATH = range(3)
"""Streams of random numbers of one (seed, epoch, sample id)."""


class SampleOrder:
    """This rank's sample ids at every (epoch, step).

    The order of an epoch is a permutation drawn from (seed, epoch, sample id); a step takes the next global batch of
    `world_size` consecutive slices of it, one per rank. So the position in the data is (epoch, step), and the samples
    do not depend on the number of ranks that share a global batch.

    Args:
        sample_ids: (N,) int64, in the order that an epoch has when not shuffled.
        batch_size: images per step on this rank.
        shuffle: draw a new order each epoch.
        drop_last: leave out the images that do not fill a global batch, so that every rank has equal batches. Without
            it every image comes exactly once, and the last ones are shared evenly, so that a rank may have none.

    Raises:
        ValueError: drop_last leaves no batch at all.
    """

    def __init__(
        self,
        sample_ids: Tensor,
        *,
        batch_size: int,
        seed: int,
        shuffle: bool = False,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.sample_ids, self.batch_size, self.seed, self.shuffle = sample_ids, batch_size, seed, shuffle
        self.rank, self.world_size, self.global_batch_size = rank, world_size, batch_size * world_size
        self.num_samples = len(sample_ids)
        full, rest = divmod(self.num_samples, self.global_batch_size)
        self.steps_per_epoch = full + bool(rest and not drop_last)
        if not self.steps_per_epoch:
            way_out = "lower --batch_size" if self.num_samples >= world_size else "start fewer processes"
            raise ValueError(
                f"--batch_size {batch_size} on {world_size} processes takes {self.global_batch_size} images per step; "
                f"only {self.num_samples} are there; {way_out}"
            )
        self._order: tuple[int, Tensor] | None = None

    def ids(self, epoch: int, step: int) -> Tensor:
        """Return the sample ids (B,) of this rank at a step."""
        return self.epoch_ids(epoch)[self.batch_of(step)]

    def batch_of(self, step: int) -> slice:
        """Return where in an epoch's order this rank's batch of a step lies."""
        start = step * self.global_batch_size
        size = min(self.global_batch_size, self.num_samples - start)
        return slice(start + size * self.rank // self.world_size, start + size * (self.rank + 1) // self.world_size)

    def own_positions(self) -> Tensor:
        """Return where in an epoch's order the images of this rank lie, of all steps."""
        positions = torch.arange(self.num_samples, device=self.sample_ids.device)
        return torch.cat([positions[self.batch_of(step)] for step in range(self.steps_per_epoch)])

    def epoch_ids(self, epoch: int) -> Tensor:
        """Return all sample ids (N,) in the order of an epoch; the last epoch's is kept."""
        if not self.shuffle:
            return self.sample_ids
        if self._order is None or self._order[0] != epoch:
            bits = counter_rng.random_bits(self.seed, epoch, self.sample_ids, ORDER)
            self._order = epoch, self.sample_ids[bits.argsort(stable=True)]
        return self._order[1]
