"""Presets as they were written: the flag says what type a value has, and hostile YAML is refused at once."""

import os
from pathlib import Path

import pytest
import yaml

from darts_hpc.config.campaign import CampaignConfig
from darts_hpc.config.cli import given_flags, parse_config, value_of
from darts_hpc.config.presets import read_written, to_yaml
from darts_hpc.config.select_cell import SelectCellConfig
from darts_hpc.config.stage import StageConfig
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.config.yaml_text import Plain, meaning, parse_yaml


@pytest.fixture
def preset(tmp_path):
    """Write a preset, and return its path."""

    def write(content: str | bytes) -> str:
        path = tmp_path / "preset.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def refusal(cls: type, *argv: str) -> str:
    """The one line that a command line is refused with."""
    with pytest.raises(ValueError) as error:
        parse_config(cls, argv)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000
    return str(error.value)


AS_WRITTEN = ["007", "2024_01_05", "12:30:45", "1.10", "2024-01-05", "no", "on", "true", "0x1f", "1e3", "1_000", "None"]


@pytest.mark.parametrize("text", AS_WRITTEN)
def test_a_text_is_kept_as_it_was_written(preset, text):
    assert parse_config(SearchConfig, ["--config", preset(f"save: {text}\n")]).run.save == text
    quoted = parse_config(SearchConfig, ["--config", preset(f"save: '{text}'\n")])
    assert quoted.run.save == text
    again = parse_config(SearchConfig, ["--config", preset(to_yaml(quoted, "written"))])
    assert again == quoted


def test_numbers_and_truth_are_read_as_their_flags_say(preset):
    text = "epochs: 007\nlearning_rate: 1e-2\nunrolled: on\ntensorboard: No\nimage_size: ~\nsearch_drop_path: .5\n"
    cfg = parse_config(SearchConfig, ["--config", preset(text)])
    assert (cfg.run.epochs, cfg.optim.learning_rate, cfg.model.search_drop_path) == (7, 0.01, 0.5)
    assert cfg.arch_optim.unrolled and not cfg.run.tensorboard and cfg.data.image_size is None
    campaign = parse_config(CampaignConfig, ["--config", preset("search_seeds: [3, 4]\nbaselines: []\n")])
    assert campaign.search.search_seeds == (3, 4) and campaign.train.baselines == ()


@pytest.mark.parametrize(("text", "flag"), [("epochs: 12:30", "--epochs 12:30"), ("epochs: no", "--epochs no")])
def test_what_is_no_number_is_refused_as_it_was_written(preset, text, flag):
    assert f"preset.yaml: {flag}: expected a whole number" in refusal(SearchConfig, "--config", preset(text))


def test_a_byte_order_mark_is_no_part_of_the_first_key(preset):
    assert parse_config(SearchConfig, ["--config", preset(b"\xef\xbb\xbfepochs: 3\n")]).run.epochs == 3


def test_a_key_that_stands_twice_is_refused_with_both_lines(preset):
    said = refusal(SearchConfig, "--config", preset("epochs: 3\nlayers: 5\n\nepochs: 4\n"))
    assert said.endswith("preset.yaml line 4: epochs stands in line 1 too; expected each key once")


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = {
    "deep list": ("a: " + "[" * 100_000, "nested deeper than 10"),
    "deep section": ("{a: " * 50_000, "nested deeper than 10"),
    "deep block": ("- " * 100_000, "nested deeper than 10"),
    "deep lines": ("".join(f"{' ' * n}a:\n" for n in range(500)), "nested deeper than 10"),
    "billion laughs": (LAUGHS, "more than 10000 values"),
    "alias of itself": ("a: &a [*a]", "no anchor &a"),
    "tag of code": ("save: !!python/object/apply:os.system [ls]", "expected"),
    "tag": ("save: !!binary aGk=", "the tag tag:yaml.org,2002:binary is not read"),
    "two documents": ("epochs: 3\n---\nepochs: 4\n", "line 2: expected one document"),
    "list": ("[1, 2]", "expected lines of the form flag: value"),
    "text": ("text", "expected lines of the form flag: value"),
    "key of a list": ("? [a]\n: 3", "expected the name of a flag"),
    "long number": ("epochs: " + "9" * 5000, "expected a whole number"),
    "long key": ("k" * 100_000 + ": 3", "not YAML"),
    "NUL": (b"save: a\0b", "not YAML"),
    "written NUL": ('save: "a\\0b"', "holds a NUL"),
    "half a character": ('save: "\\ud800"', "half of a character"),
    "no character": ('save: "\\UFFFFFFFF"', "not YAML"),
    "another encoding": ("save: café".encode("latin-1"), "is not UTF-8"),
    "UTF-16": ("save: x".encode("utf-16"), "is not UTF-8"),
    "too large": (b"#" * (1 << 19), "expected at most"),
    "unclosed": ("save: 'x", "not YAML"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_yaml_is_refused_at_once_with_the_file_s_name(preset, name):
    content, problem = HOSTILE[name]
    said = refusal(SearchConfig, "--config", preset(content))
    assert problem in said and "preset.yaml" in said


@pytest.mark.parametrize("empty", ["", "# nothing\n", "---\n", "null", "~\n", "{}"])
def test_an_empty_preset_changes_nothing(preset, empty):
    assert parse_config(SearchConfig, ["--config", preset(empty)]) == SearchConfig()


def test_an_alias_stands_for_its_value(preset):
    cfg = parse_config(CampaignConfig, ["--config", preset("search_seeds: &s [5, 6]\nfinal_seeds: *s\n")])
    assert cfg.search.search_seeds == cfg.train.final_seeds == (5, 6)


def test_written_values_have_the_types_of_the_standard_reader(preset):
    written = to_yaml(parse_config(SearchConfig, ["--save", "007", "--learning_rate", "1e-7"]), "")
    assert read_written(Path(preset(written)))[1] == {k: v for k, v in yaml.safe_load(written).items() if k != "entry"}
    values = {"a": "-3", "b": "2.5e+3", "c": "[1, yes]", "d": "", "e": "'1'", "f": "2024-01-05", "g": "-.inf"}
    parsed = meaning(parse_yaml("".join(f"{key}: {value}\n" for key, value in values.items()), "file"))
    assert parsed == {"a": -3, "b": 2500.0, "c": [1, True], "d": None, "e": "1", "f": "2024-01-05", "g": -float("inf")}
    assert type(parsed["f"]) is str and not isinstance(parsed["e"], Plain)


@pytest.mark.parametrize("flag", ["--save", "--resume", "--data", "--model_path"])
def test_a_home_folder_is_meant_by_a_tilde_in_flags_and_presets(preset, flag, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    name = flag[2:]
    for argv in ([f"{flag}=~/x"], [flag, "~/x"], ["--config", preset(f"{name}: ~/x")]):
        cfg = parse_config(TrainConfig, argv)
        assert str(getattr(cfg.data if name == "data" else cfg.run, name)) == "/home/me/x"
    assert parse_config(TrainConfig, ["--arch=~/cell.json"]).model.arch == "/home/me/cell.json"
    monkeypatch.setenv("HOME", str(Path(preset("epochs: 3")).parent))
    assert parse_config(TrainConfig, ["--config=~/preset.yaml"]).run.epochs == 3


LONG, FOREIGN = "x" * 300, os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize(
    ("cls", "argv"),
    [
        *((TrainConfig, [flag]) for flag in ("--save", "--resume", "--data", "--model_path", "--config")),
        *((CampaignConfig, [flag]) for flag in ("--save", "--search_config", "--train_config", "--imagenet_config")),
        (SelectCellConfig, []),
        (SelectCellConfig, ["search", "--save"]),
        (StageConfig, []),
        (StageConfig, ["source"]),
    ],
)
def test_what_can_be_no_path_is_refused_before_anything_is_made(cls, argv, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    more = ["b"] if cls is StageConfig and not argv else []
    assert "at most 255: shorten it" in refusal(cls, *argv, f"a/{LONG}", *more)
    assert "at most" in refusal(cls, *argv, f"{'y/' * 2000}", *more)
    assert "is not UTF-8" in refusal(cls, *argv, f"a/{FOREIGN}", *more)
    assert not list(tmp_path.iterdir())


def test_a_run_s_name_leaves_room_for_its_folder_s():
    assert "expected at most 150" in refusal(TrainConfig, "--save", "x" * 151)
    assert parse_config(TrainConfig, ["--save", "x" * 150]).run.save
    assert "expected a name" in refusal(TrainConfig, "--save=")


def test_a_look_ahead_takes_values_as_they_are_written(preset):
    argv = ["--config", preset("dataset: imagenet\nmodel_path: 007\nseed: ~\n")]
    assert (value_of("dataset", argv), value_of("model_path", argv), value_of("seed", argv)) == (
        "imagenet",
        "007",
        None,
    )
    assert given_flags(argv) - {""} == {"dataset", "model_path"}
