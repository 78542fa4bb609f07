"""The entry points report and visualize."""

import errno
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sample_runs import write_search_run

from darts_hpc.commands import report, visualize
from darts_hpc.config.report import ReportConfig
from darts_hpc.config.visualize import VisualizeConfig
from darts_hpc.reporting.files import write_report
from darts_hpc.space.genotypes import GENOTYPES


def test_report_writes_three_files_and_says_where_to_look(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    report.main(ReportConfig(runs=tuple(runs), output=Path("out")))
    printed = capsys.readouterr().out
    forms = {f"report.{suffix}" for suffix in ("html", "md", "json", "tex", "csv")}
    assert {path.name for path in Path("out").iterdir()} == forms | {"figures"}
    figures = {path.name for path in Path("out/figures").iterdir()}
    assert {"1-loss.svg", "2-accuracy.pdf", "1-alphas-train_search-digits-1-normal.pdf"} <= figures
    assert Path("out/figures/2-accuracy.pdf").read_bytes().startswith(b"%PDF")
    assert "final test/accuracy: 98.89 %" in printed
    assert str(GENOTYPES["DARTS_V1"]) in printed
    assert str(tmp_path / "out" / "report.html") in printed
    assert "tensorboard --logdir runs\n" in printed


DRAWN: Any = SimpleNamespace(figure=True, svg="a picture", pdf=b"a picture")


def test_a_report_leaves_no_figure_of_the_one_before_it_and_touches_no_other_file(tmp_path: Path):
    figures = tmp_path / "figures"
    write_report(tmp_path, {}, {"both": DRAWN, "renamed": DRAWN})
    assert {"renamed.svg", "renamed.pdf"} <= {path.name for path in figures.iterdir()}
    for own in (figures / "own.pdf", tmp_path / "own.pdf"):
        own.write_text("a user's own")
    with (figures / "written.txt").open("a") as file:
        file.write("../own.pdf\n")
    write_report(tmp_path, {}, {"both": DRAWN})
    assert {path.name for path in figures.iterdir()} == {"both.svg", "both.pdf", "own.pdf", "written.txt"}
    assert (tmp_path / "own.pdf").exists()


def test_where_there_is_no_room_for_a_report_the_one_before_it_stays(tmp_path: Path, monkeypatch):
    write_report(tmp_path, {"html": "old", "md": "old"}, {})
    write = Path.write_bytes

    def full_disk(path: Path, content: bytes) -> int:
        if "report.md" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space left on device"):
        write_report(tmp_path, {"html": "new", "md": "new"}, {"new": DRAWN})
    assert {path.name: path.read_text() for path in tmp_path.glob("*.*")} == {"report.html": "old", "report.md": "old"}
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["written.txt"]


def test_a_run_given_twice_is_counted_once(runs: list[Path], tmp_path: Path):
    report.main(ReportConfig(runs=(runs[1], runs[1] / "..", runs[1])[::2], output=tmp_path / "out"))
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written["configurations"][0]["num_finished"] == 1


def test_a_folder_that_can_not_be_written_is_one_line(runs: list[Path], tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"--output .*file: the report can't be written there"):
        report.main(ReportConfig(runs=tuple(runs), output=tmp_path / "file"))
    with pytest.raises(ValueError, match=r"--output .*file: pictures can't be written there"):
        visualize.main(VisualizeConfig(genotype="DARTS", output=tmp_path / "file", format=("svg",)))


@pytest.mark.usefixtures("dot")
@pytest.mark.parametrize("source", ["name", "file", "run", "text"])
def test_visualize_takes_a_name_a_file_a_run_or_text(source: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "mine.json").write_text(GENOTYPES["DARTS"].to_json())
    given, stem = {
        "name": ("DARTS_V1", "DARTS_V1"),
        "file": (str(tmp_path / "mine.json"), "mine"),
        "run": (str(write_search_run(tmp_path / "train_search-a.1")), "train_search-a.1"),
        "text": (str(GENOTYPES["NASNet"]), "genotype"),
    }[source]
    visualize.main(VisualizeConfig(genotype=given, output=tmp_path / "out", format=("svg",)))
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert printed == [tmp_path / "out" / f"{stem}_{cell}.svg" for cell in ("normal", "reduction")]
    assert all(path.is_file() for path in printed)
