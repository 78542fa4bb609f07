"""Write the measured tables of README.md and docs/ from benchmarks/results/*.json, so that they can't drift from it.

    python docs/scripts/tables.py [--check]

A table stands between `<!-- table: NAME -->` and `<!-- end -->`, NAME being a key of TABLES. --check changes nothing,
and ends with exit code 1 where a table is not what its file says.
"""

import json
import re
import statistics
import sys
from collections.abc import Callable
from functools import partial

import methods
from measured import ROOT, gib, markdown, number, on, read
from speed_tables import (
    epoch_overhead,
    loader,
    scaling,
    scaling_check,
    search_cifar10,
    search_family,
    search_operations,
    search_step,
    train_evaluation,
    train_operations,
    train_step,
)

PLACE = re.compile(r"(<!-- table: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
PAPER = "published (DARTS, table 1)"


def results() -> str:
    """What was reached: measured here, and published."""
    ours = read("digits_accuracy-2_cpu_cores")
    runs = list(ours["test_accuracy"].values())
    accuracy = f"{statistics.mean(runs):.2f} ± {statistics.stdev(runs):.2f} % test accuracy (n = {len(runs)})"
    rows = [
        (ours["what"], accuracy, f"measured here, {ours['machine']}"),
        ("CIFAR-10: DARTS, first order", "3.00 ± 0.14 % test error", PAPER),
        ("CIFAR-10: DARTS, second order", "2.76 ± 0.09 % test error", PAPER),
    ]
    return markdown(("what", "result", "source"), rows)


def digits_runs() -> str:
    """The runs behind the digits' mean."""
    ours = read("digits_accuracy-2_cpu_cores")
    return markdown(
        ("seed", "test accuracy"), [(seed, f"{value:.2f} %") for seed, value in ours["test_accuracy"].items()]
    )


def comparison(name: str) -> str:
    """Methods against each other and against random cells."""
    result = read(name)
    return f"{markdown(methods.HEADER, methods.rows(result))}\n{methods.sentences(result)}"


def method_accuracies() -> str:
    """The main table: accuracy of methods by space."""
    return markdown(*methods.accuracies(read("robustness-amd_epyc")))


def exact_gradient() -> str:
    """The exact Hessian-vector product in two ways."""
    rows = []
    for name in ("exact_gradient-amd_epyc", "exact_gradient_quick-amd_epyc", "exact_gradient-nvidia_h200"):
        result = read(name)
        size = f"{result['init_channels']} channels, {result['layers']} cells, {result['image_size']} pixels"
        for form, ways in result.items():
            if isinstance(ways, dict):
                seconds, peak = (
                    [ways[f"{way}_{unit}"] for way in ("double_backward", "forward_over_reverse")]
                    for unit in ("seconds", "peak_bytes")
                )
                rows.append(
                    (
                        f"{form}; {size}; {result['machine']}",
                        *(f"{took:.3f} s, {gib(most)}" for took, most in zip(seconds, peak, strict=True)),
                        f"{seconds[1] / seconds[0]:.2f} and {peak[1] / peak[0]:.2f}",
                    )
                )
    return markdown(("supernet", "double backward", "forward over reverse", "times the time and memory"), rows)


def unrolled(quantity: str) -> str:
    """One quantity of the study of finite differences, by epoch and step."""
    epochs = read("unrolled_error-amd_epyc")["epochs"]
    steps = list(epochs[0]["epsilon"])
    rows = [(epoch["epoch"], *(number(epoch["epsilon"][step][quantity]) for step in steps)) for epoch in epochs]
    return markdown(("epochs done", *(f"ε = {float(step):g}" for step in steps)), rows)


def unrolled_findings() -> str:
    """What the study of finite differences says, in sentences."""
    epochs = [epoch["epsilon"] for epoch in read("unrolled_error-amd_epyc")["epochs"]]
    cosine = {step: [epoch[step]["cosine"] for epoch in epochs] for step in epochs[0]}
    distance = {step: [epoch[step]["relative_distance"] for epoch in epochs] for step in epochs[0]}
    whole = [epoch["0.01"]["whole_cosine"] for epoch in epochs]
    better = sum(
        c1 > c2 and d1 < d2
        for c1, c2, d1, d2 in zip(cosine["0.1"], cosine["0.01"], distance["0.1"], distance["0.01"], strict=True)
    )
    worse = sum(
        min(d3, d4) > d2 for d2, d3, d4 in zip(*(distance[e] for e in ("0.01", "0.001", "0.0001")), strict=True)
    )
    exact = [c > 0.9999 for c in cosine["1e-06"]]
    off = [i for i, same in enumerate(exact) if not same]
    n = len(epochs)
    return (
        f"- At the paper's ε = 0.01 the product has a cosine of {min(cosine['0.01']):.2f} to {max(cosine['0.01']):.2f} "
        f"with the exact one, and is {min(distance['0.01']):.1f} to {max(distance['0.01']):.1f} times as far from it "
        f"as zero is.\n"
        f"- ε = 0.1 is better than 0.01 in {better} of {n} epochs: cosine {min(cosine['0.1']):.2f} to "
        f"{max(cosine['0.1']):.2f}.\n"
        f"- ε = 0.001 and 0.0001 are both further from the exact product than 0.01 in {worse} of {n} epochs.\n"
        f"- ε = 1e-6 gives the exact product (cosine 1.00) in {sum(exact)} of {n} epochs. In the other {len(off)} its "
        f"cosine is {min(cosine['1e-06'][i] for i in off):.2f} to {max(cosine['1e-06'][i] for i in off):.2f}, at "
        f"{min(distance['1e-06'][i] for i in off):.1f} to {max(distance['1e-06'][i] for i in off):.0f} times the "
        f"distance of zero.\n"
        f"- ε = 1e-8 gives it in all {n}, to {max(distance['1e-08']):.0e}.\n"
        f"- The whole gradient of the alphas, in which the learning rate weights the product, has a cosine of "
        f"{whole[0]:.2f} after the first epoch at ε = 0.01, {whole[1]:.2f} after the second, and at least "
        f"{min(whole[3:]):.2f} from the fourth on.\n"
    )


def memory_prediction(name: str = "memory_prediction") -> str:
    """What the plan predicts beside what was counted."""
    result = read(f"{name}-amd_epyc")
    rows = [
        (
            re.sub(r"(--\w+(?: \w+)?)", r"`\1`", row["step"]),
            f"{row['init_channels']}, {row['layers']}, {row['image_size']}",
            row["batch_size"],
            gib(row["predicted_bytes"]),
            gib(row["counted_bytes"]),
            f"{100 * abs(row['predicted_bytes'] / row['counted_bytes'] - 1):.2f} %",
            f"{row['planning_seconds']:.1f} s",
        )
        for row in result["rows"]
    ]
    header = ("step", "channels, cells, pixels", "batch", "predicted", "counted", "off by", "planned in")
    return f"{on(result)}.\n\n" + markdown(header, rows)


def published_cells() -> str:
    """The published cells, where each comes from, and its size."""
    cells = json.loads((ROOT / "darts_hpc" / "space" / "published_cells.json").read_text(encoding="utf-8"))
    rows = [
        (
            f"`{name}`",
            cell["paper"],
            cell["source"].split(" (")[0].replace(":", ": "),
            cell.get("published", ""),
            f"{cell['parameters'] / 1e6:.3f} M",
            cell.get("note", ""),
        )
        for name, cell in cells.items()
    ]
    return markdown(("cell", "paper", "read in", "published error", "parameters here", "what differs"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "results": results,
    "digits_runs": digits_runs,
    "robustness": partial(comparison, "robustness-amd_epyc"),
    "robustness_accuracies": method_accuracies,
    "robustness_demo": partial(comparison, "robustness_demo-amd_epyc"),
    "robustness_orders": partial(comparison, "robustness_orders-amd_epyc"),
    "search_step_cpu": lambda: search_step("search_step-amd_epyc"),
    "search_step_gpu": lambda: search_step("search_step-nvidia_h200"),
    "search_operations": search_operations,
    "search_family": search_family,
    "search_cifar10": search_cifar10,
    "exact_gradient": exact_gradient,
    "unrolled_findings": unrolled_findings,
    "unrolled_cosine": lambda: unrolled("cosine"),
    "unrolled_distance": lambda: unrolled("relative_distance"),
    "unrolled_whole": lambda: unrolled("whole_cosine"),
    "memory_prediction": memory_prediction,
    "memory_prediction_training": partial(memory_prediction, "memory_prediction_training"),
    "loader": loader,
    "train_step": train_step,
    "train_evaluation": train_evaluation,
    "train_operations": train_operations,
    "epoch_overhead": epoch_overhead,
    "published_cells": published_cells,
    "scaling": scaling,
    "scaling_check": scaling_check,
}


def filled(text: str) -> str:
    """Return a page with its tables as the files have them now."""
    return PLACE.sub(lambda place: f"{place[1]}\n{TABLES[place[2]]()}\n{place[4]}", text)


def stale(text: str) -> list[str]:
    """Return the names of a page's tables that are not what their files say."""
    return [name for _, name, body, _ in PLACE.findall(text) if body != f"\n{TABLES[name]()}\n"]


def main() -> None:
    """Write the tables, or say which are not as they should be."""
    check, wrong = "--check" in sys.argv[1:], []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        wrong += [f"{page.relative_to(ROOT)}: {name}" for name in stale(text)]
        if not check and stale(text):
            page.write_text(filled(text), encoding="utf-8")
    for name in wrong:
        print(f"{name} is not what its file in benchmarks/results says" if check else f"{name} written")
    if wrong and check:
        sys.exit("error: write them with: python docs/scripts/tables.py")


if __name__ == "__main__":
    main()
