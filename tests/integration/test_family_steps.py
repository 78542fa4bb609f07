"""What holds for a step by every preset of the family and every gradient of the alphas, in a cell of one node."""

import copy
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from darts_hpc.config.cli import parse_config
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.distributed.world import World
from darts_hpc.search.schedule import epoch_conditions
from darts_hpc.space.phases import meta_stands_for
from darts_hpc.space.spaces import uniform_space
from darts_hpc.training import search_run
from darts_hpc.training.optim import MomentumByName, build_sgd
from darts_hpc.training.search_step import StepNumbers, search_step

SMALL = ["--init_channels", "4", "--layers", "3", "--epochs", "4", "--alpha_warmup_epochs", "0"]
SPACE = uniform_space(("none", "sep_conv_3x3", "noise"), num_nodes=1)
SECOND_ORDER = "finite_difference", "exact"


def config(name: str) -> SearchConfig:
    return parse_config(SearchConfig, ["--config", f"configs/search/{name}.yaml", *SMALL])


def what_steps(cfg: SearchConfig) -> tuple:
    """What a step depends on: presets that stop or select differently step as one another."""
    model, optim, arch = cfg.model, cfg.optim, cfg.arch_optim
    members = model.partial_channels > 1, model.edge_norm, model.auxiliary_skip, model.search_drop_path > 0
    return *members, optim.perturb, arch.relaxation, arch.alpha_regulariser


NAMES = sorted((path.stem for path in Path("configs/search").glob("*.yaml")), reverse=True)
PRESETS = sorted({what_steps(config(name)): name for name in NAMES}.values())
"""One of each; a new preset is covered."""


class Small:
    """A search of a preset, ready to step."""

    def __init__(self, name: str, *, seed: int = 0, device: str = "cpu"):
        self.cfg, self.world = config(name), World(torch.device(device))
        torch.manual_seed(seed)
        with self.world.device:
            self.supernet = search_run.build_search_supernet("plain", self.cfg.model, 5, SPACE, False)
        self.supernet.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.optimizer = build_sgd(self.supernet.weights(), self.cfg.optim)
        self.architect = search_run.build_architect(self.cfg, self.supernet, self.world)
        self.conditions = epoch_conditions(self.cfg, 1, self.world.device)

    def state(self) -> dict[str, Any]:
        parts = {"supernet": self.supernet, "architect": self.architect}
        return parts | {"optimizer": MomentumByName(self.optimizer, self.supernet)}

    def step(self, number: int, gradient: str | None = None) -> StepNumbers:
        self.architect.unrolled_method = gradient
        draw = torch.Generator().manual_seed(number)
        images, labels = torch.randn(2, 4, 3, 4, 4, generator=draw), torch.randint(5, (2, 4), generator=draw)
        keys = torch.randint(2**60, (2, 4), generator=draw)
        device, layout = self.world.device, torch.channels_last
        train, valid = (
            (images[half].to(device, memory_format=layout), labels[half].to(device), keys[half].to(device))
            for half in range(2)
        )
        conditions = self.conditions(number) if self.conditions else None
        with OnlyOn(device) if device.type == "meta" else nullcontext():
            return search_step(
                self.supernet, self.architect, self.optimizer, train, valid, grad_clip=5.0, world=self.world,
                perturb=self.cfg.optim.perturb, conditions=conditions,
            )  # fmt: skip


class OnlyOn(TorchDispatchMode):
    """Fail where a tensor is not on the device: read back from it, or made on the host and copied there."""

    def __init__(self, device: torch.device):
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in tree_leaves((args, kwargs, result)):
            assert not isinstance(x, Tensor) or x.device == self.device, f"{func} on {x.device}"
        return result


@pytest.mark.parametrize("name", PRESETS)
def test_a_resumed_search_steps_bitwise_as_one_that_went_on_by_each_gradient(name):
    whole, resumed = Small(name), Small(name, seed=1)
    whole.step(0)
    for part, mine in zip(whole.state().values(), resumed.state().values(), strict=True):
        mine.load_state_dict(copy.deepcopy(part.state_dict()))  # as a file would: nothing shared
    for number, gradient in enumerate((None, *SECOND_ORDER), 1):
        losses = [search.step(number, gradient).loss for search in (whole, resumed)]
        assert torch.equal(*losses) and losses[0].isfinite(), gradient
        for key, value in whole.supernet.state_dict().items():
            assert torch.equal(value, resumed.supernet.state_dict()[key]), (gradient, key)


def on_meta(name: str, monkeypatch: pytest.MonkeyPatch) -> Small:
    """A search on tensors without numbers: they can't be read, and differ from the host's."""
    small = Small(name, device="meta")
    for optimizer in (small.architect.optimizer, small.optimizer):
        monkeypatch.setattr(optimizer, "step", lambda: None)  # torch's own are fused on a GPU, and count steps there
    return small


@pytest.mark.parametrize("name", PRESETS)
def test_a_step_neither_waits_for_the_device_nor_copies_to_it(name, monkeypatch):
    with meta_stands_for("cuda"):
        small = on_meta(name, monkeypatch)
        if small.cfg.arch_optim.relaxation == "softmax":  # decided edges too
            for projection in small.architect.architecture.projections.values():
                projection.chosen[0], projection.dropped[1] = 1, True
        small.step(0)


@pytest.mark.parametrize("gradient", SECOND_ORDER)
def test_neither_does_a_second_order_step(gradient, monkeypatch):
    with meta_stands_for("cuda"):
        on_meta("darts_es", monkeypatch).step(0, gradient)


def test_a_step_whose_every_drawn_operation_is_none_leaves_the_alphas_gradient_0():
    small = Small("gdas")
    with torch.no_grad():
        for alphas in small.architect.architecture.alphas():
            alphas[:, 0] = 100.0  # no draw of gumbel comes near
    for number, gradient in enumerate((None, *SECOND_ORDER)):
        numbers = small.step(number, gradient)
        assert numbers.alpha_norm == 0 and numbers.loss.isfinite()
