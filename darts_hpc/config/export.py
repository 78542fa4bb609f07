"""Flags of the export."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from darts_hpc.config.checks import check_choice

ExportFormat = Literal["onnx", "torch_export"]


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write a trained network as one file that runs without this package."""

    run: Path
    """Folder of a finished training."""
    format: ExportFormat = "onnx"
    """Format of the file: onnx, or torch_export (the .pt2 of torch.export)."""
    output: Path | None = None
    """File to write; left out, model.onnx or model.pt2 in the run folder."""

    def __post_init__(self) -> None:
        check_choice(self, "format", ExportFormat)
