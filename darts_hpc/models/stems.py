"""What precedes the cells, of the supernet and of the derived networks."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Stem:
    """The convolutions before the cells, and the auxiliary head that fits the resolution they leave.

    `build` maps the channels it gives, and the images', to modules by name, in order: the first cell's inputs are the
    outputs of the first and of the last one.
    """

    build: Callable[[int, int], dict[str, nn.Sequential]]
    convolutions: tuple[tuple[str, str], ...]
    """Each convolution and its BatchNorm, by name, in order."""
    stride: int
    """Of each convolution."""
    width: int
    """Channels that a derived network's stem gives for each of init_channels."""
    auxiliary_stride: int
    auxiliary_second_norm: bool

    @property
    def reduces(self) -> bool:
        """Whether its last module halves the resolution, as a reduction cell would."""
        return self.stride > 1


def cifar_stem(width: int, in_channels: int) -> dict[str, nn.Sequential]:
    """Return one convolution at full resolution."""
    return {"stem": nn.Sequential(nn.Conv2d(in_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))}


def imagenet_stem(width: int, in_channels: int) -> dict[str, nn.Sequential]:
    """Return two stems that divide the resolution by four and by eight."""
    first = nn.Sequential(
        nn.Conv2d(in_channels, width // 2, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width // 2),
        nn.ReLU(),
        nn.Conv2d(width // 2, width, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
    )
    second = nn.Sequential(
        nn.ReLU(), nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width)
    )
    return {"stem0": first, "stem1": second}


STEMS = {
    "cifar": Stem(
        cifar_stem,
        convolutions=(("stem.0", "stem.1"),),
        stride=1,
        width=3,
        auxiliary_stride=3,
        auxiliary_second_norm=True,
    ),
    "imagenet": Stem(
        imagenet_stem,
        convolutions=(("stem0.0", "stem0.1"), ("stem0.3", "stem0.4"), ("stem1.1", "stem1.2")),
        stride=2,
        width=1,
        auxiliary_stride=2,
        auxiliary_second_norm=False,
    ),
}
"""cifar for small images (32x32 and the like), imagenet for 224x224."""
