"""The search step as the 2018 code runs it: the baseline of search_step.py, written for comparison only.

Every edge runs every operation on its own, 'none' as a product with 0; each half of a step computes all gradients,
of the weights and of the alphas; optimizers loop over tensors; the unrolled gradient copies the model.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_hpc.models.supernet.mixing import CellMixing
from darts_hpc.models.supernet.plain import SuperNet
from darts_hpc.space.operations import DilatedConv, Zero

Batch = tuple[Tensor, Tensor]


class OriginalZero(nn.Module):
    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


class OriginalDilatedConv(nn.Module):
    def __init__(self, op: nn.Sequential):
        super().__init__()
        self.op = op

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


def original_operation(op: nn.Module) -> nn.Module:
    match op:
        case Zero():
            return OriginalZero(op.stride)
        case DilatedConv():
            return OriginalDilatedConv(op.op)
        case _:
            return op


class OriginalMixedOp(nn.Module):
    def __init__(self, ops: nn.ModuleList):
        super().__init__()
        self._ops = nn.ModuleList(map(original_operation, ops))

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return sum(w * op(x) for w, op in zip(weights, self._ops, strict=True))  # pyright: ignore[reportReturnType]


class OriginalCell(nn.Module):
    def __init__(self, cell: nn.Module):
        super().__init__()
        self.reduction, self.num_nodes = cell.reduction, cell.num_nodes
        self.preprocess0, self.preprocess1 = cell.preprocess0, cell.preprocess1
        self._ops = nn.ModuleList(OriginalMixedOp(op._ops) for op in cell._ops)  # pyright: ignore

    def forward(self, s0: Tensor, s1: Tensor, mixing: CellMixing, *_: None) -> Tensor:
        weights = mixing.operations  # (E, O)
        states = [self.preprocess0(s0), self.preprocess1(s1)]  # pyright: ignore[reportCallIssue]
        offset = 0
        for _ in range(self.num_nodes):  # pyright: ignore[reportArgumentType]
            s = sum(self._ops[offset + j](h, weights[offset + j]) for j, h in enumerate(states))
            offset += len(states)
            states.append(s)
        return torch.cat(states[-4:], dim=1)


class OriginalSuperNet(SuperNet):
    """The same parameters under the same names as SuperNet's."""

    def __init__(self, *args: int):
        super().__init__(*args)
        self.cells = nn.ModuleList(OriginalCell(cell) for cell in self.cells)
        for module in self.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False
        self.arguments = args

    def copy(self) -> "OriginalSuperNet":
        """Return a new network of the same shape, memory format and alphas, as the original's Network.new does."""
        like = next(self.parameters())
        new = OriginalSuperNet(*self.arguments).to(like.device, like.dtype)
        for ours, theirs in zip(new.alphas(), self.alphas(), strict=True):
            ours.data.copy_(theirs.data)
        return new


def concat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


class OriginalSearch:
    """One supernet with its optimizers, stepped as train_search.py and architect.py of the original do."""

    def __init__(self, supernet: OriginalSuperNet, unrolled: bool, channels_last: bool):
        self.supernet, self.unrolled = supernet, unrolled
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        supernet.to(memory_format=self.format)  # pyright: ignore[reportCallIssue]
        weights = supernet.weights()
        self.optimizer = torch.optim.SGD(weights, 0.025, momentum=0.9, weight_decay=3e-4, foreach=False)
        self.arch_optimizer = torch.optim.Adam(supernet.alphas(), 3e-4, (0.5, 0.999), weight_decay=1e-3, foreach=False)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        images, labels = batch
        return F.cross_entropy(model(images.contiguous(memory_format=self.format)), labels)

    def alpha_gradient(self, train: Batch, valid: Batch) -> list[Tensor]:
        """Leave the alphas' gradient in their .grad, as the original does, and return it."""
        self.arch_optimizer.zero_grad()
        if self.unrolled:
            for alpha, gradient in zip(self.supernet.alphas(), self.unrolled_gradient(train, valid), strict=True):
                alpha.grad = gradient
        else:
            self.loss(self.supernet, valid).backward()
        return [alpha.grad.clone() for alpha in self.supernet.alphas()]  # pyright: ignore[reportOptionalMemberAccess]

    def unrolled_gradient(self, train: Batch, valid: Batch) -> list[Tensor]:
        supernet, eta = self.supernet, self.optimizer.param_groups[0]["lr"]
        unrolled = self.unrolled_model(train, eta)
        self.loss(unrolled, valid).backward()
        direct = [alpha.grad for alpha in unrolled.alphas()]
        vector = [w.grad for w in unrolled.weights()]
        step = 1e-2 / concat(vector).norm()  # pyright: ignore[reportArgumentType]
        for w, v in zip(supernet.weights(), vector, strict=True):
            w.data.add_(step * v)
        up = torch.autograd.grad(self.loss(supernet, train), supernet.alphas())
        for w, v in zip(supernet.weights(), vector, strict=True):
            w.data.sub_(2 * step * v)
        down = torch.autograd.grad(self.loss(supernet, train), supernet.alphas())
        for w, v in zip(supernet.weights(), vector, strict=True):
            w.data.add_(step * v)
        return [d - eta * (a - b) / (2 * step) for d, a, b in zip(direct, up, down, strict=True)]

    def unrolled_model(self, train: Batch, eta: float) -> OriginalSuperNet:
        weights = self.supernet.weights()
        loss = self.loss(self.supernet, train)
        theta = concat(weights).data  # pyright: ignore[reportArgumentType]
        buffers = [self.optimizer.state[w].get("momentum_buffer") for w in weights]
        moment = 0.9 * concat(buffers) if all(b is not None for b in buffers) else torch.zeros_like(theta)
        gradient = concat(list(torch.autograd.grad(loss, weights))).data + 3e-4 * theta
        theta = theta - eta * (moment + gradient)
        model, state, offset = self.supernet.copy(), self.supernet.state_dict(), 0
        for name, w in self.supernet.named_weights().items():
            state[name] = theta[offset : offset + w.numel()].view_as(w)
            offset += w.numel()
        model.load_state_dict(state)
        return model.to(memory_format=self.format)  # pyright: ignore[reportCallIssue]

    def step(self, train: Batch, valid: Batch) -> None:
        """One search step."""
        self.alpha_gradient(train, valid)
        self.arch_optimizer.step()
        self.optimizer.zero_grad()
        self.loss(self.supernet, train).backward()
        nn.utils.clip_grad_norm_(self.supernet.weights(), 5.0, foreach=False)
        self.optimizer.step()
