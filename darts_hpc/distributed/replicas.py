"""Whether the replicas of a model are still the same on every rank, bit for bit."""

from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor

from darts_hpc.distributed.world import World

BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Integer type by bytes per element."""


def check_replicas(tensors: Mapping[str, Tensor], world: World) -> None:
    """Compare named tensors over ranks, one small collective. Call it on every rank.

    Raises ValueError, one line and the same on all ranks, naming the ranks that differ from the majority (from rank 0
    where there is none) and the first tensor that does.
    """
    if world.size == 1:
        return
    digests = torch.stack([digest(tensor) for tensor in tensors.values()])
    if len(set(world.gather_objects(digest(digests).item()))) == 1:
        return
    rows = [tuple(row) for row in world.gather_objects(digests.tolist())]
    # most_common keeps the order of first appearance among equals: rank 0 wins a tie
    agreed = Counter(rows).most_common(1)[0][0]
    odd = [rank for rank, row in enumerate(rows) if row != agreed]
    names = [name for at, name in enumerate(tensors) if any(rows[rank][at] != agreed[at] for rank in odd)]
    raise ValueError(
        f"the replicas have drifted apart: rank {', '.join(map(str, odd))} of {world.size} differs from the others in "
        f"{names[0]} (and {len(names) - 1} more of {len(tensors)}); check that machine, and go on from the last "
        "checkpoint with --resume auto"
    )


def digest(tensor: Tensor) -> Tensor:
    """Return a checksum of the tensor's bits, () int64, that any single changed element changes."""
    bits = tensor.detach().contiguous().view(-1).view(BITS[tensor.element_size()]).long()
    odd = torch.arange(bits.numel(), device=bits.device) * -7046029254386353130 + 1  # odd multipliers lose no bit
    return (bits * odd).sum()
