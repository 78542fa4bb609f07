"""Weights that were cut short are called damaged, wherever the cut is."""

from pathlib import Path

import pytest
import torch

from darts_hpc.run.weights import read_weights


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_damaged_and_not_unreadable(share, tmp_path: Path):
    path = tmp_path / "weights.pt"
    torch.save({f"layer.{i}.weight": torch.randn(10, 10) for i in range(40)}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="is damaged or holds no state dict") as refusal:
        read_weights(path)
    assert "\n" not in str(refusal.value)
