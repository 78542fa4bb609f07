"""Flags of a search that can't act in it. What nothing reads is refused; what is idle in it is said."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from darts_hpc.config.flags import flags_of, flat
from darts_hpc.config.imagenet_reading import ImageNetReadingConfig

READ_BY = {
    "tau_max": ("relaxation", ("gumbel",)),
    "tau_min": ("relaxation", ("gumbel",)),
    "perturb_epsilon": ("perturb", ("random", "adversarial")),
    "max_skips": ("early_stop", ("skips",)),
    "early_stop_from": ("early_stop", ("skips", "eigenvalue", "adaptive")),
    "eigenvalue_every": ("early_stop", ("eigenvalue", "adaptive")),
    "eigenvalue_factor": ("early_stop", ("eigenvalue", "adaptive")),
    "adaptive_factor": ("early_stop", ("adaptive",)),
    "adaptive_max_decay": ("early_stop", ("adaptive",)),
    "pt_epochs_between": ("selection", ("perturbation",)),
    "pt_criterion": ("selection", ("perturbation",)),
    "pt_batches": ("selection", ("perturbation",)),
    "alpha_regulariser_weight": ("alpha_regulariser", ("beta", "kl", "zero_one")),
    **{flag.name: ("dataset", ("imagenet",)) for flag in fields(ImageNetReadingConfig)},
    "weight_share": ("dataset", ("imagenet",)),
    "alpha_share": ("dataset", ("imagenet",)),
}
"""flag -> the flag, and its values, that read it: with others it would be taken without a word, and change nothing."""
EVALUATIONS_BACK = 2 + 4
"""Eigenvalues from the epoch whose cell is given to the one after which the rule decides, which compares averages over
five eigenvalues, four evaluations apart (search.stop_rules)."""


def check_idle_flags(cfg: Any) -> None:
    """Raise ValueError, one line, where a SearchConfig sets what could never act."""
    _check_unread(cfg)
    _check_warm_up(cfg)
    if cfg.early_stop.early_stop == "adaptive":
        _check_decay(cfg.optim.weight_decay, cfg.early_stop)


def idle_notes(cfg: Any, space: Any) -> Iterator[str]:
    """Yield a line for each flag of a SearchConfig that can't act in this search of a SearchSpace."""
    weight = cfg.arch_optim.alpha_regulariser_weight
    if weight == 0:
        yield f"--alpha_regulariser {cfg.arch_optim.alpha_regulariser} has no effect: its weight is 0"
    ramps = {
        "--alpha_regulariser beta": cfg.arch_optim.alpha_regulariser == "beta" and weight != 0,
        "--search_drop_path": cfg.model.search_drop_path > 0,
    }
    for flag in (flag for flag, is_given in ramps.items() if is_given and cfg.run.epochs == 1):
        yield f"{flag} has no effect in 1 epoch: it grows from 0"
    yield from _idle_gradient(cfg.arch_optim)
    yield from _idle_stop(cfg, space)


def random_cell_note(cfg: Any) -> str | None:
    """Return a line about a search whose alphas never move, and that reads the cell off them; None for others."""
    if cfg.arch_optim.arch_learning_rate > 0 or cfg.selection.selection == "perturbation":
        return None
    return (
        "the cell is a random one, as the alphas never move (--arch_learning_rate 0): select one by perturbation, by "
        "--selection perturbation or, when the search has finished, by select_cell"
    )


def _idle_gradient(arch: Any) -> Iterator[str]:
    idle = {
        "--unrolled": arch.unrolled,
        f"--alpha_regulariser {arch.alpha_regulariser}": arch.alpha_regulariser != "none",
    }
    for flag in (flag for flag, is_given in idle.items() if is_given and arch.arch_learning_rate == 0):
        yield f"{flag} has no effect: the alphas never move (--arch_learning_rate 0)"


def _idle_stop(cfg: Any, space: Any) -> Iterator[str]:
    rule, every, epochs = cfg.early_stop.early_stop, cfg.early_stop.eigenvalue_every, cfg.run.epochs
    if rule == "none":
        return
    decides_after = max(cfg.early_stop.early_stop_from, cfg.arch_optim.alpha_warmup_epochs)
    if rule != "skips":
        decides_after = (-(-decides_after // every) + EVALUATIONS_BACK) * every
    if decides_after > epochs - 2:  # after the last nothing is left to stop
        yield (
            f"--early_stop {rule} can't act in {epochs} epochs: it decides after epoch {decides_after + 1} at the "
            "earliest"
        )
    elif rule == "skips" and cfg.early_stop.max_skips >= space.most_skip_connects:
        yield (
            f"--early_stop skips can't act with --max_skips {cfg.early_stop.max_skips}: a normal cell of the space "
            f"{space.name} has at most {space.most_skip_connects} skip connections"
        )


def _check_unread(cfg: Any) -> None:
    values, defaults = flat(cfg), {name: flag.default for name, flag in flags_of(type(cfg)).items()}
    for name, (reader, reading) in READ_BY.items():
        if name == "eigenvalue_every" and cfg.early_stop.record_eigenvalue:
            continue
        if values[name] != defaults[name] and values[reader] not in reading:
            ways = " or ".join(reading)
            raise ValueError(f"--{name} {values[name]}: expected --{reader} {ways} beside it, which alone reads it")


def _check_warm_up(cfg: Any) -> None:
    warm_up, epochs = cfg.arch_optim.alpha_warmup_epochs, cfg.run.epochs
    if warm_up >= epochs and warm_up > 0:
        raise ValueError(
            f"--alpha_warmup_epochs {warm_up} with --epochs {epochs}: expected fewer than the epochs, or the alphas "
            "never move; for that, give --arch_learning_rate 0 with --selection perturbation"
        )


def _check_decay(weight_decay: float, early_stop: Any) -> None:
    """Raise ValueError where the rule adaptive would never raise the weight decay, or go back again and again."""
    if weight_decay == 0:
        raise ValueError(
            "--early_stop adaptive with --weight_decay 0.0: expected a number above 0, because the rule multiplies it "
            "where it goes back; try --weight_decay 3e-4"
        )
    if not early_stop.can_raise(weight_decay):
        factor, limit = early_stop.adaptive_factor, early_stop.adaptive_max_decay
        raise ValueError(
            f"--early_stop adaptive with --weight_decay {weight_decay:g}: expected at most {limit / factor:.3g}, as "
            f"{factor:g} times it is above --adaptive_max_decay {limit:g}, and the rule would never act; or give "
            f"--adaptive_max_decay {weight_decay * factor:.3g}"
        )
