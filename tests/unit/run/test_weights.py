"""Weights are read whole and as plain data, whoever wrote them, or refused in a line that says why."""

import argparse
import hashlib
import json
import math
import os
import random
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from torch.optim.swa_utils import AveragedModel

from darts_hpc.run.checkpoint import CheckpointStore, save_atomically
from darts_hpc.run.recorder import _positions
from darts_hpc.run.weights import read_weights


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_damaged_and_not_unreadable(share, tmp_path: Path):
    path = tmp_path / "weights.pt"
    torch.save({f"layer.{i}.weight": torch.randn(10, 10) for i in range(40)}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="is damaged or holds no state dict") as refusal:
        read_weights(path)
    assert "\n" not in str(refusal.value)


def finish(folder: Path) -> Path:
    """What a run leaves at its end, as far as weights are read."""
    tensors = {f"layer.{i}.weight": torch.randn(6, 6) for i in range(3)}
    digests = {name: save_atomically(folder / name, tensors) for name in ("weights.pt", "alphas.pt")}
    (folder / "result.json").write_text(json.dumps({"status": "finished", "files": digests}))
    return folder


@pytest.mark.parametrize("name", ["weights.pt", "alphas.pt"])
def test_any_flipped_bit_in_what_a_run_wrote_is_refused(name, tmp_path: Path):
    path = finish(tmp_path) / name
    whole = path.read_bytes()
    assert len(read_weights(path)) == 3
    draw = random.Random(0)
    for _ in range(200):
        content = bytearray(whole)
        content[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"its digest is not the one in result.json"):
            read_weights(path)


def test_a_run_writes_the_digests_of_its_files(tmp_path: Path):
    digest = save_atomically(tmp_path / "weights.pt", {"a": torch.ones(2)})
    content = (tmp_path / "weights.pt").read_bytes()
    assert digest == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


@pytest.mark.parametrize("content", ["{", "[]", '{"files": 1}', '{"files": {}}', "[" * 100_000])
def test_a_file_beside_something_else_called_result_json_is_read(content, tmp_path: Path):
    finish(tmp_path)
    (tmp_path / "result.json").write_text(content)
    assert len(read_weights(tmp_path / "weights.pt")) == 3


BARE = {"stem.0.weight": torch.ones(2), "cells.0.op.weight": torch.ones(3)}


def compiled(name: str) -> str:
    return name.replace("cells.0.", "cells.0._orig_mod.")


def average(weights: dict) -> dict:
    """What torch.optim.swa_utils.AveragedModel saves of a network with these weights."""
    names = list(AveragedModel(torch.nn.Linear(1, 1)).state_dict())
    assert names == ["n_averaged", "module.weight", "module.bias"]
    return {"n_averaged": torch.tensor(3), **{f"module.{name}": value for name, value in weights.items()}}


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": BARE, "best_acc_top1": np.float64(0.7), "epoch": 3, "arch": "DARTS"},
        {"model": BARE, "args": argparse.Namespace(lr=0.1, layers=[1, 2]), "top5": np.float32(0.5), "n": np.int64(3)},
        {"model_state_dict": BARE, "optimizer": {"state": {0: {"momentum": torch.ones(1)}}}},
        {"net": BARE, "args": argparse.Namespace(save=Path("exp")), "history": np.arange(3), "when": datetime.now(UTC)},
        {"epoch": 1, "model": {"state_dict": BARE, "step": 2}},
        {f"module.{name}": value for name, value in BARE.items()},
        {f"_orig_mod.{name}": value for name, value in BARE.items()},
        {f"_orig_mod.module.{name}": value for name, value in BARE.items()},
        {f"module._orig_mod.{name}": value for name, value in BARE.items()},
        {compiled(name): value for name, value in BARE.items()},
        *({f"{prefix}{name}": value for name, value in BARE.items()} for prefix in ("model.", "net.", "network.")),
        {f"_fsdp_wrapped_module.{name.replace('op.', 'op._fsdp_wrapped_module.')}": BARE[name] for name in BARE},
        {"state_dict": {f"model._orig_mod.module.{name}": value for name, value in BARE.items()}, "epoch": 3},
        average(BARE),
        {f"model.{name}": value for name, value in average(BARE).items()},
    ],
)
def test_whole_checkpoints_of_training_scripts_give_the_networks_own_names(content, tmp_path: Path):
    torch.save(content, tmp_path / "model.pt")
    found = read_weights(tmp_path / "model.pt")
    assert list(found) == list(BARE) and all(torch.equal(found[name], BARE[name]) for name in BARE)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (torch.tensor([1.0, float("nan")]), "is not finite"),
        (torch.tensor([float("inf")], dtype=torch.bfloat16), "is not finite"),
        (torch.ones(2).to_sparse(), "is sparse"),
        (torch.ones(2, dtype=torch.complex64), "is complex"),
        (torch.empty(2, device="meta"), "has no values"),
        (torch.ones(1).expand(1 << 40), "repeats its values"),
        (torch.zeros(4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2), "is of torch.float4_e2m1fn_x2, which holds"),
        (torch.zeros(4, dtype=torch.uint8).view(torch.bits8), "is of torch.bits8, which holds no numbers"),
    ],
)
def test_weights_that_no_network_computes_with_are_refused_by_name(value, problem, tmp_path: Path):
    torch.save({**BARE, "classifier.weight": value}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=rf"model.pt: classifier.weight ({problem})"):
        read_weights(tmp_path / "model.pt")


def test_a_tensor_of_a_type_that_torch_lacks_is_named(tmp_path: Path):
    header = b'{"stem.weight": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}}'
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(2))
    with pytest.raises(ValueError, match=r"safetensors: stem.weight is of F4, which holds no numbers"):
        read_weights(tmp_path / "x.safetensors")


@pytest.mark.parametrize("length", [200, 640, 0x4B50])  # of the header: two begin as files of torch.save do
def test_a_file_is_read_by_its_content_and_not_its_name(length, tmp_path: Path):
    plain = safetensors.torch.save(BARE, {"x": ""})
    pad = length - int.from_bytes(plain[:8], "little")
    data = safetensors.torch.save(BARE, {"x": "x" * pad})
    assert int.from_bytes(data[:8], "little") == length
    for name in ("x.safetensors", "x.pt"):
        (tmp_path / name).write_bytes(data)
        assert read_weights(tmp_path / name).keys() == BARE.keys()
        with pytest.raises(ValueError, match="is damaged"):
            (tmp_path / name).write_bytes(data[:-30])
            read_weights(tmp_path / name)
    for is_zip in (True, False):
        torch.save(BARE, tmp_path / "x.safetensors", _use_new_zipfile_serialization=is_zip)
        assert read_weights(tmp_path / "x.safetensors").keys() == BARE.keys()


@pytest.mark.parametrize("change", [lambda value: value * math.nan, lambda value: 1], ids=["not finite", "no tensor"])
def test_a_key_of_a_file_is_repeated_short_and_in_one_line(change, tmp_path: Path):
    torch.save({f"a\nb{'c' * 100_000}": change(torch.ones(1))}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"a\\nbc") as refusal:
        read_weights(tmp_path / "model.pt")
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 1000


class Attack:
    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_an_object_beside_weights_is_named_and_not_loaded(tmp_path: Path):
    torch.save({"state_dict": BARE, "x": Attack(tmp_path / "mark")}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"holds an object of posix\.mkdir beside weights.*save the state dict alone"):
        read_weights(tmp_path / "model.pt")
    assert not (tmp_path / "mark").exists()


def test_a_flipped_bit_in_a_file_of_any_script_is_refused_or_changes_nothing(tmp_path: Path):
    """Nothing tells its digest, but torch.save writes a checksum of each part, which torch.load does not compare."""
    path = tmp_path / "model.pt"
    torch.save({"state_dict": {f"layer.{i}.weight": torch.randn(6, 6) for i in range(3)}}, path)
    whole, tensors = path.read_bytes(), read_weights(path)
    draw = random.Random(0)
    for _ in range(300):
        content = bytearray(whole)
        content[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        try:
            found = read_weights(path)
        except ValueError as error:
            assert "\n" not in str(error)
        else:
            assert found.keys() == tensors.keys() and all(torch.equal(found[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("sums", [True, False])
def test_weights_without_checksums_are_whole(sums, tmp_path: Path):
    torch.serialization.set_crc32_options(sums)
    try:
        torch.save(BARE, tmp_path / "model.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert list(read_weights(tmp_path / "model.pt")) == list(BARE)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
def test_a_program_is_named_as_one_and_a_zip_bomb_is_not_unpacked(tmp_path: Path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "model.pt"))
    with pytest.raises(ValueError, match="is a program of TorchScript; expected the weights alone"):
        read_weights(tmp_path / "model.pt")
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", bytes(10_000_000))
    with pytest.raises(ValueError, match="is compressed"):
        read_weights(tmp_path / "bomb.pt")


def test_a_dictionary_that_holds_itself_is_no_state_dict(tmp_path: Path):
    endless: dict = {}
    endless["model"] = endless
    torch.save(endless, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="holds no state dict but a dictionary with model"):
        read_weights(tmp_path / "model.pt")


@pytest.mark.parametrize("state", [[], {}, {"objects": []}, {"objects": {"network": {}}, "records": []}])
def test_a_checkpoint_of_another_layout_is_one_line(state, tmp_path: Path):
    CheckpointStore(tmp_path / "checkpoints").save(1, {"state": state}, {})
    if isinstance(state, dict) and isinstance(state.get("objects"), dict):
        newest = CheckpointStore(tmp_path / "checkpoints").load_newest()
        assert newest is not None
        with pytest.raises(ValueError, match="its list of records is not as this version writes it"):
            _positions(newest)
    else:
        with pytest.raises(ValueError, match="is not as this version writes it; go on with the version"):
            read_weights(tmp_path)
