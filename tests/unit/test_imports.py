"""What is imported to last is not searched for garbage, and the rest of the process goes on as it was."""

import gc
from pathlib import Path

import pytest

from darts_hpc.imports import import_lasting

MANY_OBJECTS = "objects = [[number] for number in range(100_000)]\n"


def test_nothing_is_collected_during_the_import_nor_looked_at_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "large.py").write_text(MANY_OBJECTS)
    (tmp_path / "wrong.py").write_text(f"{MANY_OBJECTS}raise ZeroDivisionError\n")
    monkeypatch.syspath_prepend(tmp_path)
    phases, frozen = [], gc.get_freeze_count()
    gc.callbacks.append(lambda phase, info: phases.append(phase))
    try:
        import_lasting("large")
        with pytest.raises(ZeroDivisionError):
            import_lasting("wrong")
    finally:
        gc.callbacks.pop()
    assert phases == [] and gc.isenabled() and gc.get_freeze_count() > frozen + 100_000
