"""Which of the family's members do not go together, why, and what to do instead."""

from typing import Any

from darts_hpc.config.flags import flags_of, flat
from darts_hpc.data.sets.table import DATASETS

CURVATURE_RULES = ("eigenvalue", "adaptive")
NO_SKIPS = (
    "--early_stop skips with {}: expected a space with skip_connect, which the rule counts; try --early_stop eigenvalue"
)


NOT_ON_IMAGENET = {
    "train_portion": "give --weight_share and --alpha_share",
    "split": "its classes are always shared evenly; leave it out",
    "cutout": "its images get random boxes, flips and colours; leave it out",
    "cutout_length": "its images get random boxes, flips and colours; leave it out",
}
"""flag that --dataset imagenet does not read -> what to do instead."""
SMALLEST_SIDE = 32
"""Pixels: ImageNet's stem and two reduction cells divide a side by it."""


def check_combination(cfg: Any) -> None:
    """Raise ValueError, one line, where a SearchConfig combines members that contradict each other."""
    _check_relaxation(cfg)
    _check_regulariser(cfg.arch_optim)
    _check_early_stop(cfg)
    _check_images(cfg)


def check_space(cfg: Any, space: Any) -> None:
    """Raise ValueError, one line, where a SearchConfig does not go with a SearchSpace."""
    if cfg.early_stop.early_stop == "skips" and not space.most_skip_connects:
        raise ValueError(NO_SKIPS.format(f"the space {space.name}"))


def remarks(cfg: Any) -> list[str]:
    """Return what is to be known about members that a SearchConfig combines."""
    found = []
    if cfg.model.edge_norm and cfg.arch_optim.relaxation == "dirichlet":
        found.append("--edge_norm with --relaxation dirichlet is not from a paper: DrNAS has no weights of edges")
    if cfg.model.edge_norm and (cfg.early_stop.record_eigenvalue or cfg.early_stop.early_stop in CURVATURE_RULES):
        found.append("the eigenvalue is that of the alphas alone, without the weights of edges, as in other searches")
    return found


def _check_relaxation(cfg: Any) -> None:
    relaxation = cfg.arch_optim.relaxation
    if cfg.model.edge_norm and relaxation in ("gumbel", "sigmoid"):
        why = "an edge's only operation runs whole" if relaxation == "gumbel" else "its gates do not compete"
        raise ValueError(
            f"--edge_norm with --relaxation {relaxation}: expected softmax or dirichlet, because with {relaxation} "
            f"{why}, which an edge weight would undo"
        )
    if cfg.optim.perturb != "none" and relaxation != "softmax":
        why = {
            "gumbel": "its weights of operations are no mixture",
            "sigmoid": "its weights of operations do not lie on the simplex",
            "dirichlet": "its weights of operations are random already",
        }[relaxation]
        raise ValueError(
            f"--perturb {cfg.optim.perturb} with --relaxation {relaxation}: expected --relaxation softmax, because "
            f"{why}; leave out one of them"
        )
    if cfg.selection.selection == "perturbation" and relaxation in ("gumbel", "sigmoid"):
        raise ValueError(
            f"--selection perturbation with --relaxation {relaxation}: expected softmax or dirichlet, because it takes "
            "operations out of a mixture of all; leave it at --selection magnitude"
        )


def _check_regulariser(arch_optim: Any) -> None:
    regulariser, relaxation = arch_optim.alpha_regulariser, arch_optim.relaxation
    fits, why = {
        "none": (("softmax", "gumbel", "dirichlet", "sigmoid"), ""),
        "beta": (("softmax", "gumbel"), "the logsumexp of alphas means something for a softmax only"),
        "kl": (("dirichlet",), "it is the distance between Dirichlet distributions"),
        "zero_one": (("sigmoid",), "it drives independent gates to 0 or 1"),
    }[regulariser]
    if relaxation not in fits:
        raise ValueError(
            f"--alpha_regulariser {regulariser} with --relaxation {relaxation}: expected --relaxation "
            f"{' or '.join(fits)}, because {why}"
        )


def _check_early_stop(cfg: Any) -> None:
    rule = cfg.early_stop.early_stop
    if rule == "skips" and cfg.model.space == "s4":
        raise ValueError(NO_SKIPS.format("--space s4"))
    if rule in CURVATURE_RULES:
        flag, instead = f"--early_stop {rule}", "; try --early_stop skips"
    elif cfg.early_stop.record_eigenvalue:
        flag, instead = "--record_eigenvalue", ""
    else:
        return
    if cfg.arch_optim.relaxation in ("gumbel", "dirichlet"):
        raise ValueError(
            f"{flag} with --relaxation {cfg.arch_optim.relaxation}: expected softmax or sigmoid, because the curvature "
            f"of a random loss is random{instead}"
        )
    if cfg.runtime.compile:
        raise ValueError(
            f"--compile with {flag}: expected one of them, because compiled cells can't be differentiated twice"
        )


def _check_images(cfg: Any) -> None:
    if cfg.data.dataset == "imagenet":
        values, defaults = flat(cfg), {name: flag.default for name, flag in flags_of(type(cfg)).items()}
        for name, instead in NOT_ON_IMAGENET.items():
            if values[name] != defaults[name]:
                raise ValueError(f"--{name} {values[name]}: expected another --dataset than imagenet; {instead}")
        return
    side = cfg.data.image_size or DATASETS[cfg.data.dataset].image_size
    one_pixel = 0 < side <= (SMALLEST_SIDE if cfg.stem == "imagenet" else SMALLEST_SIDE // 8)
    if cfg.data.batch_size == 1 and one_pixel and not cfg.runtime.sync_bn:
        raise ValueError(
            f"--batch_size 1 with images of {side} pixels: expected at least 2 images, because the last cells have one "
            "pixel, and BatchNorm can't normalise a single number; raise one of them"
        )
    if cfg.stem == "imagenet" and 0 < side < SMALLEST_SIDE:
        raise ValueError(
            f"--stem imagenet with images of {side} pixels: expected an --image_size of at least {SMALLEST_SIDE}, "
            "because the network divides by it; or take --stem cifar"
        )
