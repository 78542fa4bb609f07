"""Work that some processes do while the others wait, for however long it takes."""

from collections.abc import Callable
from threading import Thread

from darts_hpc.distributed.world import World

SECONDS_BETWEEN_BEATS = 10.0
"""Collectives give up after minutes, so each rank reports this often whether it is still at work."""


def run_on_main(world: World, work: Callable[[], object]) -> None:
    """Run `work` on rank 0; the other ranks return when it is done.

    An exception of it is raised on rank 0, and as a ValueError of the same text on the others.
    """
    run_on_all(world, work if world.is_main else lambda: None)


def run_on_all(world: World, work: Callable[[], object]) -> None:
    """Run `work` on every rank; they return when all are done, however far apart.

    An exception of it is raised on its rank, and the first rank's as a ValueError of the same text on the others.
    """
    if world.size == 1:
        work()
        return
    errors: list[BaseException] = []

    def target() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = Thread(target=target, daemon=True)
    thread.start()
    at_work = True
    while at_work:
        thread.join(SECONDS_BETWEEN_BEATS)
        at_work = any(world.gather_objects(thread.is_alive()))
    reported = [message for messages in world.gather_objects([str(error) for error in errors]) for message in messages]
    if errors:
        raise errors[0]
    if reported:
        raise ValueError(reported[0])
