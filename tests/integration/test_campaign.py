"""A campaign from its entry point: its table, killed and gone on with, a job that fails, mistakes, and its report."""

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from forked_jobs import (
    TINY,
    TRAIN_FLAGS,
    campaign_in_forks,
    draw_nothing,
    estimate_quickly,
    prepare_estimates,
)
from holding import Hold
from run_entries import entry

from darts_hpc.run.reader import read_run

pytestmark = pytest.mark.slow
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMIUM_FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr"),
]


def table(folder: Path) -> list[dict]:
    """What a campaign found, without what the clock says: every number of every row, to the last bit."""
    rows = json.loads((folder / "report" / "report.json").read_text())["rows"]
    clock = ("seconds", "peak_memory_bytes")
    for row in rows:
        row["statistics"] = {key: value for key, value in row["statistics"].items() if key not in clock}
        del row["search_seconds"]
    return rows


def processes_of(folder: Path) -> list[int]:
    """Every process whose command line names the campaign's folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"{folder}/" in path.read_bytes().decode(errors="replace") and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
    return found


def send(processes: list[int], number: signal.Signals) -> None:
    """Signal those that are still there."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)


def heed_ctrl_c() -> None:
    """Handle Ctrl-C, which a shell has its background processes ignore, such as these tests."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("campaign") / "undisturbed"
    done = campaign_in_forks(*TINY, "--save", f"{folder}/", "--jobs", "2", pictures=True)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "search 2/2, select 2/2, final 2/2 done" in done.stdout
    return folder


def test_the_best_cell_on_held_out_images_is_trained_in_full_with_every_seed(undisturbed):
    report = json.loads((undisturbed / "report" / "report.json").read_text())
    ranking = [(ranked["held_out"], ranked["cell"]) for ranked in report["ranking"]]
    assert len(ranking) == 2 and ranking == sorted(ranking, key=lambda pair: -pair[0])
    best = ranking[0][1]
    (row,) = report["rows"]
    assert set(row["accuracies"]) == {f"final-{best}-seed0", f"final-{best}-seed1"}
    finals = [json.loads((undisturbed / "runs" / name / "result.json").read_text()) for name in row["accuracies"]]
    assert list(row["accuracies"].values()) == [final["final"]["test/accuracy"] for final in finals]
    assert row["statistics"]["test/accuracy"]["mean"] == pytest.approx(sum(row["accuracies"].values()) / 2)
    found = json.loads((undisturbed / "runs" / f"search-{best}" / "result.json").read_text())["genotype"]
    assert all(final["genotype"] == found for final in finals)


def test_killed_alone_it_takes_its_jobs_over_and_killed_with_them_it_comes_to_the_same_table(undisturbed, tmp_path):
    folder = tmp_path / "killed"
    shutil.copytree(undisturbed, folder)
    for name in [*(folder / "runs").glob("select-*"), *(folder / "runs").glob("final-*"), folder / "report"]:
        shutil.rmtree(name)
    shutil.rmtree(folder / "runs" / "search-first_order-seed1")
    for record in (folder / "jobs").glob("*.json"):
        record.unlink()
    kept = {path: path.read_bytes() for path in (folder / "runs").glob("search-*/result.json")}
    command = [sys.executable, "-m", "darts_hpc.campaign", *TINY, "--save", f"{folder}/", "--jobs", "2"]
    hold = Hold(tmp_path / "hold")
    hold.at_step(1, 0)
    environment = {**os.environ, **hold.environment, "OMP_NUM_THREADS": "1"}
    search = folder / "runs" / "search-first_order-seed1"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment) as campaign:
        hold.wait()
        campaign.kill()
    jobs = processes_of(folder)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as campaign:
        assert campaign.stderr is not None
        assert any("search-first_order-seed1 is running" in line for line in campaign.stderr)
        campaign.kill()
    record = json.loads((folder / "jobs" / "search-first_order-seed1.json").read_text())
    assert jobs and len(record["attempts"]) == 1  # the job that outlived its campaign was taken over
    send(processes_of(folder), signal.SIGKILL)
    assert not (search / "result.json").exists()
    again = campaign_in_forks(*TINY, "--save", f"{folder}/", "--jobs", "2")
    assert again.returncode == 0, again.stderr
    assert "going on in epoch" in (search / "log.rank0.txt").read_text()
    assert table(folder) == table(undisturbed)
    assert {path: path.read_bytes() for path in kept} == kept


@pytest.mark.parametrize(("how", "seeds"), [("campaign cancel", (0, 1)), ("ctrl-c", (0,))])
def test_a_campaign_that_is_asked_to_stops_saves_its_jobs_and_leaves_no_process(how, seeds, tmp_path):
    folder, endless = tmp_path / "stopped", tmp_path / "endless.yaml"
    search = Path("configs/search/tiny.yaml").read_text(encoding="utf-8")
    endless.write_text(search.replace("epochs: 2", "epochs: 10000"), encoding="utf-8")
    flags = [*TINY, "--search_config", endless, "--search_seeds", *seeds, "--save", f"{folder}/", "--jobs", "2"]
    command = [sys.executable, "-m", "darts_hpc.campaign", *map(str, flags)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=heed_ctrl_c
    ) as campaign:
        metrics = [folder / "runs" / f"search-first_order-seed{seed}" / "metrics.jsonl" for seed in seeds]
        while not all(path.exists() and path.read_text() for path in metrics):
            assert campaign.poll() is None
            time.sleep(0.05)
        if how == "ctrl-c":
            campaign.send_signal(signal.SIGINT)
        else:
            done = entry("campaign", "cancel", folder)
            assert done.returncode == 0 and "the campaign has stopped, and its 2 jobs" in done.stdout, done.stdout
        assert campaign.stderr is not None
        said = campaign.stderr.read()
    assert campaign.returncode == 130 and "stopped; the same command goes on" in said
    assert processes_of(folder) == []
    for run in (path.parent for path in metrics):
        assert any(run.glob("checkpoints/step-*")) and not (run / "result.json").exists()


def test_a_finished_campaign_starts_nothing_again(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/*")}
    done = entry("campaign", *TINY, "--save", f"{tmp_path}/", before=draw_nothing)
    assert done.returncode == 0 and "is running" not in done.stderr
    assert before and {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/*")} == before


def test_a_job_that_keeps_failing_is_shown_with_its_log_while_the_rest_goes_on(undisturbed, tmp_path):
    folder = tmp_path / "failing"
    shutil.copytree(undisturbed, folder)
    lost = next((folder / "runs").glob("final-*-seed1"))
    shutil.rmtree(lost)
    lost.write_text("a file where the run folder should be")
    done = campaign_in_forks(*TINY, "--save", f"{folder}/")
    assert done.returncode == 1
    assert f"{lost.name} failed 3 times; its log ends:" in done.stderr
    assert "can't write to the run folder" in done.stderr
    assert json.loads((folder / "report" / "report.json").read_text())["rows"][0]["n"] == 1
    shown = entry("campaign", "status", folder)
    assert shown.returncode == 0 and re.search(rf"{lost.name} +failed", shown.stdout)
    assert "search 2/2, select 2/2, final 1/2 done" in shown.stdout


def test_a_folder_of_another_campaign_version_or_kind_is_refused_with_what_differs(undisturbed, tmp_path):
    other = entry("campaign", *TINY, "--save", f"{undisturbed}/", "--search_seeds", "0", "2")
    assert other.returncode == 2
    assert "search_seeds is 0 1 there and 0 2 here" in other.stderr and other.stderr.count("\n") == 1
    shutil.copytree(undisturbed, tmp_path / "old", ignore=shutil.ignore_patterns("runs"))
    about = tmp_path / "old" / "about.json"
    about.write_text(about.read_text().replace('"darts_hpc": "', '"darts_hpc": "9.'))
    old = entry("campaign", *TINY, "--save", f"{tmp_path}/old/")
    assert old.returncode == 2 and "was made by darts_hpc 9." in old.stderr
    kind = entry("campaign", *TINY, "--save", f"{undisturbed}/runs/")
    assert kind.returncode == 2 and "holds something else" in kind.stderr


def test_a_comparison_of_two_variants_comes_to_its_table(tmp_path):
    folder = tmp_path / "compared"
    flags = [*TINY, "--search_seeds", "0", "--final_seeds", "0", "--spaces", "s2", "--random_cells", "1"]
    flags += ["--train_flags", f"{TRAIN_FLAGS} --epochs 1", "--anytime_shares", "0.5", "--save", f"{folder}/"]
    flags += ["--jobs", "2", "--variants", "plain"]
    done = campaign_in_forks(*flags, "beta: --alpha_regulariser beta")
    assert done.returncode == 0, done.stderr
    assert "search 2/2, select 3/3, anytime 2/2, final 3/3 done" in done.stdout and "beta in s2" in done.stdout
    search = read_run(folder / "runs" / "search-s2-beta-seed0")
    assert search.config["alpha_regulariser"] == "beta" and search.config["space"] == "s2"
    early = read_run(folder / "runs" / "anytime-s2-beta-seed0-at0.5")
    assert early.genotype == search.cell_after[0] and early.accuracy_name == "valid/accuracy"
    report = json.loads((folder / "report" / "report.json").read_text())["comparison"]
    assert [(each["method"], each["n"]) for each in report["outcomes"]] == [("plain", 1), ("beta", 1), ("random", 1)]
    assert (folder / "report" / "report.methods.csv").exists()
    assert (folder / "report" / "figures" / "s2-anytime.pdf").exists()

    other = entry("campaign", *flags, "beta: --alpha_regulariser beta --arch_learning_rate 0.1")
    assert other.returncode == 2 and "arch_learning_rate is 0.03 there and 0.1 here (search-s2-beta.y" in other.stderr
    wrong = entry("campaign", *flags, "pt: --selection perturbation --relaxation gumbel")
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: pt in s2: --selection perturbation with")
    assert not list((folder / "runs").glob("*pt*"))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--search_seeds", "1", "1"], "names seed 1 twice"),
        (["--config", "configs/campaign/nope.yaml"], "configs/campaign/nope.yaml: no such file"),
        (["--search_config", "nope.yaml"], "nope.yaml: no such file"),
        (["--baselines", "DARTS_W2"], "did you mean DARTS_V2"),
        (["--executor", "slurm"], "--executor slurm: "),
        (["--data", "no/images", "--train_flags", "--dataset folder"], "no/images"),
        (["--variants", "a"], "--variants without --spaces"),
    ],
)
def test_a_mistake_is_one_line_and_starts_nothing(flags, said, tmp_path):
    folder = tmp_path / "refused"
    nowhere = tmp_path / "slurm.conf"
    nowhere.write_text(
        "ClusterName=gone\nMessageTimeout=2\nSlurmctldHost=gone(127.0.0.1)\nSlurmctldPort=1\nNodeName=gone\n"
    )
    done = entry("campaign", *TINY, "--save", f"{folder}/", *flags, SLURM_CONF=str(nowhere))
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1
    assert not folder.exists()


def test_a_dry_run_prints_every_job_and_starts_nothing(tmp_path):
    prepare_estimates()
    dry_run = functools.partial(
        entry, "campaign", *TINY, "--save", f"{tmp_path}/dry/", "--dry_run", before=estimate_quickly
    )
    done = dry_run()
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("python -m darts_hpc.train_search ") == 2
    assert done.stdout.count("python -m darts_hpc.train ") == 4
    assert re.search(r"# 6 jobs: about [\d.]+ GPU hours", done.stdout) and not (tmp_path / "dry").exists()
    assert re.search(r"# 6 jobs to do: about .+ here, by steps timed on .+ 1 threads, torch", done.stdout)
    assert re.search(r"images/s: search-first_order [1-9][\d,]*, train [1-9]", done.stdout)
    assert "unknown" not in done.stdout
    timed = [line for line in done.stderr.splitlines() if line.startswith("timing")]
    assert timed == ["timing 1 of 2: steps of search-first_order", "timing 2 of 2: steps of train"]
    again = dry_run()
    assert "timing" not in again.stderr and "# 6 jobs to do: about" in again.stdout
    gpu = dry_run("--device", "cuda")
    assert gpu.returncode == 0 and "no times of this machine: " in gpu.stderr and "GPU hours" in gpu.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium to open the page with")
def test_a_browser_draws_the_report_without_an_error_or_a_request(undisturbed, tmp_path):
    page = undisturbed / "report" / "report.html"
    probe = tmp_path / "probe.html"
    # Runs in the same page: every picture has a size, and nothing but the page itself was fetched.
    script = """<script>window.addEventListener('load', () => {
      document.querySelectorAll('details').forEach(each => { each.open = true; });
      const seen = [...document.querySelectorAll('svg, img')].filter(each => each.checkVisibility());
      const flat = seen.filter(each => {
        const box = each.getBoundingClientRect(); return box.width < 20 || box.height < 20; });
      const fetched = performance.getEntriesByType('resource').map(each => each.name);
      document.title = JSON.stringify({pictures: seen.length, flat: flat.length,
        fetched: fetched, wide: document.documentElement.scrollWidth - window.innerWidth}); });</script>"""
    probe.write_text(page.read_text(encoding="utf-8").replace("</body>", script + "</body>"), encoding="utf-8")
    for width in (1280, 500):
        with tempfile.TemporaryDirectory() as profile:
            size = [f"--user-data-dir={profile}", f"--window-size={width},900", "--virtual-time-budget=5000"]
            command = [str(CHROMIUM), *CHROMIUM_FLAGS, *size, "--dump-dom", f"file://{probe}"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
        assert "CONSOLE" not in done.stderr
        said = re.search(r"<title>(.*?)</title>", done.stdout)
        assert said is not None
        facts = json.loads(said[1].replace("&quot;", '"'))
        assert facts["pictures"] > 30 and facts["flat"] == 0 and facts["fetched"] == [] and facts["wide"] <= 0
