"""The optimizers are torch's own."""

import pytest
import torch

from darts_hpc import optimizers

SETTINGS = {"SGD": {"momentum": 0.9, "weight_decay": 0.1}, "Adam": {"betas": (0.5, 0.999), "weight_decay": 0.1}}


@pytest.mark.parametrize("form", [{}, {"foreach": True}, {"fused": True}], ids=str)
@pytest.mark.parametrize("name", SETTINGS)
def test_steps_and_states_are_torchs_to_the_last_bit(name, form):
    results = []
    for module in (torch.optim, optimizers):
        torch.manual_seed(0)
        weights: list[torch.Tensor] = [torch.nn.Parameter(torch.randn(5)) for _ in range(2)]
        make = getattr(module, name)
        optimizer = make(weights, lr=0.1, **SETTINGS[name], **form)
        for step in range(4):
            optimizer.zero_grad()
            torch.stack([w.pow(3).sum() for w in weights]).sum().backward()
            optimizer.step()
            if step == 1:  # goes on from a state
                state, optimizer = optimizer.state_dict(), make(weights, lr=0.1, **SETTINGS[name], **form)
                optimizer.load_state_dict(state)
        results.append((torch.stack(weights), optimizer.state_dict()))
    (ours, our_state), (theirs, their_state) = results
    assert torch.equal(ours, theirs)
    assert str(our_state) == str(their_state)
    assert isinstance(optimizer, getattr(torch.optim, name))
