"""How a run that was stopped asks the script of its job for another job that goes on with it."""

import logging
import os
from pathlib import Path

from darts_hpc import strict_json
from darts_hpc.run.checkpoint import write_text_atomically

log = logging.getLogger(__name__)

REQUEUE_FILE = "DARTS_HPC_REQUEUE_FILE"
"""Environment variable: the file by which a job script learns that a stopped run should go on in a job of its own."""


def ask_for_requeue(folder: Path, step: int, first_step: int, saved: bool) -> None:
    """Leave the marker at which a job script requeues itself; not without progress, or it would do so for ever.

    step, first_step: of the whole run, those that are done now and were done when this process started.
    """
    marker = os.environ.get(REQUEUE_FILE)
    if not marker:
        return
    if not saved or step <= first_step:
        why = "not a step was done since the start" if saved else "the checkpoint could not be written"
        log.warning("no requeue asked for, because %s", why)
        return
    try:
        _leave(Path(marker), strict_json.dumps({"folder": str(folder), "step": step}) + "\n")
    except OSError as error:
        log.error("can't ask for a requeue (%s); the run is saved: submit the job again yourself", error)


def _leave(marker: Path, text: str) -> None:
    """Write the marker, or an empty one where the disk is full: that it is there is what counts."""
    marker.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_text_atomically(marker, text)
    except OSError:
        marker.touch()
