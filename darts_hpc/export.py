"""Write a trained network for use elsewhere: python -m darts_hpc.export RUN --format onnx|torch_export|safetensors."""

from darts_hpc.config.cli import run_entry
from darts_hpc.config.export import ExportConfig


def main(cfg: ExportConfig) -> None:
    """Export."""
    from darts_hpc.commands import export

    export.main(cfg)


if __name__ == "__main__":
    run_entry(main, ExportConfig)
