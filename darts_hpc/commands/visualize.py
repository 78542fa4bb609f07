"""Draw the normal and the reduction cell of a genotype as pictures."""

import logging
from pathlib import Path

from darts_hpc.config.visualize import VisualizeConfig
from darts_hpc.pictures.cells import draw_genotype
from darts_hpc.space.genotype_text import is_text
from darts_hpc.space.genotypes import GENOTYPES, is_unfinished_search, load_genotype
from darts_hpc.user_files import is_folder, resolved

log = logging.getLogger(__name__)


def main(cfg: VisualizeConfig) -> None:
    """Write `<name>_normal.*` and `<name>_reduction.*`, and print where they are."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    genotype = load_genotype(cfg.genotype, unfinished=True, flag="")
    if cfg.genotype not in GENOTYPES and is_unfinished_search(Path(cfg.genotype)):
        log.warning("%s is a search that has not come to its end: this is its cell so far", cfg.genotype)
    stem = cfg.output / picture_name(cfg.genotype)
    try:
        paths = draw_genotype(genotype, stem, cfg.format)
    except OSError as error:
        raise ValueError(f"--output {cfg.output}: pictures can't be written there: {error.strerror}") from None
    print(*paths, sep="\n")


def picture_name(name_or_path: str) -> str:
    """Name pictures after the published cell, the file or the run folder; "genotype" when it came as text."""
    if name_or_path in GENOTYPES:
        return name_or_path
    if is_text(name_or_path):
        return "genotype"
    path = resolved(Path(name_or_path))
    return path.name if is_folder(path) else path.stem
