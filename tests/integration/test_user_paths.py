"""Whatever a user names, in whichever place: one line, exit code 2, at once, and nothing is made."""

import builtins
import io
import json
import os
import runpy
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from sample_runs import write_search_run, write_train_run

from darts_hpc.campaigns.folder import write_folder
from darts_hpc.commands.campaign import presets
from darts_hpc.config.campaign import CampaignConfig
from darts_hpc.config.cli import parse_config
from darts_hpc.run.reader import read_progress, read_run

DIGITS = ("--dataset", "digits", "--image_size", "8", "--device", "cpu")
HERE = "HERE"
"""Where the path goes."""
READ = {
    "train --arch": ["train", *DIGITS, "--arch", HERE],
    "train --config": ["train", "--config", HERE],
    "train --resume": ["train", *DIGITS, "--resume", HERE],
    "train --data": ["train", "--dataset", "folder", "--image_size", "8", "--device", "cpu", "--data", HERE],
    "train_search --data": ["train_search", "--dataset", "webdataset", "--image_size", "8", "--data", HERE],
    "train_search --resume": ["train_search", *DIGITS, "--resume", HERE],
    "train_imagenet --data": ["train_imagenet", "--loader", "torchvision", "--device", "cpu", "--data", HERE],
    "plan --config": ["plan", "--config", HERE],
    "evaluate": ["evaluate", *DIGITS, "--model_path", HERE],
    "evaluate imagenet": ["evaluate", "--dataset", "imagenet", "--device", "cpu", "--model_path", HERE],
    "evaluate --arch": ["evaluate", *DIGITS, "--model_path", __file__, "--arch", HERE],
    "report": ["report", HERE],
    "export": ["export", HERE, "--format", "safetensors"],
    "visualize": ["visualize", HERE, "--format", "svg"],
    "select_cell": ["select_cell", HERE],
    "pack": ["pack", HERE, "packed"],
    "stage": ["stage", HERE, "staged"],
    "campaign --search_config": ["campaign", "--dry_run", "--search_config", HERE],
    "campaign --train_config": ["campaign", "--dry_run", "--train_config", HERE],
    "campaign --config": ["campaign", "--dry_run", "--config", HERE],
    "campaign status": ["campaign", "status", HERE],
    "campaign report": ["campaign", "report", HERE],
    "campaign cancel": ["campaign", "cancel", HERE],
}
WRITTEN = {
    "train --save": ["train", *DIGITS, "--save", HERE],
    "train_search --save": ["train_search", *DIGITS, "--save", HERE],
    "campaign --save": ["campaign", "--dry_run", "--save", HERE],
    "report --output": ["report", "run", "--output", HERE],
    "visualize --output": ["visualize", "DARTS", "--format", "svg", "--output", HERE],
    "pack to": ["pack", "images", HERE],
    "stage to": ["stage", "images", HERE],
}
NAMED = {
    "train --model_path": ["train", *DIGITS, "--model_path", HERE],
    "train_imagenet --manifest": ["train_imagenet", "--manifest", HERE],
    "select_cell --save": ["select_cell", "search", "--save", HERE],
    "export --output": ["export", "run", "--output", HERE],
}
NO_PATHS = ("too long", "too long a name", "NUL", "not UTF-8")
KINDS = (*NO_PATHS, "closed", "link loop", "fifo", "device")


@pytest.fixture(scope="module")
def world():
    """A folder with a run, a search and images."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_train_run(folder / "run")
        write_search_run(folder / "search")
        (folder / "closed").mkdir()
        for part in ("train", "val"):
            (folder / "images" / part / "a").mkdir(parents=True)
        yield folder


@pytest.fixture
def call(world, monkeypatch, capsys):
    """Call an entry, and return its exit code and the lines it said; whatever takes minutes fails."""
    monkeypatch.chdir(world)

    def late(*_):
        raise AssertionError("it hangs")

    def start(*argv: str) -> tuple[int, list[str]]:
        name, *flags = argv
        monkeypatch.setattr(sys, "argv", [name, *flags])
        sys.modules.pop(f"darts_hpc.{name}", None)
        before = signal.signal(signal.SIGALRM, late)
        signal.alarm(200)
        code = 0
        try:
            runpy.run_module(f"darts_hpc.{name}", run_name="__main__", alter_sys=True)
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        said = capsys.readouterr().err.splitlines()
        return code, [line for line in said if not line.endswith("takes some seconds")]

    return start


def close(monkeypatch) -> None:
    """Let nobody look into the folder `closed`, as the kernel does for all but root."""

    def guarded(function):
        def refuse(path=".", *args, **kwargs):
            if isinstance(path, str | os.PathLike) and "closed/" in os.fspath(path):
                raise PermissionError(13, "Permission denied", os.fspath(path))
            return function(path, *args, **kwargs)

        return refuse

    for name in ("stat", "lstat", "listdir", "scandir", "open", "mkdir", "access"):
        monkeypatch.setattr(os, name, guarded(getattr(os, name)))
    for module in (io, builtins):
        monkeypatch.setattr(module, "open", guarded(open))


def there(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def place(world: Path, kind: str) -> str:
    """Put something there, and return how it is named."""
    thing = world / "thing"
    match kind:
        case "too long":
            return "y/" * 2000
        case "too long a name":
            return f"there/{'x' * 300}"
        case "NUL":
            return "there/a\0b"
        case "not UTF-8":
            return os.fsdecode(b"there/caf\xe9")
        case "closed":
            return "closed/thing"
        case "link loop":
            thing.symlink_to(thing)
        case "fifo":
            os.mkfifo(thing)
        case "device":
            thing.symlink_to("/dev/zero")
    return "./thing"


CASES = [(name, kind) for places in (READ, WRITTEN) for name in places for kind in KINDS]
CASES += [(name, kind) for name in NAMED for kind in NO_PATHS]


@pytest.mark.parametrize(("name", "kind"), CASES, ids=[f"{name}: {kind}" for name, kind in CASES])
def test_what_can_not_be_used_is_refused_in_one_line_and_nothing_is_made(name, kind, world, call, monkeypatch):
    named = place(world, kind)
    before = there(world)
    if kind == "closed":
        close(monkeypatch)
    try:
        code, said = call(*(named if word == HERE else word for word in (READ | WRITTEN | NAMED)[name]))
    finally:
        monkeypatch.undo()
        made = there(world) - before
        (world / "thing").unlink(missing_ok=True)
    assert (code, len(said)) == (2, 1) and said[0].startswith("error: ") and len(said[0]) < 4000, (code, said)
    assert not made


FILES = ("config.yaml", "metrics.jsonl", "genotypes.jsonl", "performance.jsonl", "result.json", "environment.json")
FILES += ("space.json", "launch.json", "command.txt", "checkpoints", "log.rank0.txt", "weights.pt")
CONTENTS = {
    "null": b"null\n",
    "list": b"[1]\n",
    "text": b'"x"\n',
    "deep": b"[" * 100_000 + b"\n",
    "digits": b'{"epoch": ' + b"9" * 5000 + b"}\n",
    "latin-1": b'{"a": "caf\xe9"}\n',
    "nothing": b"",
    "foreign": b'{"status": "finished", "epoch": "x", "final": 3, "seconds": [], "genotype": 7, "primitives": 1}\n',
}
LOOKS = {
    "report": (["report", "damaged", "--output", "out"], ("config.yaml", "metrics.jsonl", "result.json")),
    "visualize": (["visualize", "damaged", "--format", "svg"], ("genotypes.jsonl",)),
    "export": (["export", "damaged", "--format", "safetensors"], ("config.yaml", "result.json", "weights.pt")),
    "evaluate": (["evaluate", *DIGITS, "--model_path", "damaged"], ("config.yaml", "checkpoints")),
    "train --arch": (["train", *DIGITS, "--arch", "damaged"], ("genotypes.jsonl",)),
    "select_cell": (["select_cell", "damaged"], ("config.yaml", "result.json", "checkpoints")),
}
"""A look at a run folder, and the files that it needs."""


def damage(path: Path, kind: str) -> None:
    """Put something else in the place of a file or folder."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    match kind:
        case "folder":
            (path / "x").mkdir(parents=True)
        case "link loop":
            path.symlink_to(path)
        case "fifo":
            os.mkfifo(path)
        case _:
            path.write_bytes(CONTENTS[kind])


@pytest.mark.parametrize("kind", ["folder", "link loop", "fifo", "deep", "latin-1"])
@pytest.mark.parametrize("look", LOOKS)
def test_a_look_at_a_damaged_run_folder_is_one_line(look, kind, world, call):
    argv, files = LOOKS[look]
    for file in files:
        shutil.rmtree(world / "damaged", ignore_errors=True)
        (write_search_run if look == "select_cell" else write_train_run)(world / "damaged", epochs=1)
        (world / "damaged" / "checkpoints" / "step-00000001").mkdir(parents=True)
        damage(world / "damaged" / file, kind)
        code, said = call(*argv)
        assert (code, len(said)) == (2, 1) and said[0].startswith("error: "), (file, code, said)


@pytest.mark.parametrize("kind", ["folder", "link loop", "fifo", *CONTENTS])
def test_whatever_a_run_folder_holds_is_read_or_refused_in_one_line(kind, world):
    for file in FILES:
        shutil.rmtree(world / "damaged", ignore_errors=True)
        write_search_run(world / "damaged", epochs=1)
        damage(world / "damaged" / file, kind)
        for read in (read_run, read_progress):
            try:
                found = read(world / "damaged")
                assert found is not None and (found.epochs or kind in ("nothing", "text", "null"))
            except ValueError as error:
                assert "\n" not in str(error) and file in str(error) and len(str(error)) < 1000


RUN_FILES = [name for name in FILES if name not in ("weights.pt",)]


@pytest.mark.parametrize("kind", ["folder", "link loop", "fifo"])
@pytest.mark.parametrize("flags", [["--resume", "damaged"], ["--save", "damaged/", "--resume", "auto"]])
def test_what_is_in_the_way_of_a_run_s_files_is_refused_before_the_data_is_read(flags, kind, world, call, monkeypatch):
    monkeypatch.setattr("darts_hpc.commands.train.load_dataset", lambda *_, **__: pytest.fail("too late"))
    for file in RUN_FILES:
        if (file, kind) == ("checkpoints", "folder"):
            continue
        shutil.rmtree(world / "damaged", ignore_errors=True)
        write_train_run(world / "damaged", epochs=2)
        (world / "damaged" / "checkpoints" / "step-00000001").mkdir(parents=True)
        damage(world / "damaged" / file, kind)
        code, said = call("train", *DIGITS, *flags)
        assert (code, len(said)) == (2, 1) and ("in the way" in said[0] or "checkpoint" in said[0]), (file, said)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """A campaign's folder, in which one job has begun and one has failed."""
    folder = tmp_path_factory.mktemp("campaign") / "own"
    flags = ["--search_config", "configs/search/digits.yaml", "--train_config", "configs/train/digits.yaml"]
    cfg = parse_config(CampaignConfig, [*flags, "--search_seeds", "0", "--final_seeds", "0", "--baselines", "DARTS_V2"])
    write_folder(cfg, folder, presets(cfg), "darts campaign")
    write_search_run(folder / "runs" / "search-first_order-seed0", finished=False)
    record = {"attempts": [{"executor": "local", "id": "1", "started": 0, "end": "failed"}], "failures": 9}
    (folder / "jobs" / "select-first_order-seed0.json").write_text(json.dumps(record))
    (folder / "jobs" / "select-first_order-seed0.log").write_text("a line\n")
    return folder


CAMPAIGN_FILES = ("about.json", "campaign.yaml", "search.yaml", "jobs/select-first_order-seed0.json")
CAMPAIGN_FILES += ("jobs/select-first_order-seed0.log", "runs/search-first_order-seed0/performance.jsonl")
CAMPAIGN_FILES += ("runs/search-first_order-seed0/config.yaml", "runs/search-first_order-seed0/metrics.jsonl")


@pytest.mark.parametrize("kind", ["folder", "link loop", "fifo", *CONTENTS])
def test_a_damaged_campaign_folder_is_one_line_or_no_matter(kind, campaign, world, call):
    for file in CAMPAIGN_FILES:
        shutil.rmtree(world / "campaign", ignore_errors=True)
        shutil.copytree(campaign, world / "campaign")
        damage(world / "campaign" / file, kind)
        code, said = call("campaign", "status", "campaign")
        assert code == 0 or ((code, len(said)) == (2, 1) and said[0].startswith("error: ")), (file, code, said)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--search_flags", "--layers 1"], "--search_config and --search_flags: --layers 1"),
        (["--search_flags", "--nonsense 1"], "--search_config and --search_flags: unknown flag --nonsense"),
        (["--search_flags", "'open"], "--search_flags 'open: expected flags as in a shell (No closing quotation)"),
        (
            ["--order", "both", "--search_flags", "--unrolled_method exact --compile"],
            "search.yaml, with what the job search-unrolled-seed0 adds: --compile with --unrolled_method exact",
        ),
        (["--train_config", "configs/search/digits.yaml"], "--train_config and --train_flags"),
        (["--imagenet_config", "configs/imagenet/none.yaml"], "--imagenet_config and --imagenet_flags"),
    ],
)
def test_a_campaign_checks_every_preset_with_what_its_jobs_add_before_the_first(flags, words, call, world):
    code, said = call("campaign", "--dry_run", "--save", "new/", *flags)
    assert (code, len(said)) == (2, 1) and words in said[0], said
    assert not (world / "new").exists()
