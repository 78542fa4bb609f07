"""The campaign's folder: whose it is, the presets its jobs read, and the files of random cells."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import darts_hpc
from darts_hpc import strict_json
from darts_hpc.campaigns.families import families
from darts_hpc.campaigns.plan import PRESETS
from darts_hpc.config.campaign import CampaignConfig
from darts_hpc.config.flags import affecting, flat
from darts_hpc.config.presets import to_yaml
from darts_hpc.durable import write_atomically
from darts_hpc.space.random_cells import random_genotype
from darts_hpc.space.spaces import SPACES
from darts_hpc.user_files import check_path, exists, list_folder, read_json, shown

COMPARED = ("numbers", "batches", "last_bits")
"""Kinds of flags (config.flags.AFFECTS) that a continued campaign must not change. Jobs set seeds and cells."""


def campaign_folder(save: str) -> Path:
    """Return the folder that --save names, absolute: runs/campaign-NAME, or the folder itself where it has a slash."""
    folder = (Path(save) if "/" in save else Path("runs") / f"campaign-{save}").absolute()
    check_path(folder, "--save")  # jobs, which may run elsewhere, take it whole
    return folder


def check_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Compare the configs of a folder's campaign, by file, with those asked for now.

    Variants and spaces may be more or fewer: each has a file of its own. Raises ValueError, one line, with every
    flag that differs.
    """
    differences = [f"{file} is there" for file in before if file not in now and not _is_of_family(file)]
    differences += [f"{file} is not there" for file in now if file not in before and not _is_of_family(file)]
    for file in [file for file in now if file in before]:
        old, new = flat(before[file]), flat(now[file])
        for name in sorted(affecting(type(now[file]), *COMPARED)):
            if old[name] != new[name]:
                differences.append(f"{name} is {_in_words(old[name])} there and {_in_words(new[name])} here ({file})")
    if differences:
        more = f"; and {len(differences) - 6} more" if len(differences) > 6 else ""
        raise ValueError(f"{folder} holds another campaign: {'; '.join(differences[:6])}{more}; choose another --save")


def check_version(folder: Path) -> None:
    """Raise ValueError, one line, when another version of this package made the folder, or something else did."""
    path = folder / "about.json"
    if not exists(path):
        raise ValueError(f"{shown(folder)} is no campaign's folder: it holds no about.json")
    try:
        made_by = read_json(path)["darts_hpc"]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}); choose another --save") from None
    if made_by != darts_hpc.__version__:
        raise ValueError(
            f"{folder} was made by darts_hpc {shown(made_by)} and this is {darts_hpc.__version__}, whose numbers may "
            "differ; finish it with that version, or choose another --save"
        )


def search_presets(folder: Path) -> list[str]:
    """Return the files of a campaign's folder with the presets of its searches."""
    return [path.name for path in list_folder(folder, "search*.yaml")]


def write_folder(cfg: CampaignConfig, folder: Path, configs: Mapping[str, Any], command: str) -> None:
    """Write a campaign's files: presets, random cells, and about.json last, which makes a folder a campaign's."""
    for name in ("runs", "jobs", "cells"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for family in families(cfg).values():
        if family.is_random:
            space = SPACES[family.space or configs[PRESETS["train_search"]].model.space]
            for cell in family.cells:
                genotype = random_genotype(int(cell.rpartition("-")[2]), space)
                write_atomically(folder / "cells" / f"{cell}.json", (genotype.to_json() + "\n").encode())
    write_presets(folder, configs)
    if exists(folder / "about.json"):
        return
    about = {
        "darts_hpc": darts_hpc.__version__,
        "created": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": command,
    }
    write_atomically(folder / "about.json", (strict_json.dumps(about, indent=1) + "\n").encode())


def write_presets(folder: Path, configs: Mapping[str, Any]) -> None:
    """Write the configs, by file, that jobs and later commands read."""
    for name, cfg in configs.items():
        write_atomically(folder / name, to_yaml(cfg, f"{name} of {folder}").encode())


def _is_of_family(file: str) -> bool:
    return file.startswith("search-")


def _in_words(value: object) -> str:
    if value is None:
        return "not set"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
