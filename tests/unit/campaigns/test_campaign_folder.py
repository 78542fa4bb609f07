"""A campaign's folder goes on with the campaign that made it, and with other values of what computes nothing."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from darts_hpc.campaigns.families import families
from darts_hpc.campaigns.folder import check_same, write_folder, write_presets
from darts_hpc.campaigns.plan import PRESETS
from darts_hpc.commands.campaign import open_campaign, presets
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


@pytest.mark.parametrize("kept", [0, 5, -1])
def test_a_campaign_whose_flags_are_cut_is_not_taken_for_one_of_defaults(kept: int, tmp_path: Path):
    cfg = CampaignConfig()
    write_folder(cfg, tmp_path, {"campaign.yaml": cfg, "search.yaml": SearchConfig()}, "a command")
    assert open_campaign(tmp_path)[1].search == cfg.search
    path = tmp_path / "campaign.yaml"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:kept]))
    with pytest.raises(ValueError, match=r"campaign\.yaml is damaged: it has no \w+, and a campaign writes every flag"):
        open_campaign(tmp_path)


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


def test_a_variant_may_be_added_or_left_out_but_not_become_another():
    one, two = SearchConfig(), SearchConfig(model=SearchModelConfig(space="s2"))
    check_same(Path("here"), {"search-s2-a.yaml": one}, {"search-s2-a.yaml": one, "search-s2-b.yaml": two})
    check_same(Path("here"), {"search-s2-a.yaml": one, "search-s2-b.yaml": two}, {"search-s2-a.yaml": one})
    with pytest.raises(ValueError, match=r"space is darts there and s2 here \(search-s2-a\.yaml\)"):
        check_same(Path("here"), {"search-s2-a.yaml": one}, {"search-s2-a.yaml": two})
    with pytest.raises(ValueError, match=r"search\.yaml is there"):
        check_same(Path("here"), {"search.yaml": one}, {"search-s2-a.yaml": one})


def compared(*flags: str) -> dict[str, Any]:
    """The files of a campaign that compares, as its command line asks for it."""
    argv = ["--config", "configs/campaign/tiny.yaml", "--spaces", "s2", "darts", "--random_cells", "1", *flags]
    return presets(parse_config(CampaignConfig, argv))


def test_each_variant_has_its_own_flags_in_the_campaigns_space_and_size():
    files = compared(
        *("--search_flags", "--layers 4 --epochs 3", "--data", "images", "--variants", "first_order"),
        *("pc in darts: --config configs/search/pc_darts.yaml --epochs 5 --alpha_warmup_epochs 1",),
        *("beta in s2: --config configs/search/beta_darts.yaml",),
    )
    searches = {name: cfg for name, cfg in files.items() if name.startswith("search")}
    assert set(searches) == {
        "search-s2-first_order.yaml", "search-darts-first_order.yaml", "search-darts-pc.yaml", "search-s2-beta.yaml"
    }  # fmt: skip
    pc, beta = searches["search-darts-pc.yaml"], searches["search-s2-beta.yaml"]
    assert (pc.model.partial_channels, pc.model.space, pc.model.layers, pc.run.epochs) == (4, "darts", 4, 5)
    assert beta.arch_optim.alpha_regulariser == "beta" and beta.model.space == "s2"  # its preset says darts_no_none
    assert {cfg.model.layers for cfg in searches.values()} == {4} and beta.run.epochs == 3
    assert {cfg.data.data for cfg in (*searches.values(), files["train.yaml"])} == {Path("images")}


@pytest.mark.parametrize("preset", sorted(Path("configs/campaign").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_search_and_training_of_a_shipped_campaign_is_one_that_its_entry_takes(preset: Path):
    cfg = parse_config(CampaignConfig, ["--config", str(preset)])
    files, spaces = presets(cfg), cfg.search.spaces
    if cfg.search.variants:
        found = families(cfg).values()
        assert cfg.search.random_cells and len([family for family in found if family.is_random]) == len(spaces)
        assert {family.preset for family in found} - {""} == {name for name in files if name.startswith("search")}
        sizes = {
            (each.data.dataset, each.data.image_size, each.model.layers, each.model.init_channels, each.run.epochs)
            for name, each in files.items()
            if name.startswith("search")
        }
        assert len(sizes) == 1  # one size for all methods


def test_a_variant_that_its_search_would_refuse_is_named_before_anything_starts():
    for flags, said in {
        "pc in darts: --config configs/search/pc_darts.yaml": "pc in darts: --alpha_warmup_epochs 15 with --epochs 2",
        "x: --no_such_flag": "x in s2: unknown flag --no_such_flag",
        "x: --config nope.yaml": "x in s2: --config nope.yaml: no such file",
        "x: --tau_max 3": "x in s2: --tau_max 3.0: expected --relaxation gumbel",
        "x: beta": "x in s2: unexpected 'beta'",
    }.items():
        with pytest.raises(ValueError) as refusal:
            compared("--search_flags", "--epochs 2", "--variants", flags)
        assert str(refusal.value).startswith(said) and "\n" not in str(refusal.value)


def test_variants_in_yaml_are_pairs_or_texts_and_are_written_as_they_are_read(tmp_path: Path):
    preset = tmp_path / "compare.yaml"
    preset.write_text("spaces: [s2]\nvariants:\n- plain:\n- 'a: --unrolled'\n- b in s2: --epochs 3\n- c\n")
    cfg = parse_config(CampaignConfig, ["--config", str(preset)])
    assert cfg.search.variants == ("plain:", "a: --unrolled", "b in s2: --epochs 3", "c")
    assert [variant.flags for variant in cfg.search.methods] == [(), ("--unrolled",), ("--epochs", "3"), ()]
    write_presets(tmp_path, {"campaign.yaml": cfg})
    assert parse_config(CampaignConfig, ["--config", str(tmp_path / "campaign.yaml")]) == cfg
    for wrong in ("{a: 1, b: 2}", "[a]", "{a: [b]}", ""):
        preset.write_text(f"spaces: [s2]\nvariants:\n- {wrong}\n")
        with pytest.raises(ValueError, match=r"variants: .*: expected a text, not a list or a section"):
            parse_config(CampaignConfig, ["--config", str(preset)])


def test_random_cells_of_several_spaces_are_drawn_in_each_and_a_space_may_come_later(tmp_path: Path):
    search = CampaignSearchConfig(random_cells=2, spaces=("s2",), variants=("plain",))
    for cfg in (CampaignConfig(search=search), CampaignConfig(search=dataclasses.replace(search, spaces=("s2", "s4")))):
        write_folder(cfg, tmp_path, {"campaign.yaml": cfg}, f"for {len(cfg.search.spaces)}")
    cells = {path.stem: load_genotype(str(path)) for path in (tmp_path / "cells").iterdir()}
    assert set(cells) == {"s2-random-0", "s2-random-1", "s4-random-0", "s4-random-1"}
    assert {name for name, _ in cells["s4-random-0"].normal} <= {"noise", "sep_conv_3x3"}
    assert json.loads((tmp_path / "about.json").read_text())["command"] == "for 1"


@pytest.mark.parametrize("flag", ["--search_flags", "--train_flags"])
def test_flags_that_no_shell_could_split_are_refused_by_name(flag: str):
    with pytest.raises(ValueError, match=rf"{flag} --save ': expected flags as in a shell \(No closing quotation\)"):
        compared(flag, "--save '", "--variants", "first_order")
