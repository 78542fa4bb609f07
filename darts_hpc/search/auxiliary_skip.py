"""The share of the auxiliary skip, which is the residual connection that a skip_connect candidate would be (DARTS-)."""

import math
from collections.abc import Callable

# name of --auxiliary_skip -> share by progress, epoch / epochs
SHARES: dict[str, Callable[[float], float]] = {
    "linear": lambda progress: 1 - progress,
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
    "constant": lambda progress: 1.0,
}
