"""Cells from Python: search, train, models, timm, and exported files."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from run_entries import entry

import darts_hpc

ROOT = Path(__file__).parents[2]
SMALL = {"init_channels": 4, "layers": 3}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> darts_hpc.FinishedRun:
    folder = tmp_path_factory.mktemp("api")
    flags = {"config": "configs/train/tiny.yaml", "arch": "DARTS_V1", "auxiliary": True, "epochs": 1, "device": "cpu"}
    return darts_hpc.train_cell(save=f"{folder}/run/", **flags)


def test_importing_the_package_imports_neither_torch_nor_timm():
    code = "import darts_hpc, sys; assert not {'torch', 'timm', 'numpy'} & set(sys.modules); darts_hpc.create_model"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_trained_runs_model_gives_the_accuracy_the_run_reports(trained):
    from darts_hpc.data.loading.batches import BatchSource
    from darts_hpc.data.sets.load import load_dataset

    model = darts_hpc.create_model(trained.folder, weights=True)
    data = load_dataset("digits", Path(), image_size=8)
    images, labels, _ = BatchSource(data, data.test, batch_size=360, seed=0, device=torch.device("cpu")).batch(0, 0)
    with torch.no_grad():
        hits = (model(images).argmax(1) == labels).float().mean().item()
    assert 100 * hits == pytest.approx(trained.accuracy, abs=1e-4)


def test_published_cells_have_the_papers_sizes_by_default():
    count = sum(p.numel() for p in darts_hpc.create_model("DARTS_V2").parameters())
    assert count == 3_349_342  # 3.349 M
    imagenet = darts_hpc.create_model("DARTS_V2", "imagenet", init_channels=8, layers=4)
    assert imagenet(torch.zeros(1, 3, 224, 224)).shape == (1, 1000)


@pytest.mark.parametrize(
    ("cell", "flags", "said"),
    [
        ("DARTS_W2", {}, "did you mean DARTS_V2"),
        ("DARTS_V2", {"dataset": "mnist"}, "dataset 'mnist' is unknown"),
        ("DARTS_V2", {"weights": True}, "no weights in DARTS_V2/weights.pt"),
    ],
)
def test_a_model_that_can_not_be_built_is_refused(cell, flags, said):
    with pytest.raises(ValueError, match=said):
        darts_hpc.create_model(cell, **flags)


def test_no_classes_give_the_pooled_features_also_of_trained_weights(trained):
    images = torch.randn(2, 3, 8, 8)
    whole = darts_hpc.create_model(trained.folder, weights=True)
    body = darts_hpc.create_model(trained.folder, weights=True, num_classes=0)
    assert torch.equal(whole.get_classifier()(body(images)), whole(images))
    with pytest.raises(ValueError, match="layers 0: expected 3 or more"):
        darts_hpc.create_model("DARTS_V2", layers=0)


def test_an_onnx_file_gives_the_models_outputs_and_carries_the_preprocessing(trained, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path / "model.onnx"
    done = entry("export", trained.folder, "--output", path)
    assert done.returncode == 0, done.stderr
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        expected = darts_hpc.create_model(trained.folder, weights=True)(images).numpy()
    np.testing.assert_allclose(session.run(None, {"images": images.numpy()})[0], expected, rtol=1e-4, atol=1e-4)
    facts = json.loads(session.get_modelmeta().custom_metadata_map["preprocessing"])
    assert facts["image_size"] == 8 and len(facts["classes"]) == 10 and len(facts["mean"]) == len(facts["std"]) == 3


def test_a_torch_export_gives_the_models_outputs_and_carries_the_preprocessing(trained, tmp_path):
    path = tmp_path / "model.pt2"
    done = entry("export", trained.folder, "--format", "torch_export", "--output", path)
    assert done.returncode == 0, done.stderr
    extra = {"preprocessing.json": ""}
    loaded = torch.export.load(path, extra_files=extra).module()
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), darts_hpc.create_model(trained.folder, weights=True)(images))
    assert json.loads(extra["preprocessing.json"])["dataset"] == "digits"


def test_exporting_what_is_no_finished_training_is_refused(tmp_path):
    done = entry("export", tmp_path)
    assert done.returncode == 2 and "holds no result.json" in done.stderr
