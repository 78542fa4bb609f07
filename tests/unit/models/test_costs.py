"""Parameters and multiply-adds equal the published reference counts."""

import json
import re
from importlib import resources

import pytest
import torch

from darts_hpc.models.costs import measure_costs
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.space.genotypes import GENOTYPES

# cell: CIFAR parameters (M), multiply-adds (M), ImageNet parameters (M), multiply-adds (M); auxiliary head excluded
REFERENCE = {
    "DARTS_V1": (3.169, 501.0, 4.51, 505.9),
    "DARTS_V2": (3.349, 528.4, 4.719, 529.9),
    "NASNet": (3.831, 603.5, 5.564, 604.0),
    "AmoebaNet": (3.145, 488.9, 4.627, 526.7),
    "PC_DARTS_cifar": (3.635, 556.7, 5.271, 571.1),
    "PC_DARTS_image": (3.722, 570.5, 5.342, 581.6),
    "PDARTS": (3.434, 532.2, 4.944, 542.8),
    "PNASNet": (4.481, 706.0, 6.395, 696.7),
    "GDAS_V1": (3.369, 519.4, 4.969, 537.6),
    "SDARTS_RS": (3.606, 562.4, 5.12, 566.8),
    "SDARTS_ADV": (3.345, 526.8, 4.769, 531.6),
    "DrNAS_cifar10": (4.099, 635.1, 5.738, 633.8),
    "DrNAS_imagenet": (4.049, 617.9, 5.726, 624.4),
    "darts_pt_s5_0": (2.851, 449.1, 4.229, 465.8),
    "darts_pt_s5_1": (3.053, 471.7, 4.511, 491.0),
    "darts_pt_s5_2": (2.658, 413.1, 4.036, 438.1),
    "darts_pt_s5_3": (3.328, 517.7, 4.78, 527.5),
    "ptdarts_CIFAR10": (2.834, 452.4, 4.115, 462.0),
}


# cell: CIFAR parameters (M) as its repository has them, beside the genotype or in the README (with the auxiliary head)
REPORTED = {
    "darts_pt_s1_1": 1.87, "darts_pt_s1_2": 2.02, "darts_pt_s2_1": 3.09, "darts_pt_s2_2": 2.79, "darts_pt_s3_1": 3.42,
    "darts_pt_s3_2": 3.54, "darts_pt_s4_1": 4.70, "darts_pt_s4_2": 4.70, "FairDARTS_d": 3.84,
}  # fmt: skip
CELLS = json.loads(resources.files("darts_hpc.space").joinpath("published_cells.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(CELLS.keys() - REFERENCE.keys()))
def test_parameters_in_the_list_are_those_of_the_network_and_of_its_repository(name):
    with torch.device("meta"):
        network = DerivedNetwork("cifar", 36, 10, 20, name == "FairDARTS_d", GENOTYPES[name])
    weights = {name: weight.numel() for name, weight in network.named_parameters()}
    head = sum(count for name, count in weights.items() if name.startswith("auxiliary_head"))
    assert sum(weights.values()) - head == CELLS[name]["parameters"]
    if name in REPORTED:
        assert sum(weights.values()) / 1e6 == pytest.approx(REPORTED[name], abs=6e-3)


def test_every_published_cell_names_its_file_and_its_paper():
    assert REPORTED.keys() < CELLS.keys() and REFERENCE.keys() < CELLS.keys()
    for cell in CELLS.values():
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{10}:[\w/.-]+ \(\w+\)", cell["source"])
        assert cell["paper"]


@pytest.mark.parametrize("name", REFERENCE)
def test_costs_equal_the_reference(name):
    cifar_parameters, cifar_madds, imagenet_parameters, imagenet_madds = REFERENCE[name]
    with torch.device("meta"):
        cifar = measure_costs(DerivedNetwork("cifar", 36, 10, 20, False, GENOTYPES[name]), 32)
        imagenet = measure_costs(DerivedNetwork("imagenet", 48, 1000, 14, False, GENOTYPES[name]), 224)
    assert cifar.parameters == CELLS[name]["parameters"]
    assert cifar.parameters / 1e6 == pytest.approx(cifar_parameters, abs=6e-4)
    assert cifar.multiply_adds / 1e6 == pytest.approx(cifar_madds, abs=0.06)
    assert imagenet.parameters / 1e6 == pytest.approx(imagenet_parameters, abs=6e-4)
    assert imagenet.multiply_adds / 1e6 == pytest.approx(imagenet_madds, abs=0.06)


def test_parameters_are_the_number_that_the_original_logged():
    with torch.device("meta"):
        network = DerivedNetwork("cifar", 36, 10, 20, False, GENOTYPES["PDARTS"])
    assert measure_costs(network, 32).parameters == 3433798


def test_auxiliary_head_is_counted_apart_and_the_network_is_left_alone():
    network = DerivedNetwork("cifar", 4, 10, 5, True, GENOTYPES["DARTS"])
    weight = network.classifier.weight
    costs = measure_costs(network, 32)
    head = sum(p.numel() for p in network.auxiliary_head.parameters())  # pyright: ignore[reportOptionalMemberAccess]
    assert costs.parameters_with_auxiliary == costs.parameters + head
    assert network.classifier.weight is weight and weight.device.type == "cpu" and network.training
