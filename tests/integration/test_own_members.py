"""Members of a user's own, from Python alone: an operation, a space and a relaxation (the example of the docs)."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import darts_hpc
from darts_hpc.data.sets.load import load_dataset
from darts_hpc.space import genotypes, operations

SMALL = {"dataset": "digits", "image_size": 8, "batch_size": 240, "init_channels": 4, "layers": 3, "epochs": 1}
SMALL |= {"device": "cpu", "tensorboard": False, "memory_check": "off"}


@pytest.fixture
def own_operation(monkeypatch):
    def average(channels: int, stride: int, affine: bool) -> nn.Module:
        return nn.AvgPool2d(5, stride, padding=2)

    monkeypatch.setitem(operations.OPERATIONS, "average_5x5", average)
    monkeypatch.setattr(genotypes, "OPERATION_NAMES", [*genotypes.OPERATION_NAMES, "average_5x5"])
    monkeypatch.setattr("darts_hpc.space.spaces.OPERATION_NAMES", genotypes.OPERATION_NAMES)


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """What the example of CONTRIBUTING.md leaves behind."""
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = (part for part in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "search_cell" in part)
    assert sum(bool(line) for line in code.splitlines()) <= 10
    names: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("example"))
        exec(code, names)
        names["genotype"] = names["run"].genotype
    return names


def test_the_example_of_the_contributors_guide_searches_a_cell(example):
    assert len(example["genotype"].normal) == 8


def test_a_search_takes_an_operation_a_space_and_a_relaxation_of_ones_own(tmp_path, own_operation, example):
    space = darts_hpc.SearchSpace(("average_5x5", "skip_connect"), ("average_5x5", "sep_conv_3x3"), "mine")  # pyright: ignore
    run = darts_hpc.search_cell(space=space, relaxation=example["squared"], save=f"{tmp_path}/run", **SMALL)
    used = {operation for operation, _ in run.genotype.normal}, {operation for operation, _ in run.genotype.reduce}
    assert used[0] <= {"average_5x5", "skip_connect"} and used[1] <= {"average_5x5", "sep_conv_3x3"}
    assert torch.load(run.folder / "alphas.pt", weights_only=True)["alphas_normal"].shape == (14, 2)
    assert json.loads((run.folder / "result.json").read_text())["status"] == "finished"
    assert json.loads((run.folder / "space.json").read_text())["weights"] == "weights of operations"
    alphas = torch.load(run.folder / "alphas.pt", weights_only=True)["alphas_normal"]
    recorded = json.loads((run.folder / "metrics.jsonl").read_text().splitlines()[-1])["alphas/normal"]
    torch.testing.assert_close(torch.tensor(recorded), example["squared"](alphas, None, 1.0))
    logits = darts_hpc.create_model(run.genotype, init_channels=4, layers=3)(torch.zeros(1, 3, 8, 8))
    assert logits.shape == (1, 10)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"space": ["skip_connect"]}, r"space \['skip_connect'\]: expected a name, such as 's2', or a darts_hpc.Sear"),
        ({"relaxation": 5}, r"relaxation 5: expected a name, such as 'gumbel', or a function of \(alphas, draw, tau\)"),
        ({"relaxation": lambda alphas: alphas}, "expected a name, such as 'gumbel', or a function of"),
        ({"relaxation": lambda alphas, draw, tau: alphas[:, :1]}, r"returns \(14, 1\) for alphas \(14, 2\)"),
        ({"relaxation": lambda alphas, draw, tau: None}, r"returns NoneType for alphas \(14, 2\): expected that shape"),
    ],
)
def test_what_is_no_member_is_refused_before_any_work(tmp_path, members, message):
    with pytest.raises(ValueError, match=message):
        darts_hpc.search_cell(**{"space": "s2", **members}, save=f"{tmp_path}/run", **SMALL)
    assert not (tmp_path / "run").exists()


def test_a_callable_without_a_name_is_a_relaxation(tmp_path):
    class Sharp:
        def __call__(self, alphas, draw, tau):
            return (3 * alphas).softmax(-1)

    run = darts_hpc.search_cell("s2", relaxation=Sharp(), save=f"{tmp_path}/run", **SMALL)
    assert len(run.genotype.normal) == 8


def test_another_space_does_not_go_on_from_the_checkpoint(tmp_path):
    first, second = (("skip_connect", "sep_conv_3x3"),) * 2, (("skip_connect", "dil_conv_3x3"),) * 2
    darts_hpc.search_cell(space=darts_hpc.SearchSpace(*first), save=f"{tmp_path}/run", **SMALL)  # pyright: ignore
    with pytest.raises(ValueError, match=r"of another configuration \(space"):
        darts_hpc.search_cell(space=darts_hpc.SearchSpace(*second), save=f"{tmp_path}/run", resume="auto", **SMALL)  # pyright: ignore


def test_images_handed_over_as_arrays_search_and_train_as_the_same_data_set_does(tmp_path):
    digits = load_dataset("digits", Path(), image_size=8)
    pairs = [(part.images.permute(0, 2, 3, 1).numpy(), part.labels.numpy()) for part in (digits.train, digits.test)]
    ours = darts_hpc.array_data(*pairs, flip=False, crop_padding=digits.crop_padding)
    size = {name: value for name, value in SMALL.items() if name not in ("dataset", "image_size")}
    found = [
        darts_hpc.search_cell(save=f"{tmp_path}/{name}/", space="s2", **flags)
        for name, flags in (("digits", SMALL), ("arrays", {**size, "data": ours}))
    ]
    records = [(run.folder / "metrics.jsonl").read_bytes() for run in found]
    assert records[0] == records[1] and found[0].genotype == found[1].genotype
    size.pop("memory_check")
    trained = darts_hpc.train_cell(
        data=pairs[0], test_data=pairs[1], arch=found[1].folder, save=f"{tmp_path}/t/", **size
    )
    assert trained.result["preprocessing"]["dataset"] == "arrays"
    model = darts_hpc.create_model(trained.folder, weights=True)
    mean, std = (torch.tensor(trained.result["preprocessing"][name])[:, None, None] for name in ("mean", "std"))
    hits = model((digits.test.images / 255 - mean) / std).argmax(1) == digits.test.labels
    assert 100 * hits.float().mean().item() == pytest.approx(trained.accuracy, abs=1e-3)
    with pytest.raises(ValueError, match=r"another configuration \(data_digest"):  # these may be mirrored
        darts_hpc.search_cell(data=pairs[0], save=f"{tmp_path}/arrays/", resume="auto", space="s2", **size)


def test_a_training_may_hold_images_out_instead_of_test_images(tmp_path):
    digits = load_dataset("digits", Path(), image_size=8).train
    size = {name: value for name, value in SMALL.items() if name not in ("dataset", "image_size", "memory_check")}
    run = darts_hpc.train_cell(
        data=(digits.images[:480], digits.labels[:480]), held_out=0.5, arch="DARTS_V1", save=f"{tmp_path}/run/", **size
    )
    assert "valid/accuracy" in run.result["final"]
