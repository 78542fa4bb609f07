"""A campaign's folder goes on with the campaign that made it, and with other values of what computes nothing."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from darts_hpc.campaigns.folder import check_same, write_folder, write_presets
from darts_hpc.campaigns.plan import PRESETS
from darts_hpc.config.campaign import CampaignConfig, CampaignSearchConfig, CampaignTrainConfig
from darts_hpc.config.cli import parse_config
from darts_hpc.config.flags import flags_of
from darts_hpc.config.presets import ENTRIES
from darts_hpc.config.shared import MemoryConfig
from darts_hpc.config.train_imagenet import ImageNetConfig
from darts_hpc.config.train_search import SearchConfig, SearchModelConfig
from darts_hpc.space.genotypes import load_genotype

FILES = {"campaign.yaml": CampaignConfig} | {name: ENTRIES[entry] for entry, name in PRESETS.items()}
FLAGS = [(file, name) for file, cls in FILES.items() for name in flags_of(cls)]


def with_flag(cfg: Any, name: str, value: object) -> Any:
    """The same config with another value, which no check sees."""
    for item in dataclasses.fields(cfg):
        section = getattr(cfg, item.name)
        if hasattr(section, name):
            object.__setattr__(section, name, value)
    return cfg


@pytest.mark.parametrize(("file", "name"), FLAGS)
def test_a_flag_may_differ_as_its_config_declares(file: str, name: str):
    before = {file: FILES[file]()}
    now = {file: with_flag(FILES[file](), name, "another")}
    if flags_of(FILES[file])[name].affects in ("nothing", "named", "member"):
        check_same(Path("here"), before, now)
    else:
        with pytest.raises(ValueError, match=rf"here holds another campaign: {name} is .* there and another here"):
            check_same(Path("here"), before, now)


def test_a_stage_that_is_there_or_not_is_a_difference():
    both = {"campaign.yaml": CampaignConfig(), "imagenet.yaml": ImageNetConfig()}
    alone = {"campaign.yaml": CampaignConfig()}
    with pytest.raises(ValueError, match=r"imagenet\.yaml is there"):
        check_same(Path("here"), both, alone)
    with pytest.raises(ValueError, match=r"imagenet\.yaml is not there"):
        check_same(Path("here"), alone, both)


def test_jobs_to_come_read_the_new_value_of_a_flag_that_may_differ(tmp_path: Path):
    write_presets(tmp_path, {"search.yaml": SearchConfig()})
    write_presets(tmp_path, {"search.yaml": SearchConfig(memory=MemoryConfig(memory_check="off"))})
    read = parse_config(SearchConfig, ["--config", str(tmp_path / "search.yaml")])
    assert read.memory.memory_check == "off"


def test_random_cells_are_of_the_space_that_is_searched(tmp_path: Path):
    cfg = CampaignConfig(search=CampaignSearchConfig(random_cells=3))
    searched = SearchConfig(model=SearchModelConfig(space="s2"))
    write_folder(cfg, tmp_path, {"campaign.yaml": cfg, "search.yaml": searched}, "a command")
    cells = [load_genotype(str(path)) for path in (tmp_path / "cells").iterdir()]
    assert len(cells) == 3
    assert {name for cell in cells for name, _ in cell.normal + cell.reduce} == {"skip_connect", "sep_conv_3x3"}


def test_the_campaigns_presets_are_compared_by_what_they_say():
    cfg = CampaignConfig(train=CampaignTrainConfig(train_config="elsewhere.yaml", train_flags="--cutout"))
    check_same(Path("here"), {"campaign.yaml": CampaignConfig()}, {"campaign.yaml": cfg})
