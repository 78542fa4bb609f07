"""Search in a space of your own, with the loop in sight: some 15 seconds on one CPU core, no download.

    python examples/own_space.py

The space here has three nodes per cell, and four of the operations of darts_hpc/space/operations.py.
"""

from pathlib import Path

import torch
import torch.nn.functional as F

import darts_hpc
from darts_hpc.commands.train_search import search_sources
from darts_hpc.config.shared import SgdConfig
from darts_hpc.config.train_search import SearchDataConfig
from darts_hpc.data.sets.load import load_dataset
from darts_hpc.distributed.world import World
from darts_hpc.models.supernet.build import build_supernet
from darts_hpc.search.architect import Architect
from darts_hpc.search.derive import derive_genotype
from darts_hpc.space.genotypes import Genotype
from darts_hpc.space.spaces import uniform_space
from darts_hpc.training.optim import build_sgd
from darts_hpc.training.search_step import search_step

SPACE = uniform_space(("none", "skip_connect", "sep_conv_3x3", "dil_conv_3x3"), num_nodes=3)
CHANNELS, LAYERS, EPOCHS = 4, 3, 2


def search() -> Genotype:
    """Search on the digits: alphas on one half of the training images, weights on the other, in turns."""
    torch.manual_seed(0)
    world = World(torch.device("cpu"))
    digits = load_dataset("digits", Path(), image_size=8)
    weight_source, alpha_source, _ = search_sources(digits, SearchDataConfig(batch_size=120), 0, world)
    supernet = build_supernet("plain", CHANNELS, LAYERS, 10, space=SPACE)
    optimizer = build_sgd(supernet.weights(), SgdConfig())
    architect = Architect(supernet, learning_rate=0.03, weight_decay=1e-3, unrolled_method=None, world=world)
    for epoch in range(EPOCHS):
        losses = []
        for step in range(weight_source.steps_per_epoch):
            train, valid = weight_source.batch(epoch, step)[:2], alpha_source.batch(epoch, step)[:2]
            numbers = search_step(supernet, architect, optimizer, train, valid, grad_clip=5.0, world=world)
            losses.append(numbers.loss)
        print(f"epoch {epoch + 1}: training loss {torch.stack(losses).mean().item():.3f}")
    return derive_genotype(architect.architecture.strengths(), SPACE)


def main() -> None:
    genotype = search()
    print(genotype)
    model = darts_hpc.create_model(genotype, num_classes=10, init_channels=CHANNELS, layers=LAYERS).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    images, labels = torch.randn(32, 3, 8, 8), torch.arange(32) % 10  # any batch: the model is an ordinary module
    for _ in range(3):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"loss of a training step: {loss.item():.3f}")
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()
