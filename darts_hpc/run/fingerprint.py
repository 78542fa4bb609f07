"""What two processes must agree on for one to continue the other's run."""

from typing import Any

from darts_hpc.config.flags import affecting, flat

MACHINE = frozenset({"torch", "device_type"})
"""What a run adds to its fingerprint of where it runs, and what may differ: it changes the last bits alone."""


def fingerprint(cfg: Any, data_digest: str, **replaced: object) -> dict[str, object]:
    """Return the configuration by flag name, and the digest of the data.

    `replaced` gives flags by value instead, such as the genotype that --arch named.
    """
    not_compared = affecting(type(cfg), "nothing")
    flags = {name: value for name, value in flat(cfg).items() if name not in not_compared}
    return {**flags, **replaced, "data_digest": data_digest}


def may_differ(cfg: Any) -> frozenset[str]:
    """Return the parts of a fingerprint that only warn: the data and the maths stay, though not to the last bit.

    Where the global batch decides, and not how processes share it, their number may differ too: BatchNorm then sees
    other parts of it.
    """
    shares = affecting(type(cfg), "batches")
    return MACHINE | affecting(type(cfg), "last_bits") | shares | ({"world_size"} if shares else set())
