"""Work that lasts longer than any collective: ranks have met several times before it is done. No clock is read."""

import threading
from collections.abc import Callable

from darts_hpc.distributed import long_tasks
from darts_hpc.distributed.world import World

MEETINGS = 3


def lasting_work() -> Callable[[], None]:
    """Return what waits until this rank has met the others in some collectives. In a fork: what it patches stays so."""
    met, gather = threading.Semaphore(0), World.gather_objects

    def counted(self: World, value: object) -> list:
        values = gather(self, value)
        met.release()
        return values

    def wait() -> None:
        for _ in range(MEETINGS):
            assert met.acquire(timeout=240), "the others wait in one collective until this work is done"

    World.gather_objects = counted
    long_tasks.SECONDS_BETWEEN_BEATS = 0.01
    return wait
