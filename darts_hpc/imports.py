"""Import what lasts as long as the process, such as torch, a third faster: its objects are no garbage."""

import atexit
import gc
import importlib
import sys


def import_lasting(name: str) -> None:
    """Import a module without looking for garbage among its objects: neither now nor later, nor at the exit."""
    gc.disable()
    try:
        importlib.import_module(name)
    finally:
        gc.freeze()
        gc.enable()
    atexit.register(_unfreeze)


def _unfreeze() -> None:
    if "triton" in sys.modules:  # it prints what is left of it at the very end
        gc.unfreeze()
