"""The state that each rank has of its own: BatchNorm's running statistics and the states of random generators.

`state` names everything that is saved, as Run.epochs takes it. Rank 0's statistics are part of the shared state.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from darts_hpc.distributed.world import World
from darts_hpc.run.checkpoint import Checkpoint

RUNNING_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Ends of the statistics' names in a state dict."""


def rank_state(state: Mapping[str, Any], world: World) -> dict[str, Any]:
    """Return this rank's own part."""
    modules = {} if world.is_main else _modules(state)
    buffers = {name: _running_statistics(part.state_dict()) for name, part in modules.items()}
    cuda = torch.cuda.get_rng_state(world.device) if world.device.type == "cuda" else None
    return {"buffers": buffers, "rng": torch.get_rng_state(), "cuda_rng": cuda}


def saved_rank_state(
    checkpoint: Checkpoint, objects: Mapping[str, Any], state: Mapping[str, Any], world: World
) -> dict[str, Any]:
    """Return this rank's own part of a checkpoint; with another number of ranks, the mean of their statistics.

    `objects`: the checkpoint's shared state.
    """
    saved = checkpoint.fingerprint["world_size"]
    if type(saved) is not int or saved < 1:
        raise checkpoint.unknown_layout("its world_size")
    if saved == world.size:
        return checkpoint.load(f"rank{world.rank}")
    ranks = [checkpoint.load(f"rank{rank}") for rank in range(saved)]
    first = {name: _running_statistics(objects[name]) for name in _modules(state)}
    others = [rank["buffers"] for rank in ranks[1:]]
    buffers = {
        name: {
            key: torch.stack([rank[name][key].double() for rank in (first, *others)]).mean(0).to(value.dtype)
            for key, value in part.items()
        }
        for name, part in first.items()
    }
    return {**ranks[world.rank % saved], "buffers": buffers}


def load_rank_state(own: Mapping[str, Any], state: Mapping[str, Any], world: World) -> None:
    """Restore this rank's own part, after the shared state."""
    for name, buffers in own["buffers"].items():
        state[name].load_state_dict(buffers, strict=False)
    torch.set_rng_state(own["rng"])
    if own["cuda_rng"] is not None and world.device.type == "cuda":
        torch.cuda.set_rng_state(own["cuda_rng"], world.device)


def _modules(state: Mapping[str, Any]) -> dict[str, nn.Module]:
    return {name: part for name, part in state.items() if isinstance(part, nn.Module)}


def _running_statistics(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.cpu() for key, value in state.items() if key.endswith(RUNNING_STATISTICS)}
