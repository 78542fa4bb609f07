"""The README, the pages and the examples: what they tell a reader to run does run, and what they link to is there."""

import dataclasses
import os
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from few_digits import few_digits
from forked_jobs import draw_nothing, estimate_quickly, prepare_estimates
from late_imports import import_for
from ranks import forked
from run_entries import SINGLE_THREAD, entry

from darts_hpc.data.sets import digits
from darts_hpc.data.sets.image_set import DataSet, ImageSet

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^<!-- runnable -->\n```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
GENERATED = {"flags.md", "changelog.md"}  # docs/scripts/hooks.py makes them
# the presets that the pages name, as small as they can be
SMALL = {
    "configs/search/digits.yaml": "configs/search/tiny.yaml",
    "configs/train/digits.yaml": "configs/train/tiny.yaml",
    "configs/campaign/digits.yaml": "configs/campaign/tiny.yaml",
    "configs/search/tiny.yaml": "configs/search/tiny.yaml",
    "configs/train/tiny.yaml": "configs/train/tiny.yaml",
}
sys.path.insert(0, str(ROOT / "docs" / "scripts"))


def run_shell(code: str, cwd: Path, before: Callable[[], object] = lambda: None) -> str:
    """Run lines of the form darts COMMAND FLAGS, or python -m darts_hpc.ENTRY FLAGS; return what they printed.

    before: called in the process of each line.
    """
    printed = ""

    def enter() -> None:
        os.chdir(cwd)
        before()

    for line in code.replace("\\\n", " ").splitlines():
        python, *words = shlex.split(line, comments=True)
        assert python == "darts" or (python == "python" and words[0] == "-m"), line
        if python == "darts":
            import_for(words[0])
        module = "__main__" if python == "darts" else words[1].removeprefix("darts_hpc.")
        done = entry(module, *(words if python == "darts" else words[2:]), before=enter)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        printed += done.stdout
    return printed


def take_fewer_digits() -> None:
    """Leave of the digits as many as the batches of the examples need."""
    load = digits.load

    def few(*args) -> DataSet:
        data = load(*args)
        train, test = (
            ImageSet(part.images[:count], part.labels[:count]) for part, count in ((data.train, 640), (data.test, 64))
        )
        return dataclasses.replace(data, train=train, test=test)

    digits.load = few


def run_python(file: Path, cwd: Path) -> str:
    """Run a Python file in a process of its own; return what it printed."""

    def program() -> None:
        os.chdir(cwd)
        take_fewer_digits()
        sys.argv = [str(file)]
        runpy.run_path(str(file), run_name="__main__")

    done = forked(program, **SINGLE_THREAD)
    assert done.returncode == 0, f"{file}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder in which a reader works: small presets, and the runs of Getting started."""
    if shutil.which("dot") is None:
        pytest.skip("needs graphviz's dot program")
    folder = tmp_path_factory.mktemp("reader")
    for name, small in SMALL.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        preset = yaml.safe_load((ROOT / small).read_text(encoding="utf-8"))
        if "epochs" in preset:
            preset |= {"epochs": 1, "report_freq": 5, "checkpoint_freq": 0}
        if "supernet" in preset:  # a search
            preset |= {"dataset": "folder", "data": str(few_digits()), "batch_size": 24}
            preset |= {"supernet": "plain", "space": "s2"}
        (folder / name).write_text(yaml.safe_dump(preset), encoding="utf-8")
    assert "test accuracy" in "".join(run_shell(code, folder) for _, code in blocks("bash", "docs/getting_started.md"))
    return folder


def blocks(language: str, *pages: str) -> list[tuple[str, str]]:
    """Return the runnable blocks of a language, each with its page, all pages' or those of some."""
    chosen = [page for page in PAGES if not pages or page.relative_to(ROOT).as_posix() in pages]
    found = [(page.name, block) for page in chosen for block in BLOCK.findall(page.read_text(encoding="utf-8"))]
    return [(page, code) for page, (kind, code) in found if kind == language]


def test_every_marker_of_a_runnable_block_has_its_block():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert text.count("<!-- runnable -->") == len(BLOCK.findall(text)), page


def test_getting_started_leaves_the_files_it_speaks_of(reader: Path):
    for name in ("runs/my-search/result.json", "runs/my-training/weights.pt", "report/report.html"):
        assert (reader / name).is_file()


@pytest.mark.slow
def test_shell_blocks_run(reader: Path):
    elsewhere = [code for page, code in blocks("bash") if page != "getting_started.md"]
    assert len(elsewhere) >= 2
    prepare_estimates()

    def quickly() -> None:
        draw_nothing()
        estimate_quickly()

    for code in elsewhere:
        assert run_shell(code, reader, quickly)


@pytest.mark.slow
def test_python_blocks_run(reader: Path):
    printed = {}
    for page, code in blocks("python"):
        file = reader / page.replace(".md", ".py")
        file.write_text(code, encoding="utf-8")
        printed[page] = printed.get(page, "") + run_python(file, reader)
    assert len(printed) >= 3
    assert "Genotype(normal=" in printed["api.md"] and "torch.Size([1, 10])" in printed["api.md"]


@pytest.mark.slow
@pytest.mark.parametrize("example", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_example_runs(example: str, reader: Path):
    printed = run_python(ROOT / "examples" / example, reader)
    assert "accuracy" in printed or "parameters" in printed


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").split()) <= 1400


def test_measured_tables_are_what_the_result_files_say():
    import tables  # docs/scripts

    for page in PAGES:
        assert tables.stale(page.read_text(encoding="utf-8")) == [], (
            f"{page}: python docs/scripts/tables.py writes them"
        )
    assert "1e-6 gives the exact product (cosine 1.00) in 5 of 8 epochs" in tables.unrolled_findings()


def test_a_changed_result_is_a_stale_table(monkeypatch: pytest.MonkeyPatch):
    import tables

    read = tables.read
    monkeypatch.setattr(tables, "read", lambda name: read(name) | {"test_accuracy": {"0": 90.0, "1": 91.0}})
    assert tables.stale(README.read_text(encoding="utf-8")) == ["results"]


def test_internal_links_lead_somewhere():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if link.startswith(("http:", "https:")):
                continue
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists() or target.name in GENERATED, f"{page}: {link}"
            if anchor and target.name not in GENERATED:
                headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
                assert anchor in {re.sub(r"[^\w\- ]", "", head).strip().lower().replace(" ", "-") for head in headings}


def test_every_flag_of_every_command_is_in_the_reference():
    import flags  # docs/scripts

    from darts_hpc.config.completion import CONFIGS
    from darts_hpc.config.flags import flags_of

    page = flags.reference()
    for command, classes in CONFIGS.items():
        assert f"\n## {command}\n" in page
        for cls in classes:
            for name, flag in flags_of(cls).items():
                assert f"| `{name.upper() if flag.positional else f'--{name}'}` |" in page, (command, name)


def test_files_that_the_readme_and_the_pages_name_exist():
    named = re.compile(r"`((?:configs|benchmarks|examples|tests|slurm|launch|docs|darts_hpc)/[\w./-]+)`")
    for page in PAGES:
        for name in named.findall(page.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{page}: {name}"
