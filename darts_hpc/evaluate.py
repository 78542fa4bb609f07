"""Accuracy of trained weights (the original test.py, test_imagenet.py): darts_hpc.evaluate --model_path RUN_OR_FILE."""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from darts_hpc.config.cli import run_entry, value_of
from darts_hpc.config.evaluate import EvaluateConfig, EvaluateImageNetConfig
from darts_hpc.run.reader import read_config


def main(cfg: EvaluateConfig) -> None:
    """Evaluate on small images."""
    from darts_hpc.commands import evaluate

    evaluate.main(cfg)


def main_imagenet(cfg: EvaluateImageNetConfig) -> None:
    """Evaluate on ImageNet."""
    from darts_hpc.commands import evaluate

    evaluate.main_imagenet(cfg)


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
        run_entry(main_imagenet, EvaluateImageNetConfig)
    else:
        run_entry(main, EvaluateConfig)
