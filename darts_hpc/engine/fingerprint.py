"""What two processes must agree on for one to continue the other's run."""

from typing import Any

from darts_hpc.config.schema import flat
from darts_hpc.data.image_set import DataSet

NOT_COMPARED = frozenset({"data", "save", "resume", "device", "gpu", "tensorboard", "model_path"})
"""Flags that change where a run lies or runs, and nothing that it computes."""


def fingerprint(cfg: Any, data: DataSet, **replaced: object) -> dict[str, object]:
    """Return the configuration by flag name, and the digest of the data set's every pixel and label.

    `replaced` gives flags by value instead, such as the genotype that --arch named.
    """
    flags = {name: value for name, value in flat(cfg).items() if name not in NOT_COMPARED}
    return {**flags, **replaced, "data_digest": data.fingerprint()}
