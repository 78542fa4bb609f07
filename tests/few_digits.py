"""A tenth of the digits, as a folder per class: a search of it costs little more than its operations themselves."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

VARIABLE = "DARTS_HPC_FEW_DIGITS"
NUM_TRAIN, NUM_TEST = 143, 36


def few_digits() -> Path:
    """Return the folder, made by the first process that asks, for those that it starts too, and removed at its end."""
    if VARIABLE not in os.environ:
        import numpy as np
        from PIL import Image

        folder = Path(tempfile.mkdtemp(prefix="few-digits-"))
        owner = os.getpid()
        atexit.register(lambda: shutil.rmtree(folder) if os.getpid() == owner else None)
        stored = np.load(Path(__file__).parents[1] / "darts_hpc" / "data" / "sets" / "digits.npz")
        for part, is_test, count in (("train", False, NUM_TRAIN), ("test", True, NUM_TEST)):
            for index in (stored["test"] == is_test).nonzero()[0][:count]:
                path = folder / part / str(stored["labels"][index]) / f"{index:04}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray((stored["images"][index] * 15).astype(np.uint8)).save(path)
        os.environ[VARIABLE] = str(folder)
    return Path(os.environ[VARIABLE])
