"""Ask the job script for another job in which a stopped run is resumed."""

import logging
import os
from pathlib import Path

from darts_hpc import strict_json
from darts_hpc.durable import write_atomically

log = logging.getLogger(__name__)

REQUEUE_FILE = "DARTS_HPC_REQUEUE_FILE"
"""Environment variable: the file that a stopped run writes, and a job script looks for, where the job is to go on."""


def request_requeue(folder: Path, step: int, *, steps_done: int, saved: bool) -> None:
    """Write the file that REQUEUE_FILE names, if it is set.

    steps_done: since the job started. A run that did none, or was not saved, would be requeued for ever: it only warns.
    """
    marker = os.environ.get(REQUEUE_FILE)
    if not marker:
        return
    if not saved or steps_done <= 0:
        why = "not a step was done since the start" if saved else "the checkpoint could not be written"
        log.warning("no requeue asked for, because %s", why)
        return
    try:
        _write(Path(marker), strict_json.dumps({"folder": str(folder), "step": step}) + "\n")
    except OSError as error:
        log.error("can't ask for a requeue (%s); the run is saved: submit the job again yourself", error)


def _write(marker: Path, text: str) -> None:
    """Write the file, or an empty one where the disk is full: the job script looks only whether it is there."""
    marker.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_atomically(marker, text.encode())
    except OSError:
        marker.touch()
