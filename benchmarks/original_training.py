"""The training step as the 2018 code runs it: the baseline of train_step.py, written for comparison only.

Every edge runs on its own and drops its path in place; smoothing goes over one-hot labels; clipping and SGD loop over
tensors; the loss and the accuracy are read after every step.
"""

import torch
import torch.nn.functional as F
from original_search import original_operation
from torch import Tensor, nn

from darts_hpc.models.derived import Cell, DerivedNetwork
from darts_hpc.space.operations import FactorizedReduce


class OriginalFactorizedReduce(nn.Module):
    def __init__(self, op: FactorizedReduce):
        super().__init__()
        self.relu, self.conv_1, self.conv_2, self.bn = op.relu, op.conv_1, op.conv_2, op.bn

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], dim=1))


def original(op: nn.Module) -> nn.Module:
    return OriginalFactorizedReduce(op) if isinstance(op, FactorizedReduce) else original_operation(op)


def drop_path(x: Tensor, drop_prob: float) -> Tensor:
    if drop_prob > 0.0:
        keep_prob = 1.0 - drop_prob
        mask = x.new_empty(x.size(0), 1, 1, 1).bernoulli_(keep_prob)
        x.div_(keep_prob)
        x.mul_(mask)
    return x


class OriginalCell(nn.Module):
    def __init__(self, cell: Cell):
        super().__init__()
        self.preprocess0, self.preprocess1 = original(cell.preprocess0), original(cell.preprocess1)
        self._ops = nn.ModuleList(map(original, cell._ops))
        self.inputs, self.concat = cell.inputs, cell.concat

    def forward(self, s0: Tensor, s1: Tensor, drop_prob: float) -> Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        for node in range(len(self._ops) // 2):
            ends = []
            for edge in (2 * node, 2 * node + 1):
                op = self._ops[edge]
                end = op(states[self.inputs[edge]])
                if self.training and drop_prob > 0.0 and not isinstance(op, nn.Identity):
                    end = drop_path(end, drop_prob)
                ends.append(end)
            states.append(ends[0] + ends[1])
        return torch.cat([states[number] for number in self.concat], dim=1)


class OriginalNetwork(DerivedNetwork):
    """The same weights under the same names as DerivedNetwork's."""

    def __init__(self, *args):
        super().__init__(*args)
        for index, cell in enumerate(self.cells):
            assert isinstance(cell, Cell)
            self.cells[index] = OriginalCell(cell)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        s0, s1 = self.forward_stem(images)
        auxiliary = None
        for index, cell in enumerate(self.cells):
            s0, s1 = s1, cell(s0, s1, self.drop_path_prob)
            if index == self.wanted_cells[0] and self.auxiliary_head is not None and self.training:
                auxiliary = self.auxiliary_head(s1)
        return self.classifier(self.global_pool(s1).flatten(1)), auxiliary


def smoothed_cross_entropy(logits: Tensor, labels: Tensor, smooth: float) -> Tensor:
    if not smooth:
        return F.cross_entropy(logits, labels)
    log_probs = F.log_softmax(logits, dim=1)
    targets = torch.zeros_like(log_probs).scatter_(1, labels.unsqueeze(1), 1)
    targets = (1 - smooth) * targets + smooth / logits.size(1)
    return (-targets * log_probs).mean(0).sum()


def accuracy(logits: Tensor, labels: Tensor, topk: tuple[int, ...] = (1, 5)) -> list[Tensor]:
    _, best = logits.topk(max(topk), 1, True, True)
    correct = best.t().eq(labels.view(1, -1).expand_as(best.t()))
    return [correct[:k].reshape(-1).float().sum(0).mul_(100.0 / labels.size(0)) for k in topk]


class OriginalTraining:
    """A network with its optimizer, stepped as train.py and train_imagenet.py of the original do.

    Batches are there: the original's come from workers, which prepare them on CPUs.
    """

    def __init__(self, network: OriginalNetwork, smooth: float, weight_decay: float, layout: torch.memory_format):
        self.network, self.smooth, self.layout = network.train(), smooth, layout
        self.optimizer = torch.optim.SGD(
            network.parameters(), 0.025, momentum=0.9, weight_decay=weight_decay, foreach=False
        )

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits, auxiliary = self.network(images.contiguous(memory_format=self.layout))
        loss = smoothed_cross_entropy(logits, labels, self.smooth)
        return loss + 0.4 * smoothed_cross_entropy(auxiliary, labels, self.smooth), logits

    def step(self, images: Tensor, labels: Tensor) -> list[Tensor]:
        """Take one step; return the loss and the accuracies, which the original reads at once."""
        self.optimizer.zero_grad()
        loss, logits = self.loss(images, labels)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0, foreach=False)
        self.optimizer.step()
        return [loss.detach(), *accuracy(logits.detach(), labels)]
