"""torch's SGD and Adam without torch._dynamo, which theirs import at first use: 1.6 s, and 350 MiB of address space.

torch wraps their methods to shield them from torch.compile, which compiles no optimizer here (training/compile.py).
"""

import inspect

import torch
from torch.optim import Optimizer


class _Unshielded:
    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)


class SGD(_Unshielded, torch.optim.SGD):
    """torch's SGD, number for number."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


class Adam(_Unshielded, torch.optim.Adam):
    """torch's Adam, number for number."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))
