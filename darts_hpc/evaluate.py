"""Accuracy of trained weights (the original test.py, test_imagenet.py): darts_hpc.evaluate --model_path RUN_OR_FILE."""

import contextlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from darts_hpc.config.cli import run_entry, value_of
from darts_hpc.config.evaluate import EvaluateConfig, EvaluateImageNetConfig
from darts_hpc.run.reader import check_exists, read_config
from darts_hpc.space.genotypes import load_genotype
from darts_hpc.user_files import is_file, is_folder


def main(cfg: EvaluateConfig) -> None:
    """Evaluate on small images."""
    from darts_hpc.commands import evaluate

    evaluate.main(cfg)


def main_imagenet(cfg: EvaluateImageNetConfig) -> None:
    """Evaluate on ImageNet."""
    from darts_hpc.commands import evaluate

    evaluate.main_imagenet(cfg)


def check(cfg: EvaluateConfig | EvaluateImageNetConfig) -> None:
    """Raise ValueError where the weights are not there, or the cell of a file's is unknown."""
    check_exists(cfg.model_path, "--model_path")
    if is_file(cfg.model_path):
        load_genotype(cfg.arch)


def report_on_it(cfg: EvaluateConfig | EvaluateImageNetConfig, _: str) -> str:
    """Return the report of the run that was evaluated."""
    return f"report {shlex.quote(str(cfg.model_path))}" if is_folder(cfg.model_path) else ""


def is_imagenet(argv: Sequence[str]) -> bool:
    """Whether these flags ask for ImageNet: by --dataset imagenet, or by naming a run of train_imagenet."""
    if value_of("dataset", argv) == "imagenet":
        return True
    run = Path(value_of("model_path", argv) or "")
    with contextlib.suppress(ValueError):  # a file, or a damaged folder, which is said where its weights are read
        return read_config(run)[0] == "train_imagenet"
    return False


if __name__ == "__main__":
    if is_imagenet(sys.argv[1:]):
        run_entry(main_imagenet, EvaluateImageNetConfig, check=check, next_command=report_on_it)
    else:
        run_entry(main, EvaluateConfig, check=check, next_command=report_on_it)
