"""Print what a campaign of methods found, as docs/results.md shows it.

    python benchmarks/keep_comparison.py CAMPAIGN_FOLDER > benchmarks/results/robustness-amd_epyc.json
    python docs/scripts/tables.py

From the campaign's report/report.json: each method's cells, accuracies, differences to random cells and costs by space,
how many jobs there were, and their hours. Run it with the machine and the torch of the campaign.
"""

import argparse
import json
from pathlib import Path

import torch
from command import run
from machine import machine


def kept(report: dict) -> dict:
    """Return the part of a campaign's report that pages show."""
    if not report.get("comparison"):
        raise ValueError("the report compares no methods: the campaign has no variants")
    stages = report["stages"]
    return {
        "benchmark": "comparison",
        "machine": machine(torch.device("cpu"), 1),
        "torch": torch.__version__,
        "jobs": sum(stage["finished"] for stage in stages.values()),
        "job_hours": sum(stage["seconds"] for stage in stages.values()) / 3600,
        "ranking": report["correlation"],
        "comparison": report["comparison"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", type=Path, help="a campaign's folder, with its report")
    file = parser.parse_args().campaign / "report" / "report.json"
    if not file.is_file():
        raise ValueError(f"{file}: no such file; make it with: darts campaign report {file.parents[1]}")
    print(json.dumps(kept(json.loads(file.read_text(encoding="utf-8"))), indent=1))


if __name__ == "__main__":
    run(main)
