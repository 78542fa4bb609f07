"""Show what a step takes, and which settings fit, without running it: darts_hpc.plan [search|train|train_imagenet]."""

import shlex
import sys

from darts_hpc.config.cli import refuse, run_entry, value_of
from darts_hpc.config.combinations import check_space
from darts_hpc.config.program import MODULES
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_imagenet import ImageNetConfig
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.space.spaces import SPACES
from darts_hpc.suggest import did_you_mean

PLANNED = {"search": SearchConfig, "train": TrainConfig, "train_imagenet": ImageNetConfig}
"""What is planned -> the class of its flags."""
ABOUT = """Show the memory that one step of a {what} needs, and how large its batches and channels may be, without
running it: a table of {forms}, with and without recomputed cells, against the memory that is free. It takes the flags
and presets of {what}, and writes nothing. darts plan is for a search; darts plan train and darts plan train_imagenet
are for trainings."""
FORMS = {"search": "every gradient (first order, finite differences, exact)"}


def main(cfg: SearchConfig | TrainConfig | ImageNetConfig) -> bool:
    """Print the table, and return whether the run would start."""
    from darts_hpc.commands import plan

    return plan.main(cfg)


def check(cfg: SearchConfig | TrainConfig | ImageNetConfig) -> None:
    """Raise ValueError where the run itself would be refused."""
    if isinstance(cfg, SearchConfig):
        check_space(cfg, SPACES[cfg.model.space])


def planned(argv: list[str]) -> str:
    """Return what is planned: the first word, which is taken out, or what a preset was written by; else a search.

    Raises ValueError for another word.
    """
    if argv and not argv[0].startswith("-"):
        word = argv.pop(0)
        if word not in PLANNED:
            raise ValueError(f"plan {word!r}: expected search, train or train_imagenet; {did_you_mean(word, PLANNED)}")
        return word
    entry = value_of("entry", argv)
    return next((word for word in PLANNED if MODULES.get(word, word) == entry), "search")


if __name__ == "__main__":
    try:
        argv = sys.argv[1:]
        word = planned(argv)
        sys.argv[1:] = argv
    except ValueError as error:
        refuse(error)
    run_entry(
        main,
        PLANNED[word],
        action=word if word != "search" else "",
        check=check,
        about=ABOUT.format(what=word, forms=FORMS.get(word, "both forms of the network")),
        next_command=lambda cfg, starts: f"{word} {shlex.join(sys.argv[1:])}" if starts == "True" else "",
    )
