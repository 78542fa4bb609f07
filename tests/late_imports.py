"""What entries import late, and take a second for: once in the process of the tests instead of in every fork of it."""

import contextlib
import importlib

DRAWING = ("matplotlib.figure", "matplotlib.backends.backend_pdf", "matplotlib.backends.backend_svg", "jinja2")
ONNX = ("torch.onnx._internal.exporter._compat", "onnxscript.function_libs.torch_lib.ops")
IMPORTS = {
    "report": ("darts_hpc.commands.report", *DRAWING),
    "campaign": ("darts_hpc.commands.campaign", "darts_hpc.commands.calibrate", "submitit", "scipy.stats", *DRAWING),
    "export": ("darts_hpc.commands.export", "torch.export._trace", "onnxruntime", *ONNX),
}


def import_for(entry: str) -> None:
    """Import what is installed of what an entry imports late."""
    for module in IMPORTS.get(entry, ()):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
