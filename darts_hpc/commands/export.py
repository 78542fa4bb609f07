"""Write a trained network for use elsewhere: python -m darts_hpc.export RUN --format onnx|torch_export."""

import io
from collections.abc import Callable

import torch
from torch import Tensor, nn

from darts_hpc import strict_json
from darts_hpc.api import create_model
from darts_hpc.config.export import ExportConfig
from darts_hpc.durable import write_atomically
from darts_hpc.run.reader import read_result

SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2"}
TOLERANCE = 1e-4
"""Largest difference of a logit, relative to the largest logit: a runtime may sum in another order."""
INSTALL_HINT = "--format onnx needs onnx, onnxscript and onnxruntime; pip install 'darts_hpc[export]'"


def main(cfg: ExportConfig) -> None:
    """Export, check the file's outputs against the model's on batches of two sizes, and only then keep it."""
    path = cfg.output or cfg.run / f"model{SUFFIXES[cfg.format]}"
    result = read_result(cfg.run)
    if result is None:
        raise ValueError(f"{cfg.run} holds no result.json; give the folder of a finished training")
    model = create_model(cfg.run, weights=True)
    if "preprocessing" not in result:
        raise ValueError(f"{cfg.run / 'result.json'} has no preprocessing: an older version wrote it; train it anew")
    preprocessing = result["preprocessing"]
    side = preprocessing["image_size"]
    content, run_file = EXPORTS[cfg.format](model, torch.zeros(2, 3, side, side), strict_json.dumps(preprocessing))
    worst = max(difference(model, run_file, batch_size, side) for batch_size in (1, 5))
    if not worst < TOLERANCE:
        raise ValueError(f"the exported file's outputs differ from the model's by {worst:.1e}; nothing was written")
    write_atomically(path, content)
    print(f"{path}: {len(content) / 2**20:.1f} MiB, outputs equal the model's within {worst:.0e}")


def difference(model: nn.Module, run_file: Callable[[Tensor], Tensor], batch_size: int, side: int) -> float:
    """Return the largest difference of logits on random images, relative to the largest logit."""
    images = torch.randn(batch_size, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(images)
    return float((run_file(images) - expected).abs().max() / expected.abs().max())


def export_onnx(model: nn.Module, images: Tensor, preprocessing: str) -> tuple[bytes, Callable[[Tensor], Tensor]]:
    """Return the file's bytes, with the preprocessing among its metadata, and a function that runs them."""
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  torch.onnx needs it
    except ImportError:
        raise ValueError(INSTALL_HINT) from None
    batch = {0: torch.export.Dim("batch", min=1)}
    program = torch.onnx.export(
        model, (images,), input_names=["images"], output_names=["logits"], dynamic_shapes=(batch,), dynamo=True,
        verbose=False,
    )  # fmt: skip
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {"preprocessing": preprocessing})
    onnx.checker.check_model(proto)
    content = proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return content, lambda batch: torch.from_numpy(session.run(None, {"images": batch.numpy()})[0])


def export_torch(model: nn.Module, images: Tensor, preprocessing: str) -> tuple[bytes, Callable[[Tensor], Tensor]]:
    """Return the file's bytes, with the preprocessing as an extra file, and a function that runs them."""
    program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"preprocessing.json": preprocessing})
    content = buffer.getvalue()
    loaded = torch.export.load(io.BytesIO(content)).module()
    return content, lambda batch: loaded(batch).detach()


EXPORTS = {"onnx": export_onnx, "torch_export": export_torch}
