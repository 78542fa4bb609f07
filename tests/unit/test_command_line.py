"""The way in: darts and its commands, their help and their refusals, before torch is imported."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from darts_hpc import __main__ as commands
from darts_hpc import __version__
from darts_hpc.config import cli, program
from darts_hpc.config.cli import parse_config, run_entry
from darts_hpc.config.completion import CONFIGS, completion
from darts_hpc.config.flags import flags_of
from darts_hpc.config.help import UNUSED, help_text, text_of
from darts_hpc.config.next_command import train_the_cell
from darts_hpc.config.train import TrainConfig
from darts_hpc.config.train_search import SearchConfig

PACKAGE = Path(commands.__file__).parent
ENTRIES = sorted(path.stem for path in PACKAGE.glob("*.py") if "run_entry(" in path.read_text())
CLASSES = [(name, cls) for name, classes in CONFIGS.items() for cls in classes]
WITHOUT_TORCH = """
import contextlib, io, json, runpy, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "numpy"):
            raise RuntimeError(f"{name} is imported")

sys.meta_path.insert(0, Refuse())
answers = []
for entry, *flags in json.loads(sys.argv[1]):
    sys.argv = [f"{entry}.py", *flags]
    out, err, end = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_module(f"darts_hpc.{entry}", run_name="__main__")
        except (SystemExit, RuntimeError) as stop:
            end = stop.code if isinstance(stop, SystemExit) else str(stop)
    answers.append((end, out.getvalue(), err.getvalue()))
print(json.dumps(answers))
"""
REFUSALS = [
    ("train", "--epochs", "many"),
    ("train", "--arch", "DARTS_W2"),
    ("train_imagenet", "--arch", "DARTS_W2"),
    ("train_search", "--config", "configs/search/digit.yaml"),
    ("train_search", "--edge_norm", "--relaxation", "gumbel"),
    ("train_search", "--layers", "2"),
    ("select_cell", "nowhere"),
    ("evaluate", "--dataset", "imagenet", "--image_size", "8"),
    ("evaluate", "--model_path", "nowhere.pt"),
    ("evaluate", "--model_path", "setup.py", "--arch", "DARTS_W2"),
    ("campaign", "stauts"),
    ("campaign", "status"),
    ("__main__", "serach"),
]
STARTS = [("train_search", "--dataset", "digits"), ("plan",), ("evaluate", "--model_path", "setup.py"), ("export", ".")]


@pytest.fixture(scope="module")
def answers() -> dict[tuple[str, ...], tuple[int | str | None, str, str]]:
    """What each command line gives in a Python that refuses torch: how it ends, stdout and stderr."""
    lines = [(entry, flag) for entry in ENTRIES for flag in ("--help", "--version", "--zzz")]
    lines += [*REFUSALS, *STARTS, ("__main__",), ("__main__", "--version"), ("__main__", "completion")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, json.dumps(lines)],
        capture_output=True, text=True, check=False, cwd=PACKAGE.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(zip(lines, map(tuple, json.loads(done.stdout)), strict=True))


def test_help_and_version_need_no_torch(answers):
    for entry in ENTRIES:
        code, out, _ = answers[entry, "--help"]
        assert code is None and out.startswith(f"usage: python -m darts_hpc.{entry} "), (entry, code)
        assert answers[entry, "--version"] == (None, f"darts_hpc {__version__}\n", "")
    assert all(answers[("__main__", *flags)][0] is None for flags in ((), ("--version",), ("completion",)))


def test_refusals_need_no_torch_and_are_one_line(answers):
    for line in [*((entry, "--zzz") for entry in ENTRIES), *REFUSALS]:
        code, out, err = answers[line]
        assert (code, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1, (line, code, err)


def test_what_imports_torch_says_so_before(answers):
    for line in STARTS:
        code, _, err = answers[line]
        assert "is imported" in str(code) and err.startswith(f"python -m darts_hpc.{line[0]}: starting"), (line, err)


def test_other_processes_than_the_first_stay_silent(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(cli, "import_lasting", lambda name: None)
    for rank, starts in (("1", 0), ("0", 1)):
        monkeypatch.setenv("RANK", rank)
        run_entry(lambda cfg: "runs/x", TrainConfig, next_command=lambda cfg, run: f"evaluate --model_path {run}")
        err = capsys.readouterr().err
        assert err.count("starting") == starts and err.count("next: ") == starts


def test_the_list_has_every_entry_by_a_command_and_the_completion_too():
    assert sorted(program.MODULES.get(name, name) for name in commands.NAMES) == ENTRIES
    assert sorted(CONFIGS) == sorted(commands.NAMES)


def darts(monkeypatch, *words: str) -> None:
    """Run darts as its script does."""
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/darts", *words])
    monkeypatch.setattr(program, "started_as", "")
    commands.main()


def test_darts_lists_the_commands_a_line_each(monkeypatch, capsys):
    for words in ((), ("--help",), ("help",)):
        darts(monkeypatch, *words)
        out = capsys.readouterr().out
        assert all(re.search(rf"^  {name} +\S", out, re.MULTILINE) for name in commands.NAMES)
        assert out.startswith("usage: darts COMMAND") and max(map(len, out.splitlines())) < 80


@pytest.mark.parametrize(
    "words", [("search", "--help"), ("train_search", "--help"), ("help", "search"), ("train-imagenet", "--help")]
)
def test_a_command_has_its_short_and_its_old_name(words, monkeypatch, capsys):
    darts(monkeypatch, *words)
    name = "train_imagenet" if "train-imagenet" in words else "search"
    assert capsys.readouterr().out.startswith(f"usage: darts {name} ")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["serach"], "unknown command 'serach'; did you mean search?"),
        (["--versoin"], "unknown flag '--versoin'; did you mean --version?"),
        (["zzz"], "unknown command 'zzz'; darts lists the known ones"),
        (["completion", "fish"], "no completion for 'fish'; choose from bash, zsh"),
        (["campaign"], "campaign without flags would begin the paper's protocol, months of one GPU: give --config"),
        (
            ["search", "--dataset", "cifar1O"],
            "--dataset cifar1O: expected one of cifar10, cifar100, svhn, digits, folder",
        ),
        (["campaign", "stauts"], "unknown action 'stauts' of campaign; did you mean status?"),
        (["visualize", "NOPE"], "'NOPE' is no published cell, genotype file or run folder; choose from DARTS_V1,"),
        (["search", "--lr", "1"], "unknown flag --lr; did you mean --learning_rate?"),
        (["search", "--arch_lr", "1"], "unknown flag --arch_lr; did you mean --arch_learning_rate?"),
        (["train", "--wd", "1"], "unknown flag --wd; did you mean --weight_decay?"),
    ],
)
def test_a_mistake_gets_its_hint(words, line, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        darts(monkeypatch, *words)
    assert stop.value.code == 2 and capsys.readouterr().err.startswith(f"error: {line}")


def test_the_folder_of_a_download_is_answered_with_the_one_above_it(tmp_path, monkeypatch):
    (tmp_path / "cifar-100-python").mkdir()
    monkeypatch.chdir(tmp_path / "cifar-100-python")
    for given, above in ((f"{tmp_path}/cifar-100-python/", tmp_path), (".", tmp_path)):
        with pytest.raises(ValueError, match=f"--data {above} --dataset cifar100$"):
            parse_config(TrainConfig, ["--data", given])
        with pytest.raises(ValueError, match=f"--data {above}$"):
            parse_config(TrainConfig, ["--data", given, "--dataset", "cifar100"])
    parse_config(TrainConfig, ["--data", str(tmp_path)])
    (tmp_path / "cifar-100-python" / "cifar-100-python").mkdir()
    parse_config(TrainConfig, ["--data", "."])


@pytest.mark.parametrize(("name", "cls"), CLASSES, ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("width", [72, 80, 100])
def test_help_has_every_text_whole_within_the_terminal(name, cls, width):
    shown = help_text(cls, f"darts {name}", cls.__doc__ or "", width)
    assert max(map(len, shown.splitlines())) <= width
    words = " ".join(shown.split())
    assert " ".join((cls.__doc__ or "").split()) in words and "--config FILE.yaml Preset to read" in words
    for flag in flags_of(cls).values():
        assert text_of(flag) and f" {text_of(flag)} " in f"{words} ", flag.name
        assert flag.positional or f" --{flag.name}" in words


def test_help_begins_with_the_run_and_ends_with_what_has_no_effect():
    shown = help_text(TrainConfig, "darts train", "", 80)
    assert shown.index("--config") < shown.index("--epochs") < shown.index("--dataset") < shown.index("--learning_rate")
    assert shown.index("--sync_bn") < shown.index(f"{UNUSED[:30]}") < shown.index("--model_path")
    assert shown.count("--model_path") == 1 and "(default: 600)" in shown


def test_plan_says_what_it_does(answers):
    assert "memory" in answers["plan", "--help"][1].split("\n\n")[1]


@pytest.mark.parametrize("words", ["darts_hpc", "darts_hpc.evaluate --dataset imagenet --help"])
def test_a_reader_that_leaves_early_gets_no_traceback(words):
    reading, writing = os.pipe()
    os.close(reading)  # as head has after its lines
    with os.fdopen(writing, "w") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", *words.split()],
            stdout=pipe, stderr=subprocess.PIPE, text=True, check=False, cwd=PACKAGE.parent,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("darts se", {"search", "select_cell"}),
        ("darts search --lay", {"--layers"}),
        ("darts search --dataset cifar", {"cifar10", "cifar100"}),
        ("darts search --dataset = dig", {"digits"}),
        ("darts evaluate --dataset im", {"imagenet"}),
        ("darts train --config configs/train/d", {"configs/train/digits.yaml"}),
        ("darts train --no_cut", {"--no_cutout"}),
        ("darts campaign st", {"status"}),
        ("darts report x", set()),
    ],
)
def test_bash_completes(typed, offered):
    asked = f"COMP_WORDS=({typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _darts; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", f"{completion('bash')}\n{asked}"], capture_output=True, text=True, check=True)
    assert (set(done.stdout.split()), done.stderr) == (offered, "")


@pytest.mark.parametrize(
    ("flags", "command"),
    [
        ("", "train --arch 'runs/a b'"),
        ("--dataset digits --image_size 8", "train --dataset digits --image_size 8 --arch 'runs/a b'"),
        ("--config configs/search/digits.yaml", "train --config configs/train/digits.yaml --arch 'runs/a b'"),
        ("--config configs/search/drnas.yaml --data /d", "train --data /d --arch 'runs/a b'"),
        ("--dataset imagenet --data /d", "train_imagenet --auxiliary --data /d --arch 'runs/a b'"),
    ],
)
def test_a_search_ends_with_the_training_of_its_cell_on_the_same_images(flags, command, monkeypatch, capsys):
    for started_as, start in (("darts search", "darts "), ("", "python -m darts_hpc.")):
        monkeypatch.setattr(sys, "argv", ["train_search.py", *shlex.split(flags)])
        monkeypatch.setattr(program, "started_as", started_as)
        run_entry(lambda cfg: Path("runs/a b"), SearchConfig, imports_torch=False, next_command=train_the_cell)
        assert capsys.readouterr().err == f"next: {start}{command}\n"
    parse_config(TrainConfig, shlex.split(command)[1:])


def test_launch_scripts_take_the_short_name_too():
    done = subprocess.run(
        ["launch/local.sh", "search", "--epochs", "1"],
        env={**os.environ, "PYTHON": "/bin/echo", "PROCESSES": "1"},
        capture_output=True, text=True, check=True, cwd=PACKAGE.parent,
    )  # fmt: skip
    assert done.stdout.endswith("-m darts_hpc.train_search --epochs 1\n")
