"""Presets and flags become configs; whatever is wrong with them becomes one line and exit code 2."""

import ast
import sys
from pathlib import Path

import pytest
import yaml

from darts_hpc import config
from darts_hpc.config.campaign import CampaignConfig
from darts_hpc.config.cli import given_flags, parse_config, run_entry
from darts_hpc.config.evaluate import EvaluateConfig
from darts_hpc.config.flags import flags_of
from darts_hpc.config.presets import to_yaml
from darts_hpc.config.report import ReportConfig
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_imagenet import ImageNetConfig
from darts_hpc.config.train_search import SearchConfig
from darts_hpc.config.visualize import VisualizeConfig

PRESETS = sorted((Path(__file__).parents[3] / "configs").glob("*/*.yaml"))
CONFIG_OF = {
    "search": SearchConfig,
    "train": TrainConfig,
    "imagenet": ImageNetConfig,
    "campaign": CampaignConfig,
}
DIGITS = "configs/search/digits.yaml"


def write(tmp_path: Path, text: str) -> str:
    """Write a preset and return its path."""
    (tmp_path / "preset.yaml").write_text(text)
    return str(tmp_path / "preset.yaml")


def refusal(argv: list[str], cls: type = SearchConfig) -> str:
    """The line a user reads for these flags."""
    with pytest.raises(ValueError) as error:
        parse_config(cls, argv)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_no_flags_give_the_defaults():
    assert parse_config(SearchConfig, []) == SearchConfig()
    assert parse_config(TrainConfig, []) == TrainConfig()
    assert parse_config(EvaluateConfig, []) == EvaluateConfig()


def test_booleans_are_bare_flags():
    assert parse_config(SearchConfig, ["--unrolled"]).arch_optim.unrolled
    assert not parse_config(SearchConfig, ["--unrolled", "--no-unrolled"]).arch_optim.unrolled
    assert not parse_config(SearchConfig, ["--no_tensorboard"]).run.tensorboard


@pytest.mark.parametrize("name", ["stacked", "fused"])
def test_the_earlier_names_of_the_fast_supernet_mean_it_on_the_command_line_and_in_presets(tmp_path, name):
    for argv in (
        ["--supernet", name],
        [f"--supernet={name}"],
        ["--layers", "4", "--supernet", name, "--epochs=3"],
        ["--config", write(tmp_path, f"supernet: {name}\n")],
    ):
        cfg = parse_config(SearchConfig, argv)
        assert cfg.model.supernet == "fast" and "supernet: fast" in to_yaml(cfg, "")
    assert "expected one of auto, plain, fast" in refusal(["--supernet", "dense"])
    assert refusal(["--supernet", "plane"]).endswith("; did you mean plain?")
    assert parse_config(SearchConfig, ["--supernet", name, "--save", name]).run.save == name


def test_positional_words_need_no_flag():
    assert parse_config(VisualizeConfig, ["DARTS", "--format", "png"]).format == ("png",)
    assert parse_config(ReportConfig, ["a", "b"]).runs == (Path("a"), Path("b"))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_preset_sets_what_it_says(path: Path):
    cls = CONFIG_OF[path.parent.name]
    values = yaml.safe_load(to_yaml(parse_config(cls, ["--config", str(path)]), ""))
    for key, value in yaml.safe_load(path.read_text()).items():
        if isinstance(value, list):
            texts = [f"{k}: {v or ''}" for each in value if isinstance(each, dict) for k, v in each.items()]
            assert values[key] == [text.strip() for text in texts or map(str, value)]
            continue
        assert values[key] == (float(value) if isinstance(values[key], float) else value)


def test_presets_of_the_paper_are_the_defaults():
    search = parse_config(SearchConfig, ["--config", "configs/search/cifar10.yaml", "--save", "EXP"])
    assert search == SearchConfig()


def test_a_flag_wins_over_a_preset_wherever_it_stands():
    for argv in (["--epochs", "3", "--config", DIGITS], ["--config", DIGITS, "--epochs", "3"]):
        cfg = parse_config(SearchConfig, argv)
        assert (cfg.run.epochs, cfg.data.dataset) == (3, "digits")


def test_a_later_preset_wins_over_an_earlier_one(tmp_path):
    cfg = parse_config(SearchConfig, ["--config", DIGITS, f"--config={write(tmp_path, 'epochs: 9')}"])
    assert (cfg.run.epochs, cfg.model.layers) == (9, 5)


def test_a_flag_is_given_by_any_spelling_and_also_with_its_default(tmp_path):
    preset = write(tmp_path, "layers: 8\nseed:\n")
    argv = ["--epochs", "50", "--init-channels=16", "--no_cutout", "--config", preset]
    assert parse_config(SearchConfig, argv) == SearchConfig()
    assert given_flags(argv) & {*flags_of(SearchConfig)} == {"epochs", "init_channels", "cutout", "layers"}


def test_flags_in_one_word_are_the_value_of_the_flag_before_them():
    typed = parse_config(CampaignConfig, ["--search_flags", "--epochs 4 --seed=1", "--train_flags=--epochs 2"])
    assert (typed.search.search_flags, typed.train.train_flags) == ("--epochs 4 --seed=1", "--epochs 2")


def test_a_preset_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse_config(SearchConfig, ["--config", DIGITS]).data.dataset == "digits"


def test_a_preset_here_wins_over_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs/search").mkdir(parents=True)
    (tmp_path / DIGITS).write_text("epochs: 1")
    assert parse_config(SearchConfig, ["--config", DIGITS]).data.dataset == "cifar10"


def test_yaml_values_take_the_types_of_their_flags(tmp_path):
    preset = write(tmp_path, "learning_rate: 3e-4\ngrad_clip: 5\nsave: 2024\nunrolled: yes\ntensorboard: no\nepochs:\n")
    cfg = parse_config(SearchConfig, ["--config", preset])
    assert cfg.optim.learning_rate == 3e-4
    assert isinstance(cfg.optim.grad_clip, float)
    assert (cfg.run.save, cfg.arch_optim.unrolled, cfg.run.tensorboard) == ("2024", True, False)
    assert cfg.run.epochs == 50  # an empty value leaves the default


def test_a_list_in_a_preset_fills_a_flag_of_several_values(tmp_path):
    preset = write(tmp_path, "format: [svg, png]")
    assert parse_config(VisualizeConfig, ["DARTS", "--config", preset]).format == ("svg", "png")


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--unroled"], "unknown flag --unroled; did you mean --unrolled?"),
        (["--batch-sise=3"], "unknown flag --batch-sise; did you mean --batch_size?"),
        (["--no_unroled"], "unknown flag --no_unroled; did you mean --no_unrolled?"),
        (["--confg", DIGITS], "unknown flag --confg; did you mean --config?"),
        (["--zzz"], "unknown flag --zzz; --help lists the known ones"),
        (["--epochs", "abc"], "--epochs abc: expected a whole number"),
        (["--epochs"], "--epochs: expected a whole number"),
        (["--epochs="], "--epochs: expected a whole number"),
        (["--learning_rate", "fast"], "--learning_rate fast: expected a number"),
        (["--split", "random"], "--split random: expected one of stratified, index"),
        (["--image_size", "big"], "--image_size big: expected a whole number, or None"),
        (["--cutout", "True"], "unexpected 'True' after --cutout; write --cutout or --no_cutout"),
        (["--epochs", "3", "4"], "unexpected '4' after --epochs"),
        (["digits"], "unexpected 'digits' after the command"),
        (["--config"], "--config: expected a preset file, such as configs/search/digits.yaml"),
        (["--data", ""], "--data '': expected a name or a path; is a variable of the shell empty?"),
        (["--save="], "--save '': expected a name or a path; is a variable of the shell empty?"),
        (
            ["--save=~nosuchuser/x"],
            "--save ~nosuchuser/x: no user of that name has a home here; for such a file write ./~",
        ),
    ],
)
def test_a_wrong_flag_is_explained_in_one_line(argv, line):
    assert refusal(argv) == line


def test_a_config_s_own_checks_reach_the_user():
    assert refusal(["--init_channels", "15"]).startswith("--init_channels 15: expected")
    assert refusal([], ReportConfig).startswith("no run")
    assert refusal([""], ReportConfig).startswith("'': expected a name or a path")
    assert refusal([], VisualizeConfig) == "expected GENOTYPE; --help shows how"
    assert refusal(["DARTS", "NASNet"], VisualizeConfig) == "unexpected 'NASNet' after the command"
    assert refusal(["DARTS", "--format", "png", "gif"], VisualizeConfig).startswith("--format gif: expected one of")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("epoch: 3", ": unknown key epoch; did you mean epochs?"),
        ("arch_optim: {unrolled: true}", ": unknown key arch_optim"),
        ("epochs: {a: 1}", ": epochs: {'a': 1}: expected a whole number, not a list or a section"),
        ("epochs: [1]", ": epochs: [1]: expected a whole number, not a list or a section"),
        ("epochs: 6.5", ": --epochs 6.5: expected a whole number"),
        ("epochs: true", ": --epochs true: expected a whole number"),
        ("unrolled: 1", ": unrolled: 1: expected true or false"),
        ("- epochs", ": expected lines of the form flag: value, such as epochs: 50"),
        ("epochs: 3: 4", " line 1: not YAML: mapping values are not allowed here"),
    ],
)
def test_a_wrong_preset_is_explained_with_its_name(tmp_path, text, line):
    preset = write(tmp_path, text)
    assert f"{preset}{line}" in refusal(["--config", preset])


@pytest.mark.parametrize(("cls", "entry"), [(SearchConfig, "train_search"), (TrainConfig, "train")])
def test_a_written_config_says_whose_it_is_and_is_a_preset_of_no_other_entry(cls, entry, tmp_path):
    preset = write(tmp_path, to_yaml(parse_config(cls, ["--dataset", "digits"]), "python -m darts_hpc"))
    assert f"entry: {entry}" in Path(preset).read_text().splitlines()
    assert parse_config(cls, ["--config", preset, "--epochs", "3"]).run.epochs == 3
    for other in {SearchConfig, TrainConfig, ImageNetConfig, EvaluateConfig, VisualizeConfig} - {cls}:
        said = refusal(["--config", preset], other)
        assert f"{preset}: these are flags of {entry}; expected" in said and "\n" not in said


def test_a_positional_word_is_no_preset_key(tmp_path):
    assert "unknown key genotype" in refusal(["--config", write(tmp_path, "genotype: DARTS")], VisualizeConfig)


def test_a_missing_preset_names_the_near_ones():
    assert "configs/search/digits.yaml" in refusal(["--config", "configs/search/digit.yaml"])


@pytest.mark.parametrize("cls", [SearchConfig, TrainConfig, EvaluateConfig])
def test_a_written_config_reads_back_equal(cls, tmp_path):
    argv = ["--dataset", "digits", "--image_size", "16", "--seed", "7", "--cutout"]
    argv += ["--save", "no", "--arch_weight_decay", "1e-7"] if cls is SearchConfig else ["--arch", "null"]
    cfg = parse_config(cls, argv)
    assert cfg != cls()
    text = to_yaml(cfg, "python -m darts_hpc\nsecond line")
    assert text.startswith("# python -m darts_hpc\n# second line\n")
    assert parse_config(cls, ["--config", write(tmp_path, text)]) == cfg


def test_every_flag_has_a_help_text():
    for file in sorted(Path(config.__path__[0]).glob("*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and node.name.endswith("Config"):
                for item, after in zip(node.body, [*node.body[1:], None], strict=True):
                    if isinstance(item, ast.AnnAssign) and "Config" not in ast.unparse(item.annotation):
                        assert isinstance(after, ast.Expr), f"{node.name}.{ast.unparse(item.target)}"


def test_a_value_that_looks_like_a_flag_is_not_taken_for_the_mistake():
    with pytest.raises(ValueError, match="--search_seeds names seed 1 twice"):
        parse_config(CampaignConfig, ["--search_flags=--epochs 3", "--search_seeds", "1", "1"])


def test_an_entry_ends_a_mistake_in_one_line_and_exit_code_2(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train_search", "--unroled"])
    with pytest.raises(SystemExit) as stop:
        run_entry(lambda cfg: None, SearchConfig)
    assert stop.value.code == 2
    assert capsys.readouterr() == ("", "error: unknown flag --unroled; did you mean --unrolled?\n")


def test_an_entry_passes_its_config_and_reports_main_s_refusals(monkeypatch, capsys):
    def main(cfg: SearchConfig) -> None:
        raise ValueError(f"epochs\n{cfg.run.epochs}")

    monkeypatch.setattr(sys, "argv", ["train_search", "--epochs", "3"])
    with pytest.raises(SystemExit) as stop:
        run_entry(main, SearchConfig, imports_torch=False)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: epochs 3\n"


def test_ctrl_c_ends_an_entry_quietly(monkeypatch, capsys):
    def main(cfg: SearchConfig) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["train_search"])
    with pytest.raises(SystemExit) as stop:
        run_entry(main, SearchConfig, imports_torch=False)
    assert stop.value.code == 130
    assert capsys.readouterr() == ("", "")
