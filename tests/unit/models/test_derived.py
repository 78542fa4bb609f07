"""The derived networks: sizes, auxiliary head, drop path."""

import pytest
import torch
from published import VARIED

from darts_hpc.models.classifier import Classifier
from darts_hpc.models.derived import AuxiliaryPool, Cell, DerivedNetwork, drop_path_factors
from darts_hpc.space.genotypes import GENOTYPES, parse_genotype


def only_skips() -> DerivedNetwork:
    cell = [["skip_connect", 0], ["skip_connect", 1]] * 4
    genotype = parse_genotype({"normal": cell, "normal_concat": [2, 3], "reduce": cell, "reduce_concat": [2, 3]})
    return DerivedNetwork("cifar", 4, 10, 3, False, genotype)


@pytest.mark.parametrize("name", VARIED)
def test_published_cells_of_every_kind_build_and_run_in_both_networks(name):
    cifar = DerivedNetwork("cifar", 4, 10, 5, True, GENOTYPES[name])
    logits, auxiliary = cifar(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 10) and auxiliary is not None and auxiliary.shape == (2, 10)
    imagenet = DerivedNetwork("imagenet", 4, 12, 5, True, GENOTYPES[name])
    logits, auxiliary = imagenet(torch.randn(2, 3, 224, 224))
    assert logits.shape == (2, 12) and auxiliary is not None and auxiliary.shape == (2, 12)


def test_the_auxiliary_head_answers_in_training_only():
    network = DerivedNetwork("cifar", 4, 10, 3, True, GENOTYPES["DARTS"]).eval()
    assert network(torch.randn(2, 3, 32, 32))[1] is None


@pytest.mark.parametrize("side", [8, 11, 16, 28, 36, 64])
def test_small_and_odd_images_run_with_the_auxiliary_head(side):
    network = DerivedNetwork("cifar", 4, 10, 3, True, GENOTYPES["DARTS"])
    assert network(torch.randn(2, 3, side, side))[1].shape == (2, 10)


def test_imagenet_network_takes_other_sides_than_224():
    network = DerivedNetwork("imagenet", 4, 10, 5, True, GENOTYPES["DARTS"]).eval()
    assert network(torch.randn(2, 3, 160, 160))[0].shape == (2, 10)


def test_the_auxiliary_pool_is_the_originals_at_the_papers_sides():
    features = torch.randn(2, 3, 8, 8)
    reference = torch.nn.AvgPool2d(5, stride=3, padding=0, count_include_pad=False)
    assert torch.equal(AuxiliaryPool(3)(features), reference(features))


def test_the_imagenet_auxiliary_head_keeps_the_originals_missing_batch_norm():
    cifar = DerivedNetwork("cifar", 4, 10, 3, True, GENOTYPES["DARTS"]).auxiliary_head
    imagenet = DerivedNetwork("imagenet", 4, 10, 3, True, GENOTYPES["DARTS"]).auxiliary_head
    norms = [sum(isinstance(m, torch.nn.BatchNorm2d) for m in head.modules()) for head in (cifar, imagenet) if head]
    assert norms == [2, 1]


def test_drop_path_drops_whole_images_at_its_rate_and_keeps_the_mean():
    keys = torch.arange(20000)
    factors = drop_path_factors(keys, 20000, 3, 0.2, torch.zeros(1, dtype=torch.float64))
    assert factors.shape == (3, 20000, 1, 1, 1)
    assert sorted(factors.unique().tolist()) == [0.0, 1.25]
    assert factors.flatten(1).mean(1).tolist() == pytest.approx([1.0] * 3, abs=0.02)


def test_drop_path_is_a_function_of_the_images_keys_alone():
    network = DerivedNetwork("cifar", 4, 10, 3, False, GENOTYPES["DARTS"])
    for module in network.modules():  # without batch statistics an image's result is its own
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    network.drop_path_prob = 0.5
    images, keys = torch.randn(4, 3, 16, 16), torch.tensor([5, 6, 7, 8])
    together = network(images, keys)[0]
    torch.testing.assert_close(together[2:], network(images[2:], keys[2:])[0])
    assert not torch.allclose(together, network(images, keys + 100)[0])


def test_identities_are_never_dropped_but_strided_skips_are():
    normal, reduction = list(only_skips().cells)[:2]
    assert isinstance(normal, Cell) and not any(normal.droppable)
    assert isinstance(reduction, Cell) and all(reduction.droppable)


def test_drop_path_is_off_by_default_and_in_evaluation():
    network = DerivedNetwork("cifar", 4, 10, 3, False, GENOTYPES["DARTS"])
    assert network.drop_path_prob == 0
    network.drop_path_prob = 0.9
    network.eval()
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(network(images)[0], network(images)[0])


def test_in_three_cells_the_classifier_sees_the_features_that_the_auxiliary_head_rectified_as_in_the_original():
    network = DerivedNetwork("cifar", 4, 10, 3, True, GENOTYPES["DARTS"])
    images = torch.randn(2, 3, 32, 32)
    logits, _ = network(images)
    stem = network.get_submodule("stem")(images)
    (last,) = network.cells(stem, stem, [2])
    torch.testing.assert_close(logits, network.classifier(last.relu().mean((2, 3))))


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_a_classifier_gives_the_networks_logits_from_the_same_state_dict(stem):
    network = DerivedNetwork(stem, 4, 10, 3, False, GENOTYPES["DARTS"]).eval()
    classifier = Classifier(stem, GENOTYPES["DARTS"], num_classes=10, init_channels=4, layers=3).eval()
    classifier.load_state_dict(network.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(classifier(images), network(images)[0])
    pooled = classifier.forward_head(classifier.forward_features(images), pre_logits=True)
    assert pooled.shape == (2, classifier.num_features)
    assert torch.equal(classifier.get_classifier()(pooled), classifier(images))
