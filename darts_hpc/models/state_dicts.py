"""The original's state-dict layout: ours has the same keys, but for alphas and what old PyTorch did not save."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _IncompatibleKeys

from darts_hpc.user_files import shown

ALPHAS = ("alphas_normal", "alphas_reduce", "betas_normal", "betas_reduce")
NO_WEIGHTS = ("drop_path_prob", "total_ops", "total_params")
"""Buffers that forks keep beside weights: the chance of drop path, and what thop counted in each module."""
POOLS = {nn.MaxPool2d: "max_pool_3x3", nn.AvgPool2d: "avg_pool_3x3"}


def has_auxiliary_head(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict holds an auxiliary classifier, of whatever layout."""
    return any(_is_auxiliary(name) for name in state)


def load_original(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state dict of the original's layout into a supernet or a derived network, in place.

    Accepted: a `module.` prefix (DataParallel), no `num_batches_tracked` (PyTorch < 0.4.1), no alphas (the original
    never saved them), an auxiliary head that the model does not have, buffers of NO_WEIGHTS. Anything else that is
    missing, unknown or of another shape raises ValueError naming the first such key.
    """
    if strangers := [name for name in state if not isinstance(name, str)]:
        raise ValueError(
            f"the state dict has the key {shown(repr(strangers[0]))}; expected the names of weights, as torch saves "
            "them"
        )
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    state = {name: tensor for name, tensor in state.items() if name.rpartition(".")[2] not in NO_WEIGHTS}
    own = model.state_dict()
    if not has_auxiliary_head(own):
        state = {name: tensor for name, tensor in state.items() if not _is_auxiliary(name)}
    optional = {name for name in own if name.endswith("num_batches_tracked") or name in ALPHAS}
    _check_pools(model, state)
    missing = [name for name in own if name not in state and name not in optional]
    unknown = [name for name in state if name not in own]
    for problem, names in (("has no", missing), ("has the unknown", unknown)):
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise ValueError(
                f"the state dict {problem} key {shown(repr(names[0]))}{more}; "
                "do --arch, --init_channels, --layers and --auxiliary fit it?"
            )
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise ValueError(
                f"{name} is {tuple(tensor.shape)} in the state dict and {tuple(own[name].shape)} in the model; "
                "do --arch, --init_channels, --layers and the number of classes fit it?"
            )
        if tensor.is_floating_point() != own[name].is_floating_point():
            raise ValueError(
                f"{name} holds {tensor.dtype} in the state dict; expected {own[name].dtype}: give weights that are not "
                "quantized"
            )
    model.load_state_dict({**own, **state})


def export_original(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the model's state dict on the CPU, without alphas: what the original's own code loads."""
    return {name: t.detach().cpu().clone() for name, t in model.state_dict().items() if name not in ALPHAS}


def compare_keys(own: Mapping[str, Tensor], state: Mapping[str, Tensor], strict: bool) -> _IncompatibleKeys:
    """Return what nn.Module.load_state_dict does: the missing and the unknown keys.

    Raises RuntimeError where there are some when strict.
    """
    missing = [name for name in own if name not in state]
    unknown = [name for name in state if name not in own]
    if strict and (missing or unknown):
        raise RuntimeError(f"state dict of another network: missing keys {missing}, unexpected keys {unknown}")
    return _IncompatibleKeys(missing, unknown)


@torch.no_grad()
def copy_into(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Copy a state dict into the tensors of the same names, such as views of one vector of weights."""
    for name, tensor in own.items():
        if name in state:
            tensor.copy_(state[name])


def _is_auxiliary(name: str) -> bool:
    return re.match(r"aux(iliary)?(_\w+)?\.", name) is not None


def _check_pools(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Raise ValueError where the state dict has a BatchNorm behind a pool, as DrNAS trains its networks."""
    modules = dict(model.named_modules())
    for name in state:
        operation = modules.get(name.removesuffix(".op.1.running_mean"))
        if (pool := POOLS.get(type(operation))) is not None:
            raise ValueError(
                f"the state dict has a BatchNorm behind a pool ({name}), as DrNAS' networks have, so this network "
                f"differs from the one it is of; write {pool}_bn for {pool} in the cell's file"
            )
