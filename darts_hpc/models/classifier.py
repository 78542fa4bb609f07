"""Derived networks as plain classifiers: images in, logits out, with the methods that timm's users expect.

State dicts are those of the networks they extend, so the original's files and ours load.
"""

from torch import Tensor, nn

from darts_hpc.models.derived import NetworkCIFAR, NetworkImageNet
from darts_hpc.space.genotypes import Genotype


class ClassifierCIFAR(NetworkCIFAR):
    """For small images (B, 3, H, W); without an auxiliary head."""

    def __init__(self, genotype: Genotype, *, num_classes: int, init_channels: int, layers: int, drop_path_prob: float):
        super().__init__(init_channels, num_classes, layers, False, genotype)
        self.drop_path_prob = drop_path_prob
        self.num_classes, self.num_features = num_classes, self.cells.out_channels

    def forward(self, images: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return logits (B, classes)."""
        return self.forward_head(self.forward_features(images))

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the last feature map (B, C, H', W')."""
        s1 = self.stem(images)
        return self.cells(s1, s1, self.drop_path_prob, None)[0]

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits of a feature map, or its pooled features (B, C)."""
        pooled = self.global_pooling(features).flatten(1)
        return pooled if pre_logits else self.classifier(pooled)

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a fresh last layer in; 0 classes leave the pooled features."""
        self.num_classes = num_classes
        self.classifier = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()  # pyright: ignore


class ClassifierImageNet(NetworkImageNet):
    """For 224x224 images (B, 3, H, W); without an auxiliary head."""

    def __init__(self, genotype: Genotype, *, num_classes: int, init_channels: int, layers: int, drop_path_prob: float):
        super().__init__(init_channels, num_classes, layers, False, genotype)
        self.drop_path_prob = drop_path_prob
        self.num_classes, self.num_features = num_classes, self.cells.out_channels

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the last feature map (B, C, H', W')."""
        s0 = self.stem0(images)
        return self.cells(s0, self.stem1(s0), self.drop_path_prob, None)[0]

    forward = ClassifierCIFAR.forward  # pyright: ignore
    forward_head = ClassifierCIFAR.forward_head  # pyright: ignore
    get_classifier = ClassifierCIFAR.get_classifier  # pyright: ignore
    reset_classifier = ClassifierCIFAR.reset_classifier  # pyright: ignore
