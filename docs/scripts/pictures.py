"""Make the pictures of docs/pictures again.

    python docs/scripts/pictures.py [RUN ...]

Always the published cell and the study of finite differences. With run folders, such as those of make demo, the
report's page and TensorBoard too, as a browser shows them (chromium, or what CHROMIUM names).
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from measured import ROOT, read

PICTURES = ROOT / "docs" / "pictures"
CHROMIUM = os.environ.get("CHROMIUM", "chromium")
# nothing but pages of this machine is opened; the time is virtual, and lets scripts draw
FLAGS = "--headless --no-sandbox --disable-gpu --hide-scrollbars --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync"


def draw_cell() -> None:
    """Draw the cell of the paper's second-order search."""
    from darts_hpc.commands.visualize import main as visualize
    from darts_hpc.config.visualize import VisualizeConfig

    visualize(VisualizeConfig(genotype="DARTS_V2", output=PICTURES, format=("svg",)))


def plot_finite_differences() -> None:
    """Plot the study as its file has it."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import matplotlib
    import unrolled_error

    matplotlib.rcParams["svg.hashsalt"] = "darts_hpc"  # else each drawing has other ids
    unrolled_error.plot(read("unrolled_error-amd_epyc")["epochs"], PICTURES / "finite_differences.svg")


def plot_methods() -> None:
    """Plot our comparison of methods as its file has it."""
    import matplotlib
    import methods

    matplotlib.rcParams["svg.hashsalt"] = "darts_hpc"
    methods.plot(read("robustness-amd_epyc"), PICTURES / "methods.svg")


def photograph(address: str, name: str, size: str, seconds: int = 5) -> None:
    """Save what a browser shows at an address."""
    with tempfile.TemporaryDirectory() as profile:
        options = [f"--user-data-dir={profile}", f"--window-size={size}", f"--virtual-time-budget={1000 * seconds}"]
        options.append(f"--screenshot={PICTURES / name}")
        subprocess.run([CHROMIUM, *FLAGS.split(), *options, address], check=True, timeout=180)


def show_report(runs: list[Path]) -> None:
    """Show the report of the runs."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "darts_hpc.report", *map(str, runs), "--output", folder]
        subprocess.run(command, check=True)
        photograph(f"file://{folder}/report.html", "report.png", "1280,1190")


def show_tensorboard(folder: Path) -> None:
    """Show the time series of the runs in a folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tensorboard = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(port)]
    server = subprocess.Popen(tensorboard, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
        photograph(f"http://127.0.0.1:{port}/?darkMode=false#timeseries", "tensorboard.png", "1280,1100", 30)
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    """Make every picture that can be made of what is given."""
    runs = [Path(run).resolve() for run in sys.argv[1:]]
    PICTURES.mkdir(exist_ok=True)
    draw_cell()
    plot_finite_differences()
    plot_methods()
    if runs:
        show_report(runs)
        show_tensorboard(runs[0].parent)


if __name__ == "__main__":
    main()
