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
from darts_hpc.space.genotypes import parse_genotype

ROOT = Path(__file__).parents[2]
SMALL = {"init_channels": 4, "layers": 3}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> darts_hpc.FinishedRun:
    folder = tmp_path_factory.mktemp("api")
    flags = {"config": "configs/train/tiny.yaml", "arch": "DARTS_V2", "auxiliary": True, "epochs": 1, "device": "cpu"}
    return darts_hpc.train_cell(save=f"{folder}/run/", **flags)


def test_importing_the_package_imports_neither_torch_nor_timm():
    code = "import darts_hpc, sys; assert not {'torch', 'timm', 'numpy'} & set(sys.modules)"
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
        ("DARTS_V2", {"dataset": ["cifar10"]}, "is unknown"),
        ("DARTS_V2", {"weights": True}, "no weights in DARTS_V2/weights.pt"),
        ("DARTS_V2", {"weights": 5}, "weights 5: expected True, or a file"),
        ("DARTS_V2", {"init_channels": 3}, "init_channels 3: expected an even number"),
        ("DARTS_V2", {"init_channels": "16"}, "init_channels '16': expected 2 or more, and even"),
        ("DARTS_V2", {"init_channels": 10**12}, "init_channels 1000000000000: expected at most"),
        ("DARTS_V2", {"layers": 1}, "layers 1: expected 3 or more"),
        ("DARTS_V2", {"layers": 10**9}, "layers 1000000000: expected at most"),
        ("DARTS_V2", {"num_classes": -1}, "num_classes -1: expected 0"),
        ("DARTS_V2", {"drop_path_prob": float("nan")}, "drop_path_prob nan: expected a number from 0"),
        ("DARTS_V2", {"drop_path_prob": "0.2"}, "drop_path_prob '0.2': expected a number from 0"),
        ("DARTS_V2", {"drop_rate": 1.0}, "drop_rate 1.0: expected a number from 0"),
        ("DARTS_V2", {"global_pool": "mean"}, "global_pool 'mean' is unknown"),
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


SHAPES = [(3, 3, 8, 8), (1, 3, 8, 8), (2, 3, 11, 5), (2, 3, 16, 33)]


def expected_logits(trained: darts_hpc.FinishedRun, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.randn(*shape, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        return images, darts_hpc.create_model(trained.folder, weights=True)(images)


def check_metadata(metadata: dict[str, str], trained: darts_hpc.FinishedRun):
    """A file says what to do to an image, of what cell it is, and how it was trained."""
    facts = json.loads(metadata["preprocessing"])
    assert facts["image_size"] == 8 and len(facts["classes"]) == 10 and len(facts["mean"]) == len(facts["std"]) == 3
    assert parse_genotype(json.loads(metadata["genotype"])) == trained.genotype
    assert metadata["config"] == (trained.folder / "config.yaml").read_text()


@pytest.fixture(scope="module")
def onnx_file(trained):
    """The model of the training as an ONNX file, by the opset; each is written once."""

    def write(opset: int | None) -> Path:
        path = trained.folder.parent / f"{opset}.onnx"
        if not path.exists():
            done = entry("export", trained.folder, "--output", path, *([] if opset is None else ["--opset", opset]))
            assert done.returncode == 0, done.stderr
        return path

    return write


@pytest.mark.parametrize("opset", [None, 18])
def test_an_onnx_file_gives_the_models_outputs_for_images_of_any_size(trained, onnx_file, opset):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    path = onnx_file(opset)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for shape in SHAPES:
        images, logits = expected_logits(trained, shape)
        ours = session.run(None, {"images": images.numpy()})[0]
        np.testing.assert_allclose(ours, logits.numpy(), rtol=1e-4, atol=1e-4)
    check_metadata(session.get_modelmeta().custom_metadata_map, trained)
    assert opset in (None, onnx.load(path).opset_import[0].version)


def test_an_onnx_file_has_the_cells_dilated_convolutions_and_no_transposes(trained, onnx_file):
    onnx = pytest.importorskip("onnx")
    nodes = onnx.load(onnx_file(None)).graph.node
    dilations = [tuple(a.ints) for node in nodes for a in node.attribute if a.name == "dilations"]
    used = [operation for cell in (trained.genotype.normal, trained.genotype.reduce) for operation, _ in cell]
    assert dilations.count((2, 2)) >= sum("dil_conv" in operation for operation in used) > 0
    assert not [node for node in nodes if node.op_type == "Transpose"]


def test_a_torch_export_gives_the_models_outputs_for_images_of_any_size(trained, tmp_path):
    path = tmp_path / "model.pt2"
    done = entry("export", trained.folder, "--format", "torch_export", "--output", path)
    assert done.returncode == 0, done.stderr
    extra = {"preprocessing.json": "", "genotype.json": "", "config.yaml": ""}
    loaded = torch.export.load(path, extra_files=extra).module()
    for shape in SHAPES:
        images, logits = expected_logits(trained, shape)
        with torch.no_grad():
            torch.testing.assert_close(loaded(images), logits)
    check_metadata({name.partition(".")[0]: text for name, text in extra.items()}, trained)


def test_a_safetensors_file_gives_the_model_again(trained, tmp_path):
    safetensors = pytest.importorskip("safetensors")
    path = tmp_path / "model.safetensors"
    done = entry("export", trained.folder, "--format", "safetensors", "--output", path)
    assert done.returncode == 0, done.stderr
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    check_metadata(metadata, trained)
    cell = parse_genotype(json.loads(metadata["genotype"]))
    model = darts_hpc.create_model(cell, weights=path, init_channels=4, layers=3)
    images, logits = expected_logits(trained, SHAPES[0])
    with torch.no_grad():
        assert torch.equal(model(images), logits)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        darts_hpc.create_model(cell, weights=path, init_channels=4, layers=3)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--opset", "3"], "--opset 3: expected one from 18 to"),
        (["--opset", "20", "--format", "safetensors"], "--opset 20 with --format safetensors: expected --format onnx"),
        (["--format", "tflite"], "--format"),
    ],
)
def test_an_export_that_can_not_be_made_is_refused(flags, said, tmp_path):
    done = entry("export", tmp_path, *flags)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1


def test_exporting_what_is_no_finished_training_is_refused(tmp_path):
    done = entry("export", tmp_path)
    assert done.returncode == 2 and "holds no result.json" in done.stderr
