"""Flags of the export."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from darts_hpc.config.checks import check_choice

ExportFormat = Literal["onnx", "torch_export", "safetensors"]
OPSETS = range(18, 26)
"""Versions of ONNX's operator set that torch writes."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write a trained network as one file that runs without this package, or its weights as safetensors."""

    run: Path
    """Folder of a finished training."""
    format: ExportFormat = "onnx"
    """onnx or torch_export (torch.export's .pt2), for batches and images of any size; safetensors, the weights alone.
    Each holds the preprocessing, the genotype and the training's flags."""
    output: Path | None = None
    """File to write; model.onnx, model.pt2 or model.safetensors in the run folder when left out."""
    opset: int | None = None
    """Version of ONNX's operator set, for a runtime that wants an older or a newer one; torch's own choice when left
    out."""

    def __post_init__(self) -> None:
        check_choice(self, "format", ExportFormat)
        if self.opset is not None and self.format != "onnx":
            raise ValueError(f"--opset {self.opset} with --format {self.format}: expected --format onnx, which has one")
        if self.opset is not None and self.opset not in OPSETS:
            raise ValueError(f"--opset {self.opset}: expected one from {OPSETS[0]} to {OPSETS[-1]}")
