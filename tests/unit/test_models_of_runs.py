"""create_model and export serve the folder of any training, and refuse a search's by name."""

import json
from pathlib import Path

import pytest
import torch

from darts_hpc import api
from darts_hpc.commands import export
from darts_hpc.commands.visualize import picture_name
from darts_hpc.config.cli import parse_config
from darts_hpc.config.export import ExportConfig
from darts_hpc.config.presets import ENTRIES, to_yaml
from darts_hpc.models.classifier import Classifier
from darts_hpc.space.genotypes import GENOTYPES

SIZES = ["--init_channels", "4", "--layers", "3"]


def write_run(folder: Path, entry: str, result: dict | None, *flags: str) -> Path:
    """Write what a run of PDARTS' cell leaves behind, with the weights of a small ImageNet network of six classes."""
    genotype = GENOTYPES["PDARTS"]
    folder.mkdir()
    (folder / "config.yaml").write_text(to_yaml(parse_config(ENTRIES[entry], [*SIZES, *flags]), ""))
    line = {"epoch": 0, "when": "epoch_end", "genotype": genotype.to_dict()}
    (folder / "genotypes.jsonl").write_text(json.dumps(line) + "\n")
    if result is not None:
        model = Classifier("imagenet", genotype, num_classes=6, init_channels=4, layers=3)
        torch.save(model.state_dict(), folder / "weights.pt")
        facts = {"entry": entry, "status": "finished", "epochs": 1, "final": {"valid/accuracy": 40.0}}
        (folder / "result.json").write_text(json.dumps(facts | result))
    return folder


def preprocessing(**more: object) -> dict:
    facts = {"dataset": "imagenet", "image_size": 32, "classes": list("abcdef"), "mean": [0.0] * 3, "std": [1.0] * 3}
    return {"preprocessing": facts | more}


@pytest.mark.parametrize("result", [preprocessing(), {}], ids=["today", "an older version"])
def test_an_imagenet_run_is_an_imagenet_network_with_its_own_classes_and_weights(tmp_path: Path, result: dict):
    run = write_run(tmp_path / "run", "train_imagenet", result)
    model = api.create_model(run, weights=True)
    assert hasattr(model, "stem1") and model.num_classes == 6
    saved = torch.load(run / "weights.pt", weights_only=True)
    assert all(torch.equal(weight, saved[name]) for name, weight in model.state_dict().items())
    assert hasattr(api.create_model(run), "stem1")


def test_an_imagenet_run_is_exported_with_its_preprocessing(tmp_path: Path, capsys: pytest.CaptureFixture):
    run = write_run(tmp_path / "run", "train_imagenet", preprocessing(resize=40))
    export.main(ExportConfig(run=run, format="torch_export"))
    extra = {"preprocessing.json": ""}
    program = torch.export.load(run / "model.pt2", extra_files=extra)
    assert json.loads(extra["preprocessing.json"]) == preprocessing(resize=40)["preprocessing"]
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(program.module()(images), api.create_model(run, weights=True)(images))


def test_a_run_whose_preprocessing_is_not_known_is_not_exported(tmp_path: Path):
    run = write_run(tmp_path / "run", "train_imagenet", {})
    with pytest.raises(ValueError, match=r"result\.json has no preprocessing"):
        export.main(ExportConfig(run=run, format="torch_export"))


def test_a_search_has_no_weights_to_give_and_its_cell_is_a_model(tmp_path: Path):
    run = write_run(tmp_path / "run", "train_search", {})
    said = "is a run of train_search, which trains no network of its cell; train it first"
    with pytest.raises(ValueError, match=said):
        api.create_model(run, weights=True)
    with pytest.raises(ValueError, match=said):
        export.main(ExportConfig(run=run, format="torch_export"))
    assert api.create_model(run, num_classes=3, init_channels=4, layers=3).num_classes == 3


@pytest.mark.parametrize("entry", ["train", "train_imagenet"])
def test_a_training_that_was_stopped_has_no_weights_yet(tmp_path: Path, entry: str):
    run = write_run(tmp_path / "run", entry, None)
    with pytest.raises(ValueError, match=r"no weights in .*give the folder of a finished training"):
        api.create_model(run, weights=True)


def test_weights_that_were_cut_short_are_called_damaged_in_one_line(tmp_path: Path):
    run = write_run(tmp_path / "run", "train_imagenet", {})
    content = (run / "weights.pt").read_bytes()
    (run / "weights.pt").write_bytes(content[:2000])
    with pytest.raises(ValueError, match=r"weights .* is damaged"):
        api.create_model(run, weights=True, num_classes=6)


@pytest.mark.parametrize("key", ["init_channels", "layers"])
def test_a_configuration_without_the_networks_sizes_is_refused(key: str, tmp_path: Path):
    run = write_run(tmp_path / "run", "train_imagenet", {})
    lines = (run / "config.yaml").read_text().splitlines()
    (run / "config.yaml").write_text("".join(f"{line}\n" for line in lines if not line.startswith(f"{key}:")))
    with pytest.raises(ValueError, match=rf"config.yaml has no {key}; give the folder as the run wrote it"):
        api.create_model(run, weights=True, num_classes=6)


def test_an_unfinished_training_on_imagenet_asks_for_its_number_of_classes(tmp_path: Path):
    run = write_run(tmp_path / "run", "train_imagenet", None)
    with pytest.raises(ValueError, match="give num_classes"):
        api.create_model(run)


def test_a_cell_given_as_a_long_line_of_a_log_is_no_path():
    line = f"2024-01-01 INFO genotype = {GENOTYPES['NASNet']}"
    assert len(line) > 255
    assert api.create_model(line, init_channels=4, layers=3).num_classes == 10
    assert picture_name(line) == "genotype"
