"""Each flag has the effect that its config declares, on the question whether a run may continue another."""

from dataclasses import replace
from typing import Any

import pytest

from darts_hpc.config.campaign import CampaignConfig
from darts_hpc.config.flags import flags_of, flat
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_imagenet import ImageNetConfig
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.run.fingerprint import Fingerprint, check_fingerprint, fingerprint, may_differ, same_configuration

SAVED = {"layers": 8, "seed": 2}
RUNS = {"train_search": SearchConfig, "train": TrainConfig, "train_imagenet": ImageNetConfig}
FLAGS = [(entry, name) for entry, cls in RUNS.items() for name in flags_of(cls)]
NOT_COMPARED = {
    *("data", "save", "resume", "device", "gpu", "tensorboard", "model_path", "report_freq", "checkpoint_freq"),
    *("num_threads", "prefetch", "manifest", "valid_batch_size", "parallel", "replica_check", "max_bad_images"),
    *("memory_check", "memory_limit", "record_eigenvalue", "eval_freq"),
}
WARNS = {"network", "supernet", "checkpoint_cells", "tf32", "cuda_graph", "compile", "channels_last", "deterministic"}
WARNS |= {"optimizer_impl"}


def outcome(cls: Any, name: str) -> str:
    """What resuming a run says whose flag differs: "" for nothing, "warns" or "refuses"."""
    cfg = cls()
    now = fingerprint(cfg, "digest")
    if name not in now.values:
        return ""
    try:
        check_fingerprint({**now.values, name: "another"}, now)
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
    elastic = entry != "train_search" and name == "batch_size"
    wanted = "" if name in NOT_COMPARED or unused else "warns" if name in WARNS or elastic else "refuses"
    assert outcome(RUNS[entry], name) == wanted


def test_only_where_the_global_batch_decides_may_the_number_of_processes_differ():
    assert "world_size" in may_differ(ImageNetConfig()) and "world_size" in may_differ(TrainConfig())
    assert "world_size" not in may_differ(SearchConfig())


def test_a_subclass_that_sets_another_default_of_a_flag_keeps_what_it_affects():
    for cls in (*RUNS.values(), CampaignConfig):
        kinds = {flag.affects for name, flag in flags_of(cls).items() if name in ("save", "resume")}
        assert kinds == {"nothing"} and set(flags_of(cls)) == set(flat(cls()))


def test_another_configuration_is_refused_naming_every_difference():
    with pytest.raises(ValueError, match="layers: 8 in the checkpoint, 9 now; epochs: None in the checkpoint, 5 now"):
        check_fingerprint(SAVED, Fingerprint({"layers": 9, "seed": 2, "epochs": 5}))
    check_fingerprint(SAVED, Fingerprint(dict(reversed(SAVED.items()))))


def test_a_difference_that_matters_little_warns(caplog):
    check_fingerprint({"torch": "2.11", **SAVED}, Fingerprint({"torch": "2.15", **SAVED}))
    assert "torch: 2.11 in the checkpoint, 2.15 now" in caplog.text


def test_a_flag_that_the_checkpoint_does_not_know_counts_as_having_its_default(caplog):
    now = fingerprint(TrainConfig(), "digest")
    older = {name: value for name, value in now.values.items() if name not in ("deterministic", "cutout_length")}
    check_fingerprint(older, now)
    assert caplog.text == ""
    changed = replace(now, values={**now.values, "cutout_length": 8})
    with pytest.raises(ValueError, match=r"\(cutout_length: 16 in the checkpoint, 8 now\)"):
        check_fingerprint(older, changed)


def test_what_a_default_means_is_no_difference_to_a_checkpoint_that_does_not_know_the_flag():
    now = fingerprint(TrainConfig(), "digest", global_batch_size=96)
    older = {name: value for name, value in now.values.items() if name != "global_batch_size"}
    assert not now.differences(older)
    assert now.differences({**older, "global_batch_size": 192})
    assert not now.differences({**older, "report_freq": 7})  # which older checkpoints hold


def test_the_same_configuration_on_another_machine_is_the_same():
    now = Fingerprint({**SAVED, "world_size": 4})
    assert same_configuration({**SAVED, "world_size": 8}, now)
    assert not same_configuration({**SAVED, "seed": 3, "world_size": 4}, now)


def test_a_run_of_the_stacked_supernet_as_it_was_called_goes_on_as_fast(caplog):
    now = fingerprint(SearchConfig(), "digest")
    check_fingerprint({**now.values, "supernet": "stacked"}, replace(now, values={**now.values, "supernet": "fast"}))
    assert "supernet: stacked in the checkpoint, fast now" in caplog.text
