"""The flags of a search by several processes."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ParallelConfig:
    """Several processes, started by torchrun; --batch_size is that of each of them."""

    sync_bn: bool = False
    """Take BatchNorm's statistics over the batches of all processes, not over each its own: N processes then compute
    what one does on the joined batch."""
    replica_check: int = 100
    """Steps between two checks that all processes hold the same alphas and weights; 0 for none."""

    def __post_init__(self) -> None:
        if self.replica_check < 0:
            raise ValueError(f"--replica_check {self.replica_check}: expected 0 or a number above 0")
