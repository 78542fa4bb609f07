"""All ranks agree on one step to stop at, though a signal may come to only one of them, and at any time."""

import torch
import torch.distributed as dist

from darts_hpc.distributed.world import World


class Vote:
    """Every rank casts its wish once a step; each cast answers with the largest wish of the step before.

    The answer is the same on every rank. It was under way for a whole step, on the CPU and beside the device's work,
    so nobody waits for it; a process alone is answered at once.
    """

    def __init__(self, world: World):
        self.world = world
        self._ballot = torch.zeros(1, dtype=torch.int64)
        self._work: dist.Work | None = None

    def cast(self, wish: int) -> int:
        """Send a wish (0: none) and return the outcome before it."""
        if self.world.size == 1:
            return wish
        outcome = self.settle()
        self._ballot.fill_(wish)
        self._work = dist.all_reduce(self._ballot, dist.ReduceOp.MAX, group=self.world.control, async_op=True)
        return outcome

    def settle(self) -> int:
        """Return the outcome of the vote that is under way, if any: 0 without one."""
        if self._work is None:
            return 0
        self._work.wait()
        self._work = None
        return int(self._ballot)
