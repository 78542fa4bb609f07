"""The machine that a benchmark runs on."""

import platform
from pathlib import Path

import torch


def machine(device: torch.device, threads: int) -> str:
    """Return the model name of the GPU, or that of the CPU and how many of its threads were used."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())
    return f"{model}, {threads} threads"
