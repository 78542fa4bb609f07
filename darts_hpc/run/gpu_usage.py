"""How busy the GPU is, from NVIDIA's management library where nvidia-ml-py is installed: darts_hpc[gpu]."""

import functools
import logging
from typing import Any

import torch

log = logging.getLogger(__name__)


def gpu_utilisation(device: torch.device) -> float | None:
    """Return the percentage of the last moments in which the GPU ran a kernel; None without a GPU or the library."""
    if device.type != "cuda":
        return None
    library = _open_library()
    if library is None:
        return None
    try:
        return float(library.nvmlDeviceGetUtilizationRates(_handle(library, device)).gpu)
    except library.NVMLError as error:  # a MIG slice has no such number, for one
        _say_once(f"no GPU utilisation in the metrics: {error}")
        return None


@functools.cache
def _open_library() -> Any:
    try:
        import pynvml
    except ImportError:
        _say_once("no GPU utilisation in the metrics without nvidia-ml-py: pip install 'darts_hpc[gpu]'")
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        _say_once(f"no GPU utilisation in the metrics: {error}")
        return None
    return pynvml


@functools.cache
def _handle(library: Any, device: torch.device) -> Any:
    # By its UUID: the library counts all GPUs of the machine, torch those of CUDA_VISIBLE_DEVICES
    return library.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")


@functools.cache
def _say_once(text: str) -> None:
    log.info(text)
