"""The measured tables of speed: steps, operations, loaders, whole epochs, and many GPUs."""

import statistics
from typing import Any

from measured import gib, markdown, on, read


def _size(result: dict[str, Any]) -> str:
    """Say of which network and batch a step of the search is."""
    return f"{result['init_channels']} channels, {result['layers']} cells, 32x32, batch {result['batch_size']}"


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
    head = f"{_size(result)}; {on(result)}; median of {result['repeats']} steps.\n\n"
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


def search_family() -> str:
    """What a step of each preset costs beside plain DARTS."""
    result = read("search_family-amd_epyc")
    rows = [
        (f"`{name.replace('darts_s', '--space s')}`", *(f"{share[key]:.2f}" for key in ("time", "memory", "peak")))
        for name, share in result["shares"].items()
        if name != "darts"
    ]
    head = f"{_size(result)}; {on(result)}; median of {result['repeats']} steps, in turns. Plain DARTS is 1.\n\n"
    return head + markdown(("a step of first order", "time", "kept for backward", "planned peak"), rows)


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
