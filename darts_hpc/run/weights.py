"""Weights of a trained network, from a run, from its weights.pt, or from a file of the original scripts."""

import argparse
import hashlib
import io
import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from darts_hpc.run.checkpoint import CheckpointStore
from darts_hpc.run.reader import check_exists
from darts_hpc.user_files import read_file

CONTAINERS = ("state_dict", "model_state_dict", "model", "network", "net")
"""What training scripts call a state dict in a checkpoint."""
WRAPPERS = r"(?:^|(?<=\.))_orig_mod\.|^module\."
"""What torch.compile puts before names, anywhere, and DataParallel before each of them."""


def read_weights(path: Path, flag: str = "--model_path") -> Mapping[str, Tensor]:
    """Return the state dict in a training run's newest valid checkpoint, in weights.pt, in an original .pt file, or in
    a .safetensors file.

    A checkpoint of a training script is searched for its state dict, and names of compiled and parallel networks are
    those of the network itself. `flag` is what named the path. Raises ValueError, one line, for anything else: a file
    that is not as its run wrote it, code, and weights that are not dense, real and finite.
    """
    if path.is_dir():
        newest = CheckpointStore(path / "checkpoints").load_newest()
        if newest is None:
            raise ValueError(f"{flag} {path} holds no checkpoint; give the folder of a training run, or a file")
        objects = newest.load("state").get("objects")
        if not isinstance(objects, dict):
            raise newest.unknown_layout("its state")
        if "network" not in objects:
            raise ValueError(f"{flag} {path} is a search; train its cell first: darts_hpc.train --arch {path}")
        return objects["network"]
    check_exists(path, flag)
    try:
        data = path.read_bytes()  # apart: in a file cut short, torch's seeks are an OSError too
    except OSError as error:
        raise ValueError(f"{flag} {path} can't be read ({error.strerror})") from None
    _check_digest(path, data, flag)
    if path.suffix == ".safetensors":
        return _checked(_read_safetensors(io.BytesIO(data), f"{flag} {path}"), f"{flag} {path}")
    return _checked(_state_dict(_load(data, f"{flag} {path}"), f"{flag} {path}"), f"{flag} {path}")


def _check_digest(path: Path, data: bytes, flag: str) -> None:
    """Compare a file with the digest in the result.json of the run that wrote it, if it lies beside it."""
    try:
        expected = json.loads(read_file(path.with_name("result.json")))["files"][path.name]["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError):  # not of a run, or of an older version's
        return
    if hashlib.sha256(data).hexdigest() != expected:
        raise ValueError(
            f"{flag} {path} is damaged: its digest is not the one in result.json; copy it again, or name the run "
            f"folder {path.parent}, if its checkpoint is whole"
        )


def _load(data: bytes, what: str) -> object:
    """Return what torch.save wrote, as far as it is plain data; its words advise to load without that check."""
    try:
        with torch.serialization.safe_globals(_plain_globals()):
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, AttributeError, KeyError) as error:
        foreign = re.search(r"GLOBAL (\S+) (?:was not an allowed|whose module)", str(error))
        if foreign is not None:
            raise ValueError(
                f"{what} holds an object of {foreign[1]} beside weights, which may run code and is not loaded; save "
                "the state dict alone: torch.save(model.state_dict(), FILE)"
            ) from None
        raise ValueError(
            f"{what} is damaged or holds no state dict; give the file that torch.save wrote of one"
        ) from None


def _plain_globals() -> list[Any]:
    """Return what training scripts keep beside weights and is plain data: numbers of numpy, and argparse's flags."""
    scalar = np.float64(0).__reduce__()[0]
    numbers = (np.float64, np.float32, np.float16, np.int64, np.int32, np.bool_)
    kinds = [type(np.dtype(number)) for number in numbers]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")  # of numpy 1 and 2
    return [argparse.Namespace, np.dtype, *kinds, *((scalar, name) for name in names)]


def _state_dict(content: object, what: str) -> Mapping[str, Tensor]:
    """Return the state dict in a checkpoint of any usual layout, its names as the bare network has them."""
    while isinstance(content, Mapping) and not _is_state_dict(content):
        inner = next((content[key] for key in CONTAINERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping) or not _is_state_dict(content):
        raise ValueError(f"{what} holds no state dict; give the file that torch.save wrote of one")
    bare = {_bare(name): value for name, value in content.items()}
    return bare if len(bare) == len(content) else content


def _bare(name: str) -> str:
    while (shorter := re.sub(WRAPPERS, "", name)) != name:
        name = shorter
    return name


def _is_state_dict(content: Mapping) -> bool:
    return all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())


def _checked(weights: Mapping[str, Tensor], what: str) -> Mapping[str, Tensor]:
    """Refuse tensors that no network computes with."""
    for name, value in weights.items():
        problem = None
        if value.is_meta:
            problem = "has no values (a meta tensor)"
        elif value.layout != torch.strided or value.is_quantized:
            problem = "is sparse or quantized"
        elif value.is_complex():
            problem = "is complex"
        elif value.is_floating_point() and not value.isfinite().all():
            problem = "is not finite"
        if problem is not None:
            raise ValueError(
                f"{what}: {name} {problem}; give the dense, real weights of a network that did not diverge"
            )
    return weights


def _read_safetensors(file: io.BytesIO, what: str) -> Mapping[str, Tensor]:
    try:
        import safetensors.torch
    except ImportError:
        raise ValueError(f"{what} needs safetensors: pip install 'darts_hpc[export]'") from None
    try:
        return safetensors.torch.load(file.getvalue())
    except safetensors.SafetensorError as error:
        raise ValueError(f"{what} is damaged ({error}); give the file that export wrote") from None
