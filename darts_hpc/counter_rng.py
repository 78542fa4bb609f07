"""Random numbers that are a pure function of integer keys, such as (seed, epoch, sample id): the same on every device.

Keys are hashed one after the other with the finaliser of splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom
number generators", 2014). int64 arithmetic wraps modulo 2**64 in torch, so the bits are those of unsigned arithmetic.
"""

import math

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15
"""What splitmix64 adds between two numbers."""
ATTEMPTS = 16
"""Candidates of a gamma variable; that none is accepted has a chance below 1e-20."""


def random_bits(*keys: int | Tensor) -> Tensor:
    """Return 64 random bits (int64) for each element of the broadcast keys."""
    state: int | Tensor = 0
    for key in keys:
        if isinstance(key, Tensor):  # numbers before the first tensor are hashed without it
            state = key.long() ^ (_signed(state) if isinstance(state, int) else state)
            state = _mix(state + _signed(GOLDEN))
        elif isinstance(state, Tensor):
            state = _mix((state ^ _signed(key)) + _signed(GOLDEN))
        else:
            state = _mix_number((state ^ key % 2**64) + GOLDEN)
    return torch.tensor(_signed(state)) if isinstance(state, int) else state


def uniform(*keys: int | Tensor) -> Tensor:
    """Return float64 in [0, 1), a multiple of 2**-53."""
    return _shift_right(random_bits(*keys), 11).double() * 2.0**-53


def randint(high: int, *keys: int | Tensor) -> Tensor:
    """Return int64 in [0, high), for high below 2**31; the bias is below high / 2**53."""
    return (uniform(*keys) * high).long()


def gumbel(*keys: int | Tensor) -> Tensor:
    """Return float64 of the standard Gumbel distribution, -log(-log(u))."""
    return -torch.log(-torch.log(_open_uniform(*keys)))


def gamma(concentration: Tensor, *keys: int | Tensor) -> Tensor:
    """Return float64 of the Gamma distributions (scale 1) with these concentrations, which broadcast with the keys.

    Marsaglia and Tsang, "A simple method for generating gamma variables" (2000). Of ATTEMPTS candidates the first that
    is accepted counts; each is accepted with a chance above 0.95.
    """
    boosted = concentration.double() + (concentration < 1)  # below 1: gamma(a) = gamma(a + 1) * u ** (1 / a)
    d = boosted - 1 / 3
    c = 1 / torch.sqrt(9 * d)
    attempt = torch.arange(ATTEMPTS, device=concentration.device).view(-1, *[1] * concentration.dim())
    x = normal(*keys, attempt, 0)
    v = (1 + c * x) ** 3
    accepted = (v > 0) & (
        torch.log(_open_uniform(*keys, attempt, 2)) < 0.5 * x * x + d - d * v + d * torch.log(v.clamp_min(1e-300))
    )
    first = accepted.to(torch.uint8).argmax(0, keepdim=True)
    sample = d * v.gather(0, first).squeeze(0)
    shrunk = sample * _open_uniform(*keys, ATTEMPTS, 3) ** (1 / concentration.double())
    return torch.where(concentration < 1, shrunk, sample)


def normal(*keys: int | Tensor) -> Tensor:
    """Return float64 of the standard normal distribution (Box and Muller, 1958)."""
    radius = torch.sqrt(-2 * torch.log(_open_uniform(*keys, 0)))
    return radius * torch.cos(2 * math.pi * uniform(*keys, 1))


def normal_images(keys: Tensor, shape: torch.Size | tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return standard normal numbers (B, *shape) for images' keys (B,), int64: a row depends on its key alone.

    As many numbers as activations: one hash makes two of them, each from 32 bits.
    """
    num_pairs = (math.prod(shape) + 1) // 2
    counter = torch.arange(num_pairs, device=keys.device) * _signed(GOLDEN)
    bits = _mix(keys[:, None] + counter)  # splitmix64 itself, seeded by the key
    dtype = dtype if dtype == torch.float64 else torch.float32
    radius = ((_shift_right(bits, 32).to(dtype) + 0.5) * 2.0**-32).log_().mul_(-2).sqrt_()
    angle = (bits & 0xFFFFFFFF).to(dtype).mul_(2 * math.pi * 2.0**-32)
    numbers = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=2).flatten(1)
    return numbers[:, : math.prod(shape)].reshape(len(keys), *shape)


def _open_uniform(*keys: int | Tensor) -> Tensor:
    """Return float64 in (0, 1), neither end, whose logarithms are finite."""
    return (_shift_right(random_bits(*keys), 11).double() + 0.5) * 2.0**-53


def _signed(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift_right(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift_right(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift_right(x, 31)


def _mix_number(x: int) -> int:
    """Return what _mix does, of an unsigned number."""
    x = ((x ^ x % 2**64 >> 30) * 0xBF58476D1CE4E5B9) % 2**64
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) % 2**64
    return x ^ x >> 31


def _shift_right(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)  # torch shifts int64 arithmetically; the mask makes it logical
