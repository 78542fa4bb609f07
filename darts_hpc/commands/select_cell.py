"""Select a cell from a finished search by perturbation (DARTS-PT): python -m darts_hpc.select_cell RUN."""

from pathlib import Path

from darts_hpc.commands import train_search
from darts_hpc.config.cli import parse_config
from darts_hpc.config.flags import flat
from darts_hpc.config.select_cell import SelectCellConfig
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.run.checkpoint import CheckpointStore
from darts_hpc.run.reader import read_config, read_result


def main(cfg: SelectCellConfig) -> Path:
    """Tune and decide as --selection perturbation does after a search; return the new run's folder.

    Raises ValueError where the folder holds no finished search.
    """
    entry, flags = read_config(cfg.search)
    if entry != "train_search" or read_result(cfg.search) is None:
        raise ValueError(
            f"{cfg.search} holds no finished search; give the folder of one, such as runs/train_search-..."
        )
    if flags.get("selection") == "perturbation":
        raise ValueError(
            f"{cfg.search}: its cell was selected by perturbation already, and its supernet is tuned to it; give the "
            "search that it came from, or search anew"
        )
    if (relaxation := flags.get("relaxation")) in ("gumbel", "sigmoid"):
        raise ValueError(
            f"{cfg.search} was searched with --relaxation {relaxation}: expected softmax or dirichlet, because a "
            "selection by perturbation takes operations out of a mixture of all; keep the cell that it ended with"
        )
    checkpoint = CheckpointStore(cfg.search / "checkpoints").load_newest()
    if checkpoint is None:
        raise ValueError(f"{cfg.search} has no checkpoint, from which its supernet could be taken")
    own = {name: value for name, value in flat(cfg).items() if name != "search" and value is not None}
    preset = ["--config", str(cfg.search / "config.yaml"), "--selection=perturbation"]
    searched = parse_config(SearchConfig, [*preset, *(f"--{name}={value}" for name, value in own.items())])
    for name, flag in (("space", searched.model.space), ("relaxation", searched.arch_optim.relaxation)):
        if checkpoint.fingerprint.get(name, flag) != flag:
            raise ValueError(f"{cfg.search} was searched with a {name} of its own, which only search_cell(...) knows")
    return train_search.main(searched, begin_at=checkpoint)
