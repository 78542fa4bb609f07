"""Stops that torch's agent would lose: it raises each as an exception, wherever in its code it happens to be.

A log line swallows exceptions, and so does the end of a rendezvous. Workers that are being started are not yet known
to the agent, which would leave them behind. The timing of a call (torch's @prof) fails where it is interrupted before
it has begun. There, a stop waits.
"""

import inspect
import logging
import os
import signal
from types import FrameType

from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.metrics.api import prof
from torch.distributed.elastic.multiprocessing import api
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import DynamicRendezvousHandler

TIMING = prof(lambda: None).__code__  # pyright: ignore[reportFunctionMemberAccess, reportAttributeAccessIssue]
"""What torch's @prof wraps around each method."""
LOSING = {
    function.__code__
    for function in (
        logging.Handler.handle,
        inspect.unwrap(LocalElasticAgent._start_workers),
        DynamicRendezvousHandler.shutdown,
    )
}
AGAIN_S = 0.05


def heed_every_stop() -> None:
    """Have torch's agent take every signal that it handles."""
    api._terminate_process_handler = _raise_or_wait


def ignore_stops(numbers: list[signal.Signals]) -> None:
    """Ignore these signals, and those that wait."""
    for number in (*numbers, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


def _raise_or_wait(number: int, frame: FrameType | None) -> None:
    if _is_lost(frame):
        signal.signal(signal.SIGALRM, lambda _, later: _raise_or_wait(number, later))
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
        return
    name = signal.Signals(number)
    raise api.SignalException(f"Process {os.getpid()} got signal: {name}", sigval=name)


def _is_lost(frame: FrameType | None) -> bool:
    """Whether an exception that is raised in a frame would not come out of torch's agent as what it is."""
    if frame is not None and frame.f_code is TIMING:
        return True
    while frame is not None and frame.f_code not in LOSING:
        frame = frame.f_back
    return frame is not None
