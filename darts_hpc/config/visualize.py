"""Flags of the pictures of cells."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

PictureFormat = Literal["svg", "pdf", "png"]


@dataclass(frozen=True, kw_only=True)
class VisualizeConfig:
    """Draw the normal and the reduction cell of a genotype."""

    genotype: str
    """The cell to draw: a published name (DARTS, NASNet, ...), a genotype file, or a run folder."""
    output: Path = Path()
    """Folder the pictures go to."""
    format: tuple[PictureFormat, ...] = ("svg", "pdf", "png")
    """One or more formats of the pictures."""

    def __post_init__(self) -> None:
        if not self.format or not set(self.format) <= set(get_args(PictureFormat)):
            raise ValueError(f"--format {' '.join(self.format)}: expected one or more of svg, pdf, png")
