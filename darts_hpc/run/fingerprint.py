"""What two processes must agree on for one to continue the other's run."""

from typing import Any

from darts_hpc.config.flags import flat

NOT_COMPARED = frozenset(
    {"data", "save", "resume", "device", "gpu", "tensorboard", "model_path"}
    | {"num_threads", "prefetch", "manifest", "valid_batch_size", "parallel", "replica_check"}
    | {"max_bad_images"}
    | {"memory_check", "memory_limit"}
)
"""Flags that change where a run lies or runs, and nothing that it computes."""


def fingerprint(cfg: Any, data_digest: str, **replaced: object) -> dict[str, object]:
    """Return the configuration by flag name, and the digest of the data.

    `replaced` gives flags by value instead, such as the genotype that --arch named.
    """
    flags = {name: value for name, value in flat(cfg).items() if name not in NOT_COMPARED}
    return {**flags, **replaced, "data_digest": data_digest}
