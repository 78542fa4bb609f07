"""Hold runs in processes of their own at a step, or amid their import of torch: what a test does then is in time."""

import os
import time
from pathlib import Path

CODE = Path(__file__).with_name("hold")


class Hold:
    """Where runs are held: those that are started with `environment`. Each hold ends the one before."""

    def __init__(self, folder: Path):
        self.folder, self.number = folder, 0
        folder.mkdir()
        paths = [str(CODE), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = {"HOLD": str(folder), "PYTHONPATH": ":".join(paths)}

    def at_step(self, epoch: int, step: int) -> None:
        """Hold every rank before a step, counted from 0, or the next one that it comes to after it."""
        self._hold(f"{epoch} {step}")

    def at_import(self) -> None:
        """Hold every Python that imports torch while it does."""
        self._hold("import")

    def release(self) -> None:
        """Let all go on."""
        (self.folder / "at").unlink()

    def wait(self, processes: int = 1, log: Path | None = None) -> None:
        """Wait until so many processes are held; fail with the log if it does not come to that."""
        deadline = time.monotonic() + 240
        while len(list(self.folder.glob(f"held-{self.number}-*"))) < processes:
            said = log.read_text() if log is not None and log.exists() else "no log"
            assert time.monotonic() < deadline, f"{processes} processes are not held: {said}"
            time.sleep(0.05)

    def _hold(self, place: str) -> None:
        self.number += 1
        (self.folder / "next").write_text(f"{self.number} {place}")
        (self.folder / "next").rename(self.folder / "at")
