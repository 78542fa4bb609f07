"""Cells computed once more in backward: the same numbers from less memory."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd.graph import saved_tensors_hooks

from darts_hpc.models.supernet.build import build_supernet


def tensors_of_a_pass(checkpoint_cells: bool, twice: bool = False) -> dict[str, torch.Tensor]:
    """Loss, gradients at swapped-in weights, and buffers of one training pass."""
    torch.manual_seed(0)
    supernet = build_supernet("plain", 4, 3, 5, checkpoint_cells=checkpoint_cells).double()
    swapped = {name: (2 * w).detach().requires_grad_() for name, w in supernet.named_weights().items()}
    logits = torch.func.functional_call(supernet, swapped, torch.randn(4, 3, 8, 8).double())
    loss = F.cross_entropy(logits, torch.tensor([0, 1, 2, 3]))
    gradients = torch.autograd.grad(loss, [*swapped.values(), *supernet.alphas()], create_graph=twice)
    if twice:
        gradients = torch.autograd.grad(sum((g**3).sum() for g in gradients), supernet.alphas())  # pyright: ignore
    named = {f"gradient {i}": gradient for i, gradient in enumerate(gradients)}
    return {"loss": loss, **named, **dict(supernet.named_buffers())}


@pytest.mark.parametrize("twice", [False, True])
def test_recomputed_cells_give_the_same_gradients_and_move_running_statistics_once(twice):
    kept, recomputed = tensors_of_a_pass(False, twice), tensors_of_a_pass(True, twice)
    assert kept.keys() == recomputed.keys()
    for name in kept:
        torch.testing.assert_close(recomputed[name], kept[name], rtol=1e-12, atol=1e-14, msg=name)


def test_only_the_inputs_of_the_cells_are_kept():
    def saved_bytes(checkpoint_cells: bool) -> int:
        supernet = build_supernet("plain", 4, 3, 5, checkpoint_cells=checkpoint_cells)
        storages: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with saved_tensors_hooks(pack, lambda tensor: tensor):
            supernet(torch.randn(8, 3, 16, 16))
        return sum(storages.values())

    assert saved_bytes(True) < saved_bytes(False) / 10


def test_without_gradients_nothing_is_recomputed():
    torch.manual_seed(0)
    supernet = build_supernet("plain", 4, 3, 5, checkpoint_cells=True).eval()
    with torch.no_grad():
        assert not supernet(torch.randn(2, 3, 8, 8)).requires_grad
