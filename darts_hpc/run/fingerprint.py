"""What two processes must agree on for one to continue the other's run."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from darts_hpc.config.flags import affecting, flat

log = logging.getLogger(__name__)

MACHINE = frozenset({"world_size", "torch", "device_type"})
"""What a run adds to its fingerprint: how it is computed, and not what."""
ROUNDING = frozenset({"torch", "device_type"})
"""Those that change the last bits alone."""


@dataclass(frozen=True)
class Fingerprint:
    """What a checkpoint must agree with: values by name, and the default of each flag among them.

    A flag that a checkpoint does not know is younger than it, and counts as having its default.
    """

    values: dict[str, object]
    defaults: dict[str, object] = field(default_factory=dict)
    may_differ: Collection[str] = ROUNDING
    """Names whose difference only warns."""
    ignored: Collection[str] = ()
    """Names of a checkpoint's that are not compared: an older version kept more of them."""

    def differences(self, saved: Mapping[str, object]) -> dict[str, str]:
        """Return, by name, in words, where a checkpoint's values are others than these."""
        theirs = {**self.defaults, **saved}
        names = [name for name in {**saved, **self.values} if theirs.get(name) != self.values.get(name)]
        names = [name for name in names if name not in self.ignored]
        return {name: f"{name}: {theirs.get(name)} in the checkpoint, {self.values.get(name)} now" for name in names}


def fingerprint(cfg: Any, data_digest: str, **replaced: object) -> Fingerprint:
    """Return the configuration by flag name, and the digest of the data.

    `replaced` gives flags by value instead, such as the genotype that --arch named.
    """
    not_compared = affecting(type(cfg), "nothing")
    flags, defaults = (
        {name: value for name, value in flat(config).items() if name not in not_compared}
        for config in (cfg, type(cfg)())
    )
    # what a default means was not written down by an older run: here and now it means the same
    defaults |= {name: value for name, value in replaced.items() if name in defaults and flags[name] == defaults[name]}
    return Fingerprint({**flags, **replaced, "data_digest": data_digest}, defaults, may_differ(cfg), not_compared)


def may_differ(cfg: Any) -> frozenset[str]:
    """Return the parts of a fingerprint that only warn: the data and the maths stay, though not to the last bit.

    Where the global batch decides, and not how processes share it, their number may differ too: BatchNorm then sees
    other parts of it.
    """
    shares = affecting(type(cfg), "batches")
    return ROUNDING | affecting(type(cfg), "last_bits") | shares | ({"world_size"} if shares else set())


def same_configuration(saved: Mapping[str, object], now: Fingerprint) -> bool:
    """Whether a run with those values computes the same, on whichever machine."""
    return not now.differences(saved).keys() - MACHINE - set(now.may_differ)


def check_fingerprint(saved: Mapping[str, object], now: Fingerprint) -> None:
    """Compare a checkpoint's values with the run's. Those that may differ only warn.

    Raises ValueError, one line, naming every other difference.
    """
    difference = now.differences(saved)
    for name, text in difference.items():
        if name in now.may_differ:
            log.warning("%s; the rest of the run may differ in its last bits", text)
    refused = [text for name, text in difference.items() if name not in now.may_differ]
    if refused:
        raise ValueError(
            f"the checkpoint is of another configuration ({'; '.join(refused)}); go on with its own, "
            "or start afresh with another --save"
        )
