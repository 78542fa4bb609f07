"""Write the measured tables of README.md and docs/ from benchmarks/results/*.json, so that they can't drift from it.

    python docs/scripts/tables.py [--check]

A table stands between `<!-- table: NAME -->` and `<!-- end -->`, NAME being a key of TABLES. --check changes nothing,
and ends with exit code 1 where a table is not what its file says.
"""

import json
import re
import statistics
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import methods

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PLACE = re.compile(r"(<!-- table: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
PAPER = "published (DARTS, table 1)"


def read(name: str) -> dict[str, Any]:
    """Return a benchmark's result."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def markdown(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a table."""
    lines = [list(header), *(map(str, row) for row in rows)]
    spelled = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([spelled[0], "|" + "---|" * len(list(lines[0])), *spelled[1:]]) + "\n"


def gib(num_bytes: float) -> str:
    """Return a size as people read it."""
    return f"{num_bytes / 2**30:.2f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.0f} MiB"


def number(value: float) -> str:
    """Return a number with as many digits as say something."""
    return f"{value:.0e}" if 0 < value < 1e-3 else f"{value:.0f}" if value >= 10 else f"{value:.2f}"


def on(result: dict[str, Any]) -> str:
    """Return where something was measured."""
    return f"{result['machine']}, torch {result['torch']}"


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


def search_step(name: str) -> str:
    """Seconds of a step of the search, ours and as the 2018 code runs it."""
    result = read(name)
    names = {
        "nchw": "the 2018 structure",
        "channels_last": "the same in channels_last",
        "eager": f"{result['form']}, without a CUDA graph",
        "ours": result["form"] + ", as one CUDA graph" * ("eager" in result["first_order_seconds"]),
        "bf16": f"{result['form']}, bfloat16",
    }
    first, unrolled = result["first_order_seconds"], result["unrolled_seconds"]
    rows = [
        (text, *(f"{took[key]:.3g} s, {took['nchw'] / took[key]:.2f} times as fast" for took in (first, unrolled)))
        for key, text in names.items()
        if key in first
    ]
    rows[0] = (rows[0][0], *(f"{took['nchw']:.3g} s" for took in (first, unrolled)))
    sizes = f"{result['init_channels']} channels, {result['layers']} cells, 32x32, batch {result['batch_size']}"
    head = f"{sizes}; {on(result)}; median of {result['repeats']} steps.\n\n"
    return head + markdown(("a step", "first order", "second order, finite differences"), rows)


def search_operations() -> str:
    """Tensor operations of a step and bytes kept for backward."""
    result = read("search_step-amd_epyc")
    ratios = {
        "plain": "saved_bytes_ratio_plain",
        "few, large operations (by torch)": "saved_bytes_ratio_stacked",
        "few, large operations (by Triton)": "saved_bytes_ratio",
        "the same with `--checkpoint_cells`": "saved_bytes_ratio_checkpoint_cells",
    }
    original = result["saved_bytes_original"]
    rows = [("the 2018 structure", gib(original), "1")]
    rows += [(text, gib(original * result[key]), f"{result[key]:.3f}") for text, key in ratios.items() if key in result]
    counts = (
        f"Tensor operations of a step, views aside: {result['ops_first_order']:,} instead of "
        f"{result['ops_first_order_original']:,} in first order, {result['ops_unrolled']:,} instead of "
        f"{result['ops_unrolled_original']:,} in second order.\n"
    )
    return markdown(("supernet", "kept for backward by one pass", "of the 2018 structure's"), rows) + "\n" + counts


def search_cifar10() -> str:
    """A search of CIFAR-10 on a GPU."""
    result = read("search_cifar10-nvidia_h200")
    rate = statistics.median(result["images_per_second"])
    rows = [
        ("images per second", f"{rate:,.0f}"),
        ("seconds per step", f"{result['seconds_per_step']:.4f}"),
        ("seconds per epoch of 390 steps", f"{390 * result['seconds_per_step']:.1f}"),
        ("validation accuracy after one epoch", f"{result['epoch_1']['valid_accuracy']:.2f} %"),
    ]
    head = f"`{result['command']}`; {on(result)}; images: {result['images']}.\n\n"
    return head + markdown(("first order, form " + result["form"], "measured"), rows)


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


def loader() -> str:
    """Images per second of each loader of ImageNet."""
    names = {
        "torchvision": "torchvision",
        "dali": "dali, decoding on the CPU",
        "dali_exact": "dali, `--jitter exact`",
        "dali_gpu": "dali, decoding on the GPU",
        "dali_gpu_exact": "the same, `--jitter exact`",
    }
    columns = [read("loader-amd_epyc"), read("loader-nvidia_h200")]
    rows = [
        (text, *(f"{c['images_per_s'][key]:,.0f}" if key in c["images_per_s"] else "" for c in columns))
        for key, text in names.items()
    ]
    rows.append(("the network alone, on batches that are there", *(f"{c['model_images_per_s']:,.0f}" for c in columns)))
    return markdown(
        ("images per second", *(f"{c['machine'].split(',')[0]}, {c['threads']} threads" for c in columns)), rows
    )


def train_step() -> str:
    """A training step on a CPU, against the 2018 loop."""
    result = read("train_step-amd_epyc")
    forms = {
        "2018_nchw": "the 2018 loop",
        "2018_channels_last": "the same in channels_last",
        "plain": "`--network plain`",
        "fast": "`--network fast`",
    }

    def cell(name: str, form: str) -> str:
        seconds, times = result[name]["seconds"], result[name]
        faster = 1 if form == "fast" else times[f"vs_{form}"]
        return f"{seconds[form]:.3g} s, {times['vs_2018_nchw'] / faster:.2f} times as fast"

    rows = [(text, *(cell(name, form) for name in ("cifar", "imagenet"))) for form, text in forms.items()]
    sizes = (
        f"{timed['init_channels']} channels, {timed['layers']} cells, batch {timed['batch_size']}"
        for timed in (result[name]["timed"] for name in ("cifar", "imagenet"))
    )
    return f"{on(result)}; median of {result['rounds']} rounds.\n\n" + markdown(
        ("a step", *(f"{name}: {size}" for name, size in zip(("CIFAR", "ImageNet"), sizes, strict=True))), rows
    )


def train_evaluation() -> str:
    """What the evaluation of an epoch costs beside its steps."""
    timed, counted = read("train_evaluation-amd_epyc"), read("train_operations")
    rows = [
        (
            text,
            f"{100 * counted[name]['evaluation_traffic_share']:.1f} %",
            f"{100 * timed[name]['evaluation']['share_of_epoch']:.1f} %",
        )
        for name, text in (
            ("cifar", "CIFAR: 10,000 images after 50,000"),
            ("imagenet", "ImageNet: 50,000 after 1,281,167"),
        )
    ]
    header = ("one evaluation, as a share of an epoch's steps", "traffic", f"time ({on(timed)})")
    return markdown(header, rows)


def train_operations() -> str:
    """Operations, kernels and traffic of a training step."""
    result = read("train_operations")
    settings = {
        "cifar": "CIFAR, 36 channels, 20 cells, batch 96",
        "imagenet": "ImageNet, 48 channels, 14 cells, batch 128",
    }
    forms = {"": "fast", "_plain": "plain", "_2018": "the 2018 loop"}
    rows = [
        (
            text if form == "fast" else "",
            form,
            *(f"{result[name][what + suffix]:,}" for what in ("ops", "kernels")),
            f"{result[name]['gigabytes' + suffix]:.1f} GB",
        )
        for name, text in settings.items()
        for suffix, form in forms.items()
    ]
    return markdown(("a step in float32", "network", "operations", "kernels", "traffic"), rows)


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


def scaling() -> str:
    """Predicted rates on several GPUs."""
    result = read("scaling")
    fabrics = {"8 GPUs, NVLink": ("NVLink", 8), "64, 8 by NVLink, InfiniBand": ("8 by NVLink, InfiniBand", 64)}
    fabrics["64, InfiniBand"] = ("InfiniBand", 64)
    rows = []
    for name, step in result["steps"].items():
        by_count = {row["gpus"]: row for row in step["rows"]}
        cells = [by_count[gpus][fabric] for fabric, gpus in fabrics.values()]
        verdict = step["verdicts"]["8 by NVLink, InfiniBand"]
        rows.append(
            (
                f"`{name}`",
                step["images"],
                f"{sum(step['messages']) / 1e6:.1f} MB",
                *(f"{cell['images_per_s']:,.0f} ({100 * cell['efficiency']:.0f} %)" for cell in cells),
                verdict["gpus_at_goal"],
                verdict["images_for_goal"],
                f"{step['whole_batch']} on {verdict['fastest_split']}",
            )
        )
    header = (
        "step",
        "images per GPU",
        "averaged",
        *fabrics,
        "95 % up to",
        "images for 95 % on 64",
        "one batch, soonest",
    )
    return markdown(header, rows)


def scaling_check() -> str:
    """The model of scaling beside real processes."""
    result = read("scaling")
    rows = [
        (
            f"{checked['ranks']} on {checked['cores']} cores",
            f"{checked['bandwidth'] / 1e9:.2f} GB/s, {1e3 * checked['latency_s']:.2f} ms",
            f"{checked['without_averaging_s']:.3f} s",
            f"{checked['predicted_s']['side_by_side']:.3f} s",
            f"{checked['step_s']:.3f} s",
            f"{100 * checked['errors']['side_by_side']:+.0f} %",
        )
        for checked in result["check"]
    ]
    header = ("processes", "gloo's link, measured", "step without averaging", "predicted", "measured", "off by")
    return f"{on(result)}, busy with other work; medians of 15.\n\n" + markdown(header, rows)


def epoch_overhead() -> str:
    """What an epoch takes beside its steps and its validation."""
    result = read("epoch_overhead-amd_epyc")
    took = result["seconds"]
    rest = took["epochs"] - took["steps"] - took["validation"]
    return (
        f"With `{' '.join(result['flags'])}`, {took['epochs']:.1f} s of epochs are {took['steps']:.1f} s of steps, "
        f"{took['validation']:.1f} s of validation and {rest:.1f} s of all else (batches, records, checkpoints): "
        f"{100 * result['overhead_share']:.1f} % of the steps' time ({on(result)}).\n"
    )


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
