"""Work that one process does while the others wait, for however long it takes."""

from collections.abc import Callable
from threading import Thread

from darts_hpc.distributed.world import World

SECONDS_BETWEEN_BEATS = 10.0
"""Collectives give up after minutes, so rank 0 says this often that it is still at work."""


def run_on_main(world: World, work: Callable[[], object]) -> None:
    """Run `work` on rank 0; the other ranks return when it is done.

    An exception of it is raised on rank 0, and as a ValueError of the same text on the others.
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
    if world.is_main:
        thread.start()
    state = None
    while state is None:
        if world.is_main:
            thread.join(SECONDS_BETWEEN_BEATS)
            state = None if thread.is_alive() else [str(error) for error in errors]
        state = world.broadcast_object(state)
    if errors:
        raise errors[0]
    if state:
        raise ValueError(state[0])
