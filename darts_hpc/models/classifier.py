"""A derived network as a plain classifier, as timm's users expect it: images in, logits out."""

from torch import Tensor

from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.space.genotypes import Genotype


class Classifier(DerivedNetwork):
    """Maps images (B, 3, H, W) to logits alone, and has no auxiliary head.

    Its state dict is the network's, so the original's files and ours load.
    """

    def __init__(
        self,
        stem: str,
        genotype: Genotype,
        *,
        num_classes: int,
        init_channels: int,
        layers: int,
        drop_path_prob: float = 0.0,
    ):
        super().__init__(stem, init_channels, num_classes, layers, False, genotype)
        self.drop_path_prob = drop_path_prob

    def forward(self, images: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return logits (B, classes)."""
        return self.forward_head(self.forward_features(images))
