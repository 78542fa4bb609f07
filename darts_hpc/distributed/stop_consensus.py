"""All ranks agree on one step to stop at, though a signal may come to only one of them, and at any time."""

import torch
import torch.distributed as dist

from darts_hpc.distributed.world import World


class StopConsensus:
    """Every rank posts its own signal (0: none) once per step, and gets the largest that was posted a step before.

    The answer is the same on every rank. The all-reduce has a whole step's time, on the CPU and beside the device's
    work, so no rank waits for it; a single process gets its own signal at once.
    """

    def __init__(self, world: World):
        self.world = world
        self._signal = torch.zeros(1, dtype=torch.int64)
        self._work: dist.Work | None = None

    def post(self, signal: int) -> int:
        """Send this rank's signal (0: none), and return the outcome of the step before."""
        if self.world.size == 1:
            return signal
        outcome = self.wait()
        self._signal.fill_(signal)
        self._work = dist.all_reduce(self._signal, dist.ReduceOp.MAX, group=self.world.control, async_op=True)
        return outcome

    def wait(self) -> int:
        """Return the outcome that is under way, if any: 0 without one."""
        if self._work is None:
            return 0
        self._work.wait()
        self._work = None
        return int(self._signal)
