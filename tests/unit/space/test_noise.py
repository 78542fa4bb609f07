"""The noise operation: its numbers are a function of images' keys and of its place, and of nothing else."""

import torch

from darts_hpc import counter_rng
from darts_hpc.models.derived import DerivedNetwork
from darts_hpc.space.genotypes import Genotype, parse_genotype
from darts_hpc.space.operations import OPERATIONS, Noise


def test_noise_is_standard_normal_whatever_the_input():
    noise = OPERATIONS["noise"](8, 1, False)
    numbers = noise(torch.full((4, 8, 32, 32), 9.0), torch.arange(4))
    assert numbers.shape == (4, 8, 32, 32) and numbers.dtype == torch.float32
    assert abs(numbers.mean()) < 0.02 and abs(numbers.std() - 1) < 0.02
    assert abs((numbers[:, :4] * numbers[:, 4:]).mean()) < 0.02


def test_the_numbers_that_a_gpu_makes_are_standard_normal_and_follow_their_keys():
    keys = torch.arange(4)
    numbers = counter_rng.normal_images(keys, (8, 33, 32), torch.float32)
    assert numbers.shape == (4, 8, 33, 32) and abs(numbers.mean()) < 0.02 and abs(numbers.std() - 1) < 0.02
    assert torch.equal(numbers[2:], counter_rng.normal_images(keys[2:], (8, 33, 32), torch.float32))


def test_noise_of_an_image_follows_its_key_wherever_it_stands():
    noise, x = Noise(2), torch.zeros(4, 3, 5, 5)
    keys = torch.tensor([5, 6, 7, 8])
    whole = noise(x, keys)
    assert whole.shape == (4, 3, 3, 3)
    assert torch.equal(whole[2:], noise(x[:2], keys[2:]))  # as on a second rank
    assert torch.equal(whole.flip(0), noise(x, keys.flip(0)))
    assert len({numbers.sum().item() for numbers in whole}) == 4
    noise.place = 1
    assert not torch.equal(whole, noise(x, keys))


def test_a_cell_of_noise_can_be_written_read_and_trained():
    edges = tuple(("noise", state) for state in (0, 1))
    cell = Genotype(normal=edges, normal_concat=(2,), reduce=edges, reduce_concat=(2,))
    assert parse_genotype(str(cell)) == cell == parse_genotype(cell.to_json())
    network = DerivedNetwork("cifar", 4, 10, 3, False, cell)
    noises = [m for m in network.modules() if isinstance(m, Noise)]
    assert [noise.place for noise in noises] == list(range(6))
    images, keys = torch.randn(2, 3, 8, 8), torch.tensor([3, 4])
    logits = network(images, keys)[0]
    assert torch.equal(logits, network(images, keys)[0]) and not torch.equal(logits, network(images, keys + 1)[0])
    logits.sum().backward()


def test_gamma_numbers_have_the_moments_of_their_distribution():
    index = torch.arange(40000)
    for concentration in (0.2, 1.0, 2.5):
        numbers = counter_rng.gamma(torch.full((40000,), concentration), 3, index)
        assert abs(numbers.mean() / concentration - 1) < 0.05 and abs(numbers.var() / concentration - 1) < 0.08
        low = (numbers < 0.1).double().mean().item()
        expected = torch.special.gammainc(torch.tensor(concentration), torch.tensor(0.1)).item()
        assert abs(low - expected) < 0.01


def test_gumbel_numbers_have_the_moments_of_their_distribution():
    numbers = counter_rng.gumbel(1, torch.arange(40000))
    assert abs(numbers.mean() - 0.5772) < 0.02 and abs(numbers.var() - torch.pi**2 / 6) < 0.05
