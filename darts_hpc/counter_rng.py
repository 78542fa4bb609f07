"""Random numbers that are a pure function of integer keys, such as (seed, epoch, sample id): the same on every device.

Keys are hashed one after the other with the finaliser of splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom
number generators", 2014). int64 arithmetic wraps modulo 2**64 in torch, so the bits are those of unsigned arithmetic.
"""

import torch
from torch import Tensor


def random_bits(*keys: int | Tensor) -> Tensor:
    """Return 64 random bits (int64) for each element of the broadcast keys."""
    device = next((key.device for key in keys if isinstance(key, Tensor)), None)
    state = torch.zeros((), dtype=torch.int64, device=device)
    for key in keys:
        bits = key.long() if isinstance(key, Tensor) else _signed(key)  # a number, not a copy to the device
        state = _mix((state ^ bits) + _signed(0x9E3779B97F4A7C15))
    return state


def uniform(*keys: int | Tensor) -> Tensor:
    """Return float64 in [0, 1), a multiple of 2**-53."""
    return _shift_right(random_bits(*keys), 11).double() * 2.0**-53


def randint(high: int, *keys: int | Tensor) -> Tensor:
    """Return int64 in [0, high), for high below 2**31; the bias is below high / 2**53."""
    return (uniform(*keys) * high).long()


def _signed(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift_right(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift_right(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift_right(x, 31)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)  # torch shifts int64 arithmetically; the mask makes it logical
