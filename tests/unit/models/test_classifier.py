"""A cell's network stands what users of torch do to a network: record it, wrap its convolutions, quantise it."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from darts_hpc.models.classifier import Classifier
from darts_hpc.models.derived import Cell
from darts_hpc.space.genotypes import GENOTYPES


def small(stem: str = "cifar", **more) -> Classifier:
    """A network with dilated convolutions in its normal and its reduction cells."""
    torch.manual_seed(0)
    return Classifier(stem, GENOTYPES["PDARTS"], num_classes=5, init_channels=4, layers=3, **more).eval()


IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def convolutions(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Conv2d]]:
    """Every convolution, with the module it lies in and its name there."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                yield parent, name, child


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("grad", [True, False])
def test_a_traced_network_takes_other_sizes_with_and_without_gradients(grad):
    model = small()
    with torch.set_grad_enabled(grad):
        traced: Any = torch.jit.trace(model, IMAGES)
    for sides in ((32, 32), (16, 24), (7, 9)):
        images = torch.randn(3, 3, *sides)
        torch.testing.assert_close(traced(images), model(images))


class LowRank(nn.Module):
    """LoRA, as it is written by hand: a frozen convolution and a trained low-rank one beside it."""

    def __init__(self, base: nn.Conv2d, rank: int = 2):
        super().__init__()
        self.base = base.requires_grad_(False)
        shape: Any = base.kernel_size, base.stride, base.padding, base.dilation
        self.down = nn.Conv2d(base.in_channels, rank, *shape, bias=False)
        self.up = nn.Conv2d(rank, base.out_channels, 1, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + self.up(self.down(x))


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_every_convolution_can_be_wrapped_and_trained_on_a_cpu(stem):
    model = small(stem)
    before = model(IMAGES)
    for parent, name, convolution in convolutions(model):
        parent.add_module(name, LowRank(convolution))
    torch.testing.assert_close(model(IMAGES), before)
    model.train()(IMAGES).square().mean().backward()
    added = [module for module in model.modules() if isinstance(module, LowRank)]
    assert len(added) > 20 and all(module.up.weight.grad is not None for module in added)
    assert all(module.up.weight.grad.abs().max() > 0 for module in added)  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_network_can_be_quantised_for_a_cpu():
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    model = small()
    observed = prepare_fx(copy.deepcopy(model), get_default_qconfig_mapping("x86"), (IMAGES,))
    observed(IMAGES)
    quantised = convert_fx(observed)
    assert any("quantized" in type(module).__module__ for module in quantised.modules())
    logits, expected = quantised(IMAGES), model(IMAGES)
    assert (logits - expected).abs().max() < 0.1 * expected.abs().max()


def test_observers_of_quantisation_aware_training_see_whole_images():
    shapes = []
    model = small()
    for _, _, convolution in convolutions(model):
        convolution.register_forward_hook(lambda module, inputs, output: shapes.append(inputs[0].shape[0]))
    model(IMAGES)
    assert len(shapes) == sum(1 for _ in convolutions(model)) and set(shapes) == {2}


def test_a_cell_takes_the_factors_of_its_own_paths():
    model = small(drop_path_rate=0.5)
    cells = [cell for cell in model.cells if isinstance(cell, Cell)]
    assert [cell.first_path for cell in cells] == [0, *torch.tensor([sum(c.droppable) for c in cells])[:-1].cumsum(0)]
    keep = torch.ones(model.cells.num_paths, 2, 1, 1, 1)
    s0, s1 = model.forward_stem(IMAGES)
    plain = model.cells(s0, s1, [0, 1, 2])
    for number in range(3):
        dropped = keep.clone()
        dropped[cells[number].first_path] = 0
        changed = [not torch.equal(*pair) for pair in zip(model.cells(s0, s1, [0, 1, 2], dropped), plain, strict=True)]
        assert changed.index(True) == number
