"""Weights of a trained network, from a run, from its weights.pt, or from a file of the original scripts."""

import argparse
import hashlib
import io
import json
import re
import warnings
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from darts_hpc.run.checkpoint import CheckpointStore
from darts_hpc.run.reader import check_exists
from darts_hpc.user_files import read_file, shown

MAX_BYTES = 1 << 32
"""Of a file of weights; the paper's networks have some 2e7."""
CONTAINERS = ("state_dict", "model_state_dict", "model", "network", "net")
"""What training scripts call a state dict in a checkpoint."""
DEPTH = 4
"""Containers in each other, at most."""
INNER_WRAPPERS = r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
"""What torch.compile, FSDP and torch's recomputation put into names, anywhere."""
OUTER_WRAPPERS = ("module.", "model.", "net.", "network.")
"""What DataParallel and AveragedModel, and the modules of Lightning, put before each name."""
COUNT = "n_averaged"
"""What AveragedModel has beside the weights."""
TORCH_STARTS = (b"PK", b"\x80\x02")
"""Of a file by torch.save: a zip file, or a pickle before PyTorch 1.6."""
PROGRAMS = {
    "/constants.pkl": "TorchScript",
    "/serialized_exported_program.json": "torch.export",
    "/models/": "torch.export",
}
"""Parts of zip files that hold a program, and not weights alone."""


def read_weights(path: Path, flag: str = "--model_path") -> Mapping[str, Tensor]:
    """Return the state dict in a training run's newest valid checkpoint, in weights.pt, in an original .pt file, or in
    a file of safetensors, whatever its name. Of a run with --ema, it is the average of the weights.

    A checkpoint of a training script is searched for its state dict, and names of compiled and parallel networks are
    those of the network itself. `flag` is what named the path. Raises ValueError, one line, for anything else: a file
    that is not as its run wrote it, code, and weights that are not dense, real and finite.
    """
    if path.is_dir():
        return _checked(_weights_of_run(path, flag), f"{flag} {path}")
    check_exists(path, flag)
    data, what = read_file(path, MAX_BYTES), f"{flag} {path}"
    _check_digest(path, data, flag)
    content = _read_safetensors(data, what) if _is_safetensors(path, data) else _load(data, what)
    return _checked(_state_dict(content, what), what)


def _weights_of_run(path: Path, flag: str) -> Mapping[str, Tensor]:
    newest = CheckpointStore(path / "checkpoints").load_newest()
    if newest is None:
        raise ValueError(f"{flag} {path} holds no checkpoint; give the folder of a training run, or a file")
    objects = newest.load("state").get("objects")
    if not isinstance(objects, dict):
        raise newest.unknown_layout("its state")
    if "network" not in objects:
        raise ValueError(f"{flag} {path} is a search; train its cell first: darts_hpc.train --arch {path}")
    weights = objects.get("average", objects["network"])  # which is what the run tests
    if not isinstance(weights, dict) or not _is_state_dict(weights):
        raise newest.unknown_layout("its network")
    return weights


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


def _is_safetensors(path: Path, data: bytes) -> bool:
    """Whether a file is one of safetensors: by its content, and by its name where that is neither's."""
    if data[8:9] == b"{":  # behind the length of the header, which may look like the start of any file
        return True
    return path.suffix == ".safetensors" and not data.startswith(TORCH_STARTS)


def _load(data: bytes, what: str) -> object:
    """Return what torch.save wrote, as far as it is plain data."""
    _check_zip(data, what)
    try:
        with torch.serialization.safe_globals(_plain_globals()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what torch finds odd, which is refused below
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # damage makes torch raise nearly anything, and its words advise to load without checks
        foreign = re.search(r"GLOBAL (\S+) (?:was not an allowed|whose module)", str(error))
        if foreign is not None:
            raise ValueError(
                f"{what} holds an object of {_escaped(foreign[1])} beside weights, which may run code and is not "
                "loaded; save the state dict alone: torch.save(model.state_dict(), FILE)"
            ) from None
        raise ValueError(
            f"{what} is damaged or holds no state dict; give the file that torch.save wrote of one"
        ) from None


def _check_zip(data: bytes, what: str) -> None:
    """Raise ValueError for a zip file with a program in it, one that unpacks to more, and one with flipped bits."""
    if not data.startswith(b"PK"):
        return
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):  # cut short
        return
    parts = archive.infolist()
    for end, kind in PROGRAMS.items():
        if any(end in f"/{part.filename}" for part in parts):
            raise ValueError(
                f"{what} is a program of {kind}; expected the weights alone: torch.save(model.state_dict(), FILE)"
            )
    if sum(part.file_size for part in parts) > len(data):
        raise ValueError(f"{what} is compressed; expected a file as torch.save writes it")
    whole = [_is_whole(archive, part) for part in parts]
    if any(whole) and not all(whole):  # none is where torch.save was told to leave out the sums, which torch.load skips
        raise ValueError(f"{what} is damaged: a checksum in it does not fit; copy it again")


def _is_whole(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> bool:
    try:
        return len(archive.read(part)) == part.file_size
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, EOFError):
        return False


def _plain_globals() -> list[Any]:
    """Return what training scripts keep beside weights and is plain data, such as arrays of numpy and flags."""
    scalar, array = np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0]
    kinds = {type(np.dtype(number)) for number in np.sctypeDict.values()}
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")  # of numpy 1 and 2
    functions = [
        (call, f"{module}.{name}") for call, name in ((scalar, "scalar"), (array, "_reconstruct")) for module in modules
    ]
    plain = [argparse.Namespace, PosixPath, datetime, timedelta, timezone, defaultdict]
    return [*plain, np.dtype, np.ndarray, *kinds, *functions]


def _state_dict(content: object, what: str) -> Mapping[str, Tensor]:
    """Return the state dict in a checkpoint of any usual layout, its names as the bare network has them."""
    for _ in range(DEPTH):
        if not isinstance(content, Mapping) or _is_state_dict(content):
            break
        content = next((content[key] for key in CONTAINERS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping) or not _is_state_dict(content):
        found = (
            f"a dictionary with {_listed(content)}" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        )
        raise ValueError(
            f"{what} holds no state dict but {found}; give the file that torch.save wrote of one, alone or as one of "
            f"{', '.join(CONTAINERS)}"
        )
    return _bare(content)


def _listed(content: Mapping) -> str:
    names = [_escaped(name)[:40] for name in list(content)[:5]]
    more = len(content) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "") or "nothing in it"


def _bare(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return weights under the names that the network itself has for them, if those differ from one another."""
    names = [name for name in weights if name != COUNT]
    bare = names
    for _ in range(DEPTH):
        bare = [re.sub(INNER_WRAPPERS, "", name) for name in bare]
        for wrapper in OUTER_WRAPPERS:
            if all(name == COUNT or name.startswith(wrapper) for name in bare):
                bare = [name.removeprefix(wrapper) for name in bare]
    found = {name: weights[before] for name, before in zip(bare, names, strict=True) if name != COUNT}
    return found if len(set(bare)) == len(names) else weights


def _is_state_dict(content: Mapping) -> bool:
    return all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())


def _checked(weights: Mapping[str, Tensor], what: str) -> Mapping[str, Tensor]:
    """Refuse tensors that no network computes with."""
    for name, value in weights.items():
        if (problem := _problem(value)) is not None:
            raise ValueError(
                f"{what}: {_escaped(name)} {problem}; give the dense, real weights of a network that did not diverge"
            )
    return weights


def _problem(value: Tensor) -> str | None:
    if value.is_meta:
        return "has no values (a meta tensor)"
    if value.is_nested or value.layout != torch.strided or value.is_quantized:
        return "is sparse, nested or quantized"
    if value.is_complex():
        return "is complex"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return "repeats its values (an expanded tensor)"
    if not _is_number(value.dtype):
        return f"is of {value.dtype}, which holds no numbers that torch computes with"
    if value.is_floating_point() and not value.double().isfinite().all():
        return "is not finite"
    return None


def _is_number(dtype: torch.dtype) -> bool:
    """Whether torch can convert it: not the bits of float4_e2m1fn_x2, two numbers in a byte, and the like."""
    try:
        torch.empty(1, dtype=dtype).double()
    except NotImplementedError:
        return False
    return True


def _read_safetensors(data: bytes, what: str) -> Mapping[str, Tensor]:
    try:
        import safetensors.torch
    except ImportError:
        raise ValueError(f"{what} needs safetensors: pip install 'darts_hpc[export]'") from None
    try:
        return safetensors.torch.load(data)
    except KeyError as error:  # of a type that safetensors.torch has no tensors for, such as F4
        kind = error.args[0]
        name = next((name for name, part in safetensors.deserialize(data) if part["dtype"] == kind), "a tensor")
        raise ValueError(
            f"{what}: {_escaped(name)} is of {kind}, which holds no numbers that torch computes with; save it as F32"
        ) from None
    except (safetensors.SafetensorError, ValueError, RuntimeError) as error:
        raise ValueError(f"{what} is damaged ({_escaped(error)}); give the file that export wrote") from None


def _escaped(value: object) -> str:
    """Return a text of the file's own as a message repeats it: short, and in one line."""
    return shown(repr(str(value))[1:-1])
