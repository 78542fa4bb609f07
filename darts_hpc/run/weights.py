"""Weights of a trained network, from a run, from its weights.pt, or from a file of the original scripts."""

import io
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from darts_hpc.run.checkpoint import CheckpointStore
from darts_hpc.run.reader import check_exists


def read_weights(path: Path, flag: str = "--model_path") -> Mapping[str, Tensor]:
    """Return the state dict in a training run's newest valid checkpoint, in weights.pt, in an original .pt file, or in
    a .safetensors file.

    `flag`: what gave the path, for messages. Raises ValueError, one line, for anything else.
    """
    if path.is_dir():
        newest = CheckpointStore(path / "checkpoints").load_newest()
        if newest is None:
            raise ValueError(f"{flag} {path} holds no checkpoint; give the folder of a training run, or a file")
        objects = newest.load("state")["objects"]
        if "network" not in objects:
            raise ValueError(f"{flag} {path} is a search; train its cell first: darts_hpc.train --arch {path}")
        return objects["network"]
    check_exists(path, flag)
    try:
        file = io.BytesIO(path.read_bytes())  # read apart: on a truncated file torch's seeks are an OSError too
    except OSError as error:
        raise ValueError(f"{flag} {path} can't be read ({error.strerror})") from None
    if path.suffix == ".safetensors":
        return _read_safetensors(file, f"{flag} {path}")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError):  # which advise to load without a check
        raise ValueError(
            f"{flag} {path} is damaged or holds no state dict; give the file that torch.save wrote of one"
        ) from None
    if isinstance(content, dict) and "state_dict" in content:  # the original's ImageNet checkpoints
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{flag} {path} holds no state dict; give the file that torch.save wrote of one")
    return content


def _read_safetensors(file: io.BytesIO, what: str) -> Mapping[str, Tensor]:
    try:
        import safetensors.torch
    except ImportError:
        raise ValueError(f"{what} needs safetensors: pip install 'darts_hpc[export]'") from None
    try:
        return safetensors.torch.load(file.getvalue())
    except safetensors.SafetensorError as error:
        raise ValueError(f"{what} is damaged ({error}); give the file that export wrote") from None
