"""Write a trained network for use elsewhere: python -m darts_hpc.export RUN --format onnx|torch_export|safetensors."""

import copy
import io
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from darts_hpc import strict_json
from darts_hpc.api import create_model
from darts_hpc.config.export import ExportConfig
from darts_hpc.durable import write_atomically
from darts_hpc.models.classifier import Classifier
from darts_hpc.run.reader import read_result
from darts_hpc.space.genotypes import load_genotype
from darts_hpc.user_files import read_text

SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2", "safetensors": ".safetensors"}
TOLERANCE = 1e-4
"""Largest difference of a logit, relative to the largest logit: a runtime may sum in another order."""

Metadata = dict[str, str]
RunFile = Callable[[Tensor], Tensor]


def main(cfg: ExportConfig) -> None:
    """Export, check the file's outputs against the model's on images of two sizes, and only then keep it."""
    path = cfg.output or cfg.run / f"model{SUFFIXES[cfg.format]}"
    result = read_result(cfg.run)
    if result is None:
        raise ValueError(f"{cfg.run} holds no result.json; give the folder of a finished training")
    model = create_model(cfg.run, weights=True)
    if "preprocessing" not in result:
        raise ValueError(f"{cfg.run / 'result.json'} has no preprocessing: an older version wrote it; train it anew")
    metadata = {
        "preprocessing": strict_json.dumps(result["preprocessing"]),
        "genotype": load_genotype(str(cfg.run)).to_json(),
        "config": read_text(cfg.run / "config.yaml"),
    }
    side = result["preprocessing"]["image_size"]
    more = (3, 10) if takes_other_sides(model, side) else (0, 0)
    with torch.no_grad():
        content, run_file = EXPORTS[cfg.format](model, side, metadata, cfg.opset)
        worst = max(
            difference(model, run_file, shape) for shape in ((1, side, side), (5, side + more[0], side + more[1]))
        )
    if not worst < TOLERANCE:
        raise ValueError(f"the exported file's outputs differ from the model's by {worst:.1e}; nothing was written")
    try:
        write_atomically(path, content)
    except OSError as error:
        raise ValueError(
            f"--output {path} can't be written ({error.strerror}); name a file in a folder that can"
        ) from None
    print(f"{path}: {len(content) / 2**20:.1f} MiB, outputs equal the model's within {worst:.0e}")


def difference(model: Classifier, run_file: RunFile, shape: tuple[int, int, int]) -> float:
    """Return the largest difference of logits on random images (B, H, W), relative to the largest logit."""
    batch_size, height, width = shape
    images = torch.randn(batch_size, 3, height, width, generator=torch.Generator().manual_seed(0))
    expected = model(images)
    return float((run_file(images) - expected).abs().max() / expected.abs().max())


def example(model: Classifier, side: int) -> tuple[tuple[Tensor], tuple[dict[int, Any]]]:
    """Return images to record the network with, and which of their dimensions may be others.

    Sides vary where more than one pixel of them reaches the last cell, which torch.export takes for a case of its own.
    """
    images = torch.zeros(2, 3, side, side)
    dimensions = {0: torch.export.Dim("batch", min=1)}
    if takes_other_sides(model, side):
        smallest = model.feature_info[-1]["reduction"] + 1
        dimensions |= {2: torch.export.Dim("height", min=smallest), 3: torch.export.Dim("width", min=smallest)}
    return (images,), (dimensions,)


def takes_other_sides(model: Classifier, side: int) -> bool:
    """Return whether a file of a network that was trained at this side takes other ones, too."""
    return side > model.feature_info[-1]["reduction"]


def export_onnx(model: Classifier, side: int, metadata: Metadata, opset: int | None) -> tuple[bytes, RunFile]:
    """Return the file's bytes, with the metadata among its properties, and a function that runs them."""
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  torch.onnx needs it
    except ImportError:
        raise ValueError(
            "--format onnx needs onnx, onnxscript and onnxruntime: pip install 'darts_hpc[export]'"
        ) from None
    images, dimensions = example(model, side)
    program = torch.onnx.export(
        model, images, input_names=["images"], output_names=["logits"], dynamic_shapes=dimensions, dynamo=True,
        opset_version=opset, verbose=False,
    )  # fmt: skip
    assert program is not None
    proto = program.model_proto
    written = proto.opset_import[0].version
    if opset not in (None, written):
        raise ValueError(f"--opset {opset}: this network can't be written in it; {written} can")
    onnx.helper.set_model_props(proto, metadata)
    onnx.checker.check_model(proto)
    content = proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return content, lambda batch: torch.from_numpy(session.run(None, {"images": batch.numpy()})[0])


def export_torch(model: Classifier, side: int, metadata: Metadata, _: int | None) -> tuple[bytes, RunFile]:
    """Return the file's bytes, with the metadata as extra files, and a function that runs them."""
    images, dimensions = example(model, side)
    program = torch.export.export(model, images, dynamic_shapes=dimensions)
    buffer = io.BytesIO()
    suffix = {"preprocessing": ".json", "genotype": ".json", "config": ".yaml"}
    extra = {f"{name}{suffix[name]}": text for name, text in metadata.items()}
    torch.export.save(program, buffer, extra_files=extra)
    content = buffer.getvalue()
    return content, torch.export.load(io.BytesIO(content)).module()


def export_safetensors(model: Classifier, side: int, metadata: Metadata, _: int | None) -> tuple[bytes, RunFile]:
    """Return the file's bytes, with the metadata in its header, and a function that runs a network of its weights."""
    try:
        import safetensors.torch
    except ImportError:
        raise ValueError("--format safetensors needs safetensors: pip install 'darts_hpc[export]'") from None
    content = safetensors.torch.save(model.state_dict(), metadata={"format": "pt", **metadata})
    again = copy.deepcopy(model)
    again.load_state_dict(safetensors.torch.load(content))
    return content, again


EXPORTS = {"onnx": export_onnx, "torch_export": export_torch, "safetensors": export_safetensors}
