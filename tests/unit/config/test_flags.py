"""Flags stay the original scripts' own; a config that can't work is refused with the flag, its value and a way out."""

from pathlib import Path
from typing import Any

import pytest

from darts_hpc.config.campaign import (
    CampaignJobsConfig,
    CampaignSearchConfig,
    CampaignSizeConfig,
    CampaignTrainConfig,
)
from darts_hpc.config.evaluate import EvaluateConfig, EvaluateImageNetConfig
from darts_hpc.config.flags import flat
from darts_hpc.config.imagenet_reading import ImageNetDataConfig
from darts_hpc.config.pack import PackConfig
from darts_hpc.config.report import ReportConfig
from darts_hpc.config.shared import MemoryConfig, RunConfig, RuntimeConfig, TrainModelConfig, TrainRunConfig
from darts_hpc.config.stage import StageConfig
from darts_hpc.config.train import TrainConfig, TrainDataConfig, TrainOptimConfig
from darts_hpc.config.train_imagenet import ImageNetConfig, ImageNetOptimConfig, ImageNetRuntimeConfig
from darts_hpc.config.train_search import (
    ArchOptimConfig,
    SearchConfig,
    SearchDataConfig,
    SearchModelConfig,
    SearchOptimConfig,
    SearchRuntimeConfig,
)
from darts_hpc.config.visualize import VisualizeConfig

ORIGINAL_DEFAULTS = {  # train_search.py, train.py and test.py of the original repository
    SearchConfig: {
        "data": "../data",
        "batch_size": 64,
        "learning_rate": 0.025,
        "learning_rate_min": 0.001,
        "momentum": 0.9,
        "weight_decay": 3e-4,
        "report_freq": 50,
        "gpu": 0,
        "epochs": 50,
        "init_channels": 16,
        "layers": 8,
        "model_path": "saved_models",
        "cutout": False,
        "cutout_length": 16,
        "drop_path_prob": 0.3,
        "save": "EXP",
        "seed": 2,
        "grad_clip": 5,
        "train_portion": 0.5,
        "unrolled": False,
        "arch_learning_rate": 3e-4,
        "arch_weight_decay": 1e-3,
    },
    TrainConfig: {
        "data": "../data",
        "batch_size": 96,
        "learning_rate": 0.025,
        "momentum": 0.9,
        "weight_decay": 3e-4,
        "report_freq": 50,
        "gpu": 0,
        "epochs": 600,
        "init_channels": 36,
        "layers": 20,
        "model_path": "saved_models",
        "auxiliary": False,
        "auxiliary_weight": 0.4,
        "cutout": False,
        "cutout_length": 16,
        "drop_path_prob": 0.2,
        "save": "EXP",
        "seed": 0,
        "arch": "DARTS",
        "grad_clip": 5,
    },
    ImageNetConfig: {
        "data": "../data/imagenet",
        "batch_size": 128,
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 3e-5,
        "report_freq": 100,
        "gpu": 0,
        "epochs": 250,
        "init_channels": 48,
        "layers": 14,
        "auxiliary": False,
        "auxiliary_weight": 0.4,
        "drop_path_prob": 0,
        "save": "EXP",
        "seed": 0,
        "arch": "DARTS",
        "grad_clip": 5,
        "label_smooth": 0.1,
        "gamma": 0.97,
        "decay_period": 1,
        "parallel": False,
    },
    EvaluateImageNetConfig: {
        "data": "../data/imagenet",
        "batch_size": 128,
        "report_freq": 100,
        "gpu": 0,
        "init_channels": 48,
        "layers": 14,
        "model_path": "EXP/model.pt",
        "auxiliary": False,
        "drop_path_prob": 0,
        "seed": 0,
        "arch": "DARTS",
    },
    EvaluateConfig: {
        "data": "../data",
        "batch_size": 96,
        "report_freq": 50,
        "gpu": 0,
        "init_channels": 36,
        "layers": 20,
        "model_path": "EXP/model.pt",
        "auxiliary": False,
        "cutout": False,
        "cutout_length": 16,
        "drop_path_prob": 0.2,
        "seed": 0,
        "arch": "DARTS",
    },
}
READING = {
    "loader": "dali",
    "resize": 256,
    "jitter": "twist",
    "decode": "auto",
    "num_threads": 4,
    "prefetch": 2,
    "max_bad_images": 10,
    "manifest": None,
    "synthetic_images": 1_281_167,
    "synthetic_classes": 1000,
}
IMAGENET_DATA = {**READING, "valid_batch_size": None, "image_size": 224}
EVALUATED = {"network": "auto", "precision": "fp32", "channels_last": True, "device": "auto"}
OURS = {
    SearchConfig: {
        "dataset": "cifar10",
        "image_size": None,
        "split": "stratified",
        "weight_share": 0.1,
        "alpha_share": 0.025,
        **READING,
        "warmup_epochs": 0,
        "stem": "auto",
        "unrolled_method": "finite_difference",
        "supernet": "auto",
        "space": "darts",
        "partial_channels": 1,
        "edge_norm": False,
        "auxiliary_skip": "none",
        "search_drop_path": 0.0,
        "perturb": "none",
        "perturb_epsilon": 0.3,
        "relaxation": "softmax",
        "tau_max": 10.0,
        "tau_min": 0.1,
        "alpha_regulariser": "none",
        "alpha_regulariser_weight": None,
        "alpha_warmup_epochs": 0,
        "early_stop": "none",
        "max_skips": 1,
        "early_stop_from": 10,
        "eigenvalue_every": 2,
        "eigenvalue_factor": 1.3,
        "record_eigenvalue": False,
        "adaptive_factor": 10.0,
        "adaptive_max_decay": 0.03,
        "selection": "magnitude",
        "pt_epochs_between": 10,
        "pt_criterion": "accuracy",
        "pt_batches": None,
        "memory_check": "auto",
        "memory_limit": None,
        "sync_bn": False,
        "replica_check": 100,
        "checkpoint_cells": False,
        "compile": False,
        "precision": "fp32",
        "tf32": True,
        "cuda_graph": True,
        "channels_last": True,
        "resume": "none",
        "device": "auto",
        "checkpoint_freq": 0,
        "tensorboard": True,
        "deterministic": False,
    },
    TrainConfig: {
        "dataset": "cifar10",
        "image_size": None,
        "augment": "none",
        "held_out": 0.0,
        "network": "auto",
        "checkpoint_cells": False,
        "memory_check": "auto",
        "memory_limit": None,
        "label_smooth": 0.0,
        "ema": 0.0,
        "global_batch_size": None,
        "optimizer_impl": "auto",
        "cuda_graph": True,
        "precision": "fp32",
        "channels_last": True,
        "compile": False,
        "sync_bn": False,
        "replica_check": 100,
        "resume": "none",
        "device": "auto",
        "checkpoint_freq": 0,
        "eval_freq": 1,
        "tensorboard": True,
        "deterministic": False,
    },
    ImageNetConfig: {
        **IMAGENET_DATA,
        "network": "auto",
        "ema": 0.0,
        "checkpoint_cells": False,
        "memory_check": "auto",
        "memory_limit": None,
        "lr_schedule": "step",
        "warmup_epochs": 0,
        "global_batch_size": None,
        "optimizer_impl": "auto",
        "cuda_graph": True,
        "precision": "auto",
        "channels_last": True,
        "compile": False,
        "sync_bn": False,
        "replica_check": 100,
        "model_path": "saved_models",
        "resume": "none",
        "device": "auto",
        "checkpoint_freq": 0,
        "eval_freq": 1,
        "tensorboard": True,
        "deterministic": False,
    },
    EvaluateImageNetConfig: {**IMAGENET_DATA, **EVALUATED, "dataset": "imagenet"},
    EvaluateConfig: {"held_out": 0.0, "dataset": "cifar10", "image_size": None, **EVALUATED},
}

PREPARE = {"source": "a", "destination": "b", "num_threads": 4}


@pytest.mark.parametrize("cls", ORIGINAL_DEFAULTS)
def test_flags_and_defaults_are_the_original_ones_and_our_few(cls):
    assert flat(cls()) == ORIGINAL_DEFAULTS[cls] | OURS[cls]


def test_flags_that_prepare_imagenet_are_these():
    paths: dict[str, Any] = {"source": Path("a"), "destination": Path("b")}
    assert flat(PackConfig(**paths)) == {**PREPARE, "shard_mb": 1024, "seed": 0, "max_bad_images": 10}
    assert flat(StageConfig(**paths)) == PREPARE


COMPILED = SearchRuntimeConfig(compile=True)
REFUSED = [
    (SearchModelConfig, {"init_channels": 15}, "--init_channels 15"),
    (TrainModelConfig, {"init_channels": 0}, "--init_channels 0"),
    (SearchModelConfig, {"layers": 2}, "--layers 2"),
    (SearchModelConfig, {"partial_channels": 10**30}, "try 16"),
    (RuntimeConfig, {"replica_check": -1}, "--replica_check -1"),
    (MemoryConfig, {"memory_check": "maybe"}, "--memory_check 'maybe'"),
    (MemoryConfig, {"memory_limit": "ten"}, "--memory_limit 'ten'"),
    (MemoryConfig, {"memory_limit": "0GiB"}, "--memory_limit '0GiB'"),
    (SearchModelConfig, {"supernet": "dense"}, "--supernet 'dense'"),
    (SearchConfig, {"runtime": SearchRuntimeConfig(precision="fp16")}, "--precision fp16"),
    (
        SearchConfig,
        {"runtime": COMPILED, "arch_optim": ArchOptimConfig(unrolled=True, unrolled_method="exact")},
        "--compile with --unrolled_method exact",
    ),
    (SearchConfig, {"runtime": SearchRuntimeConfig(compile=True, sync_bn=True)}, "--compile with --sync_bn"),
    (TrainModelConfig, {"network": "stacked"}, "--network 'stacked'"),
    (EvaluateConfig, {"network": ""}, "--network ''"),
    (TrainModelConfig, {"drop_path_prob": 1.0}, "--drop_path_prob 1.0"),
    (TrainModelConfig, {"drop_path_prob": -0.1}, "--drop_path_prob -0.1"),
    (TrainModelConfig, {"auxiliary_weight": -1.0}, "--auxiliary_weight -1.0"),
    (SearchDataConfig, {"train_portion": 0.0}, "--train_portion 0.0"),
    (SearchDataConfig, {"train_portion": 1.0}, "--train_portion 1.0"),
    (SearchDataConfig, {"train_portion": float("nan")}, "--train_portion nan"),
    (SearchDataConfig, {"batch_size": 0}, "--batch_size 0"),
    (SearchDataConfig, {"split": "random"}, "--split 'random'"),
    (SearchDataConfig, {"weight_share": 0.0}, "--weight_share 0.0"),
    (SearchDataConfig, {"alpha_share": float("nan")}, "--alpha_share nan"),
    (SearchDataConfig, {"weight_share": 0.9, "alpha_share": 0.2}, "--alpha_share 0.2 with --weight_share 0.9"),
    (SearchModelConfig, {"stem": "large"}, "--stem 'large'"),
    (TrainDataConfig, {"batch_size": -1}, "--batch_size -1"),
    (TrainDataConfig, {"held_out": 1.0}, "--held_out 1.0"),
    (TrainDataConfig, {"held_out": -0.1}, "--held_out -0.1"),
    (TrainDataConfig, {"augment": "rand"}, "--augment 'rand'"),
    (TrainDataConfig, {"dataset": "mnist"}, "--dataset 'mnist'"),
    (TrainDataConfig, {"dataset": "folder"}, "--image_size 32"),
    (TrainDataConfig, {"image_size": 2}, "--image_size 2"),
    (TrainDataConfig, {"cutout_length": 0}, "--cutout_length 0"),
    (SearchOptimConfig, {"learning_rate": -0.1}, "--learning_rate -0.1"),
    (SearchOptimConfig, {"learning_rate_min": -0.1}, "--learning_rate_min -0.1"),
    (SearchOptimConfig, {"warmup_epochs": -1}, "--warmup_epochs -1"),
    (TrainOptimConfig, {"weight_decay": float("inf")}, "--weight_decay inf"),
    (TrainOptimConfig, {"grad_clip": 0.0}, "--grad_clip 0.0"),
    (ArchOptimConfig, {"arch_learning_rate": -1.0}, "--arch_learning_rate -1.0"),
    (ArchOptimConfig, {"unrolled_method": "magic"}, "--unrolled_method 'magic'"),
    (RunConfig, {"epochs": 0}, "--epochs 0"),
    (RunConfig, {"report_freq": 0}, "--report_freq 0"),
    (RunConfig, {"checkpoint_freq": -1}, "--checkpoint_freq -1"),
    (TrainRunConfig, {"eval_freq": 0}, "--eval_freq 0"),
    (RunConfig, {"seed": -1}, "--seed -1"),
    (RunConfig, {"device": "gpu"}, "--device 'gpu'"),
    (RunConfig, {"gpu": -1}, "--gpu -1"),
    (ImageNetOptimConfig, {"label_smooth": 1.0}, "--label_smooth 1.0"),
    (ImageNetOptimConfig, {"ema": 1.0}, "--ema 1.0"),
    (TrainOptimConfig, {"ema": float("nan")}, "--ema nan"),
    (ImageNetOptimConfig, {"gamma": 0.0}, "--gamma 0.0"),
    (ImageNetOptimConfig, {"decay_period": 0}, "--decay_period 0"),
    (ImageNetOptimConfig, {"lr_schedule": "poly"}, "--lr_schedule 'poly'"),
    (ImageNetOptimConfig, {"warmup_epochs": -1}, "--warmup_epochs -1"),
    (ImageNetOptimConfig, {"global_batch_size": 0}, "--global_batch_size 0"),
    (ImageNetOptimConfig, {"optimizer_impl": "lion"}, "--optimizer_impl 'lion'"),
    (ImageNetRuntimeConfig, {"precision": "fp8"}, "--precision 'fp8'"),
    (ImageNetRuntimeConfig, {"replica_check": -1}, "--replica_check -1"),
    (EvaluateConfig, {"dataset": "folder"}, "--image_size 32"),
    (EvaluateConfig, {"layers": 1}, "--layers 1"),
    (VisualizeConfig, {"genotype": "DARTS", "format": ()}, "--format"),
    (ImageNetDataConfig, {"loader": "ffcv"}, "--loader 'ffcv'"),
    (ImageNetDataConfig, {"jitter": "hue"}, "--jitter 'hue'"),
    (ImageNetDataConfig, {"decode": "tpu"}, "--decode 'tpu'"),
    (ImageNetDataConfig, {"batch_size": 0}, "--batch_size 0"),
    (ImageNetDataConfig, {"valid_batch_size": 0}, "--valid_batch_size 0"),
    (ImageNetDataConfig, {"num_threads": 0}, "--num_threads 0"),
    (ImageNetDataConfig, {"max_bad_images": -1}, "--max_bad_images -1"),
    (ImageNetDataConfig, {"image_size": 16}, "--image_size 16"),
    (ImageNetDataConfig, {"resize": 223}, "--resize 223"),
    (ImageNetDataConfig, {"synthetic_classes": 1}, "--synthetic_classes 1"),
    (PackConfig, {"source": Path("a"), "destination": Path("b"), "shard_mb": 0}, "--shard_mb 0"),
    (StageConfig, {"source": Path("a"), "destination": Path("b"), "num_threads": 0}, "--num_threads 0"),
    (ReportConfig, {"runs": ()}, "no run"),
]


@pytest.mark.parametrize(
    ("cls", "values", "named"), REFUSED, ids=[f"{cls.__name__} {named}" for cls, _, named in REFUSED]
)
def test_a_config_that_cannot_work_is_refused_in_one_line(cls, values, named):
    with pytest.raises(ValueError) as refusal:
        cls(**values)
    assert named in str(refusal.value)
    assert "expected" in str(refusal.value)
    assert "\n" not in str(refusal.value)


TOO_MUCH = [
    (cls, "seed", 10**23) for cls in (RunConfig, EvaluateConfig, EvaluateImageNetConfig)
] + [
    (cls, "batch_size", 10**11) for cls in (SearchDataConfig, TrainDataConfig, EvaluateConfig, ImageNetDataConfig)
] + [
    (ImageNetDataConfig, "valid_batch_size", 10**11),
    (TrainDataConfig, "image_size", 1_000_000),
    (ImageNetDataConfig, "image_size", 1_000_000),
    (ImageNetDataConfig, "resize", 10**9),
    (ImageNetDataConfig, "synthetic_images", 10**12),
    (ImageNetDataConfig, "num_threads", 10**6),
    (TrainDataConfig, "cutout_length", 10**12),
    (SearchModelConfig, "init_channels", 10**12),
    (TrainModelConfig, "init_channels", 10**12),
    (SearchModelConfig, "layers", 10**9),
    (EvaluateConfig, "layers", 10**9),
    (RunConfig, "epochs", 10**30),
    (RunConfig, "report_freq", 10**30),
    (RunConfig, "gpu", 10**30),
    (TrainOptimConfig, "global_batch_size", 10**12),
    (ArchOptimConfig, "alpha_warmup_epochs", 10**30),
    (CampaignSearchConfig, "random_cells", 10**12),
    (CampaignTrainConfig, "select_epochs", 10**12),
    (CampaignJobsConfig, "jobs", 10**12),
    (CampaignSizeConfig, "cpus_per_job", 10**12),
]  # fmt: skip


@pytest.mark.parametrize(("cls", "flag", "value"), TOO_MUCH)
def test_numbers_beyond_what_arithmetic_or_memory_can_hold_are_refused(cls, flag: str, value: int):
    with pytest.raises(ValueError, match=rf"^--{flag} {value}: expected at most \d+$"):
        cls(**{flag: value})


@pytest.mark.parametrize("limit", ["99999999999999999999", "9" * 400, "1e9TiB", "2000TiB"])
def test_a_memory_limit_beyond_any_machine_is_refused(limit):
    with pytest.raises(ValueError, match=r"^--memory_limit '.*expected"):
        MemoryConfig(memory_limit=limit)


def test_packing_refuses_numbers_beyond_what_arithmetic_can_hold():
    for flag in ("seed", "shard_mb"):
        with pytest.raises(ValueError, match=rf"^--{flag} 1{'0' * 23}: expected at most \d+$"):
            PackConfig(source=Path("a"), destination=Path("b"), **{flag: 10**23})


def test_the_largest_seed_is_torchs_and_an_empty_manifest_is_none():
    assert RunConfig(seed=2**63 - 1).seed == 2**63 - 1
    with pytest.raises(ValueError, match=r"--manifest '\.': expected a file"):
        ImageNetDataConfig(manifest=Path())


def test_the_smallest_network_has_a_normal_cell_and_two_reduction_cells():
    layers = SearchModelConfig(layers=3).layers
    assert len({0, layers // 3, 2 * layers // 3}) == 3


def test_flat_spells_every_value_plainly():
    values = flat(ReportConfig(runs=(Path("a"), Path("b"))))
    assert values == {"runs": ["a", "b"], "output": "report"}
