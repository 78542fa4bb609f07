"""What a run and a checkpoint must have in common for the run to resume from it."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from darts_hpc.config.flags import affecting, flat

log = logging.getLogger(__name__)

MACHINE = frozenset({"world_size", "torch", "device_type"})
"""What a run adds about its machine: how it is computed, not what."""
ROUNDING = frozenset({"torch", "device_type"})
"""Those of MACHINE that change only the last bits."""


@dataclass(frozen=True)
class Fingerprint:
    """What a checkpoint must match: values by name, and the default of each flag among them.

    A flag that a checkpoint does not have is newer than the checkpoint, and counts as having its default.
    """

    values: dict[str, object]
    defaults: dict[str, object] = field(default_factory=dict)
    may_differ: Collection[str] = ROUNDING
    """Names whose difference only warns."""
    ignored: Collection[str] = ()
    """Names in a checkpoint that are not compared: older versions kept more."""

    def differences(self, saved: Mapping[str, object]) -> dict[str, str]:
        """Return, by name and in words, how a checkpoint's values differ from these."""
        theirs = {**self.defaults, **saved}
        names = [name for name in {**saved, **self.values} if theirs.get(name) != self.values.get(name)]
        names = [name for name in names if name not in self.ignored]
        return {name: f"{name}: {theirs.get(name)} in the checkpoint, {self.values.get(name)} now" for name in names}


def fingerprint(cfg: Any, data_digest: str, **replaced: object) -> Fingerprint:
    """Return the configuration by flag name, and the digest of the data.

    `replaced`: resolved values of flags, such as the genotype that --arch names.
    """
    not_compared = affecting(type(cfg), "nothing")
    flags, defaults = (
        {name: value for name, value in flat(config).items() if name not in not_compared}
        for config in (cfg, type(cfg)())
    )
    # older runs did not record what a default resolves to: assume that it resolves as it does now
    defaults |= {name: value for name, value in replaced.items() if name in defaults and flags[name] == defaults[name]}
    return Fingerprint({**flags, **replaced, "data_digest": data_digest}, defaults, may_differ(cfg), not_compared)


def may_differ(cfg: Any) -> frozenset[str]:
    """Return the names whose difference only warns, as data and maths stay the same, though not to the last bit.

    Where the configuration sets a global batch, its split over batches and processes may differ too, though BatchNorm
    then sees other parts of it.
    """
    batches = affecting(type(cfg), "batches")
    return ROUNDING | affecting(type(cfg), "last_bits") | batches | ({"world_size"} if batches else set())


def same_configuration(saved: Mapping[str, object], now: Fingerprint) -> bool:
    """Whether a run with those values computes the same, on any machine."""
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
