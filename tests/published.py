"""Published cells that differ in kind, and networks of the family's repositories as their own code lays them out.

The modules below have the names, shapes and order of quark0/darts' model.py, model_imagenet.py and operations.py,
which PC-DARTS, P-DARTS, DARTS-PT and SDARTS took over, written anew; DrNAS puts a BatchNorm behind each pool.
"""

from functools import partial

import torch
from torch import Tensor, nn

from darts_hpc.space.genotypes import GENOTYPES, Genotype

VARIED = {
    (frozenset(operation for operation, _ in g.normal + g.reduce), g.normal_concat, g.reduce_concat): name
    for name, g in reversed(GENOTYPES.items())
}.values()
"""The first cell of each set of operations: what holds for these holds for all."""


def separable(channels: int, kernel: int, stride: int) -> list[nn.Module]:
    """Depthwise and pointwise convolution, BatchNorm."""
    depthwise = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)
    return [nn.ReLU(), depthwise, nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)]


class Op(nn.Module):
    """What has its layers in `op`: SepConv, DilConv, ReLUConvBN, and the pools of DrNAS."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.op = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class FactorizedReduce(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv_1, self.conv_2 = (nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False) for _ in range(2))
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], 1))


def operation(name: str, channels: int, stride: int, pool_norm: bool) -> nn.Module:
    """Build what OPS of operations.py has under this name."""
    kind, _, size = name.rpartition("_")
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)
    kernel = int(size[0])
    if kind in ("max_pool", "avg_pool"):
        pools = {"max_pool": nn.MaxPool2d, "avg_pool": partial(nn.AvgPool2d, count_include_pad=False)}
        pool = pools[kind](kernel, stride, padding=1)
        return Op(pool, nn.BatchNorm2d(channels, affine=False)) if pool_norm else pool
    if kind == "sep_conv":
        return Op(*separable(channels, kernel, stride), *separable(channels, kernel, 1))
    assert kind == "dil_conv"
    depthwise = nn.Conv2d(channels, channels, kernel, stride, kernel - 1, 2, groups=channels, bias=False)
    return Op(nn.ReLU(), depthwise, nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))


def relu_conv_bn(inputs: int, outputs: int) -> Op:
    return Op(nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))


class Cell(nn.Module):
    def __init__(self, genotype: Genotype, before: int, last: int, channels: int, kinds: tuple[bool, bool], norm: bool):
        super().__init__()
        reduction, reduction_before = kinds
        self.preprocess0 = (FactorizedReduce if reduction_before else relu_conv_bn)(before, channels)
        self.preprocess1 = relu_conv_bn(last, channels)
        self.edges = genotype.reduce if reduction else genotype.normal
        self.concat = genotype.reduce_concat if reduction else genotype.normal_concat
        self._ops = nn.ModuleList(
            operation(name, channels, 2 if reduction and state < 2 else 1, norm) for name, state in self.edges
        )

    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        for edge in range(0, len(self.edges), 2):
            first, second = (self._ops[e](states[self.edges[e][1]]) for e in (edge, edge + 1))
            states.append(first + second)
        return torch.cat([states[i] for i in self.concat], 1)


class AuxiliaryHead(nn.Module):
    """Of either data set; the ImageNet one of most repositories lacks the last BatchNorm, that of DARTS- has it."""

    def __init__(self, channels: int, num_classes: int, stride: int, last_norm: bool):
        super().__init__()
        tail = [nn.BatchNorm2d(768)] * last_norm + [nn.ReLU()]
        self.features = nn.Sequential(
            nn.ReLU(), nn.AvgPool2d(5, stride, count_include_pad=False), nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128), nn.ReLU(), nn.Conv2d(128, 768, 2, bias=False), *tail,
        )  # fmt: skip
        self.classifier = nn.Linear(768, num_classes)


class PublishedNetwork(nn.Module):
    """NetworkCIFAR or NetworkImageNet, with random weights and running statistics, in evaluation mode."""

    def __init__(
        self, stem: str, channels: int, num_classes: int, layers: int, genotype: Genotype, auxiliary: bool = True,
        pool_norm: bool = False, last_norm: bool = False,
    ):  # fmt: skip
        super().__init__()
        self.imagenet = stem == "imagenet"

        def conv(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
            return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)]

        if self.imagenet:
            self.stem0 = nn.Sequential(*conv(3, channels // 2, 2), nn.ReLU(), *conv(channels // 2, channels, 2))
            self.stem1 = nn.Sequential(nn.ReLU(), *conv(channels, channels, 2))
            before = last = channels
        else:
            self.stem = nn.Sequential(*conv(3, 3 * channels, 1))
            before = last = 3 * channels
        self.cells, reduction_before, to_head = nn.ModuleList(), self.imagenet, 0
        for i in range(layers):
            reduction = i in (layers // 3, 2 * layers // 3)
            channels *= 2 if reduction else 1
            cell = Cell(genotype, before, last, channels, (reduction, reduction_before), pool_norm)
            self.cells.append(cell)
            before, last, reduction_before = last, len(cell.concat) * channels, reduction
            to_head = last if i == 2 * layers // 3 else to_head
        if auxiliary:
            self.auxiliary_head = AuxiliaryHead(to_head, num_classes, 2 if self.imagenet else 3, last_norm)
        self.global_pooling = nn.AvgPool2d(7) if self.imagenet else nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(last, num_classes)
        with torch.no_grad():
            for norm in self.modules():
                if isinstance(norm, nn.BatchNorm2d):
                    assert norm.running_mean is not None and norm.running_var is not None
                    norm.running_var.uniform_(0.5, 1.5)
                    norm.running_mean.normal_(0, 0.1)
                    if norm.affine:
                        norm.weight.uniform_(0.5, 1.5)
                        norm.bias.normal_(0, 0.1)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        s0 = self.stem0(images) if self.imagenet else self.stem(images)
        s1 = self.stem1(s0) if self.imagenet else s0
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1)
        return self.classifier(self.global_pooling(s1).flatten(1))
