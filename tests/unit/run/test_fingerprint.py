"""Each flag has the effect that its config declares, on the question whether a run may continue another."""

from typing import Any

import pytest

from darts_hpc.config.campaign import CampaignConfig
from darts_hpc.config.flags import flags_of, flat
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_imagenet import ImageNetConfig
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.run.checkpoint import check_fingerprint
from darts_hpc.run.fingerprint import fingerprint, may_differ

RUNS = {"train_search": SearchConfig, "train": TrainConfig, "train_imagenet": ImageNetConfig}
FLAGS = [(entry, name) for entry, cls in RUNS.items() for name in flags_of(cls)]
NOT_COMPARED = {
    *("data", "save", "resume", "device", "gpu", "tensorboard", "model_path", "report_freq", "checkpoint_freq"),
    *("num_threads", "prefetch", "manifest", "valid_batch_size", "parallel", "replica_check", "max_bad_images"),
    *("memory_check", "memory_limit"),
}
WARNS = {"supernet", "checkpoint_cells", "tf32", "cuda_graph", "compile", "channels_last", "deterministic"}


def outcome(cls: Any, name: str) -> str:
    """What resuming a run says whose flag differs: "" for nothing, "warns" or "refuses"."""
    cfg = cls()
    saved = fingerprint(cfg, "digest")
    if name not in saved:
        return ""
    try:
        check_fingerprint(saved, {**saved, name: "another"}, may_differ(cfg))
    except ValueError:
        return "refuses"
    return "warns"


@pytest.mark.parametrize(("entry", "name"), FLAGS)
def test_a_flag_may_differ_in_a_resumed_run_as_its_config_declares(entry: str, name: str):
    wanted = {"nothing": "", "last_bits": "warns", "batches": "warns"}.get(flags_of(RUNS[entry])[name].affects)
    assert outcome(RUNS[entry], name) == ("refuses" if wanted is None else wanted)


@pytest.mark.parametrize(("entry", "name"), FLAGS)
def test_the_declarations_are_these(entry: str, name: str):
    unused = entry == "train_search" and name == "drop_path_prob"
    elastic = entry == "train_imagenet" and name == "batch_size"
    wanted = "" if name in NOT_COMPARED or unused else "warns" if name in WARNS or elastic else "refuses"
    assert outcome(RUNS[entry], name) == wanted


def test_only_where_the_global_batch_decides_may_the_number_of_processes_differ():
    assert "world_size" in may_differ(ImageNetConfig())
    assert "world_size" not in may_differ(SearchConfig())


def test_a_subclass_that_sets_another_default_of_a_flag_keeps_what_it_affects():
    for cls in (*RUNS.values(), CampaignConfig):
        kinds = {flag.affects for name, flag in flags_of(cls).items() if name in ("save", "resume")}
        assert kinds == {"nothing"} and set(flags_of(cls)) == set(flat(cls()))
