"""Imports point down the layers only, as MAY_IMPORT has them from top to bottom."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "darts_hpc"
MODULES = sorted(PACKAGE.rglob("*.py"))
BASE = {"durable", "errors", "locks", "progress", "strict_json", "suggest", "units", "openmp"}
BASE |= {"terminal", "user_files", "data.sets.table"}
"""Small modules without torch that import nothing of the package."""
ANYONE = {"distributed", "counter_rng"} | BASE
WITHOUT_TORCH = ("darts_hpc.run.reader", "darts_hpc.run.requeue")
"""Modules of run that import no torch, which takes seconds."""
MAY_IMPORT = {
    # reads the command line, and imports the command only then; of run its reader
    "entry": {"commands", "commands.export", "run", "space", "config"} | BASE,
    "__init__": {"api"},  # lazily, so that `import darts_hpc` stays light
    "commands": {"campaigns", "memory", "training", "run", "search", "models", "space", "data", "config"}
    | {"reporting", "pictures"}
    | ANYONE,
    "commands.export": {"api", "models", "run", "space", "config"} | ANYONE,
    # from Python, what two commands do from a shell
    "api": {"commands", "timm_models", "models", "run", "search", "space", "data", "config"} | ANYONE,
    "timm_models": {"models", "space", "data"} | ANYONE,
    "campaigns": {"models", "space", "data", "config", "reporting", "run", "pictures"} | ANYONE,  # of run WITHOUT_TORCH
    "memory": {"training", "search", "models", "space", "data", "config"} | ANYONE,
    "training": {"run", "search", "models", "space", "data", "config"} | ANYONE,
    "run": {"space", "config", "pictures"} | ANYONE,
    "search": {"models", "space", "config"} | ANYONE,
    "models": {"space"} | ANYONE,
    "data": {"config"} | ANYONE,
    "space": ANYONE,
    "distributed": ANYONE,
    "reporting": {"run", "space", "config", "pictures"} | BASE,  # of run its reader
    "pictures": {"space"},
    "config": {"distributed"} | BASE,  # its launcher, to know which of many processes says what is wrong with a flag
    "counter_rng": set(),
    **{module: set() for module in BASE},
}


def imported_modules(path: Path) -> set[str]:
    """Dotted names of everything a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def layer_of(name: str) -> str:
    """The layer of a module, or of a name in it: its folder, or a file within one that has rules of its own."""
    own = [module for module in MAY_IMPORT if "." in module and f"{name}.".startswith(f"{module}.")]
    return own[0] if own else name.partition(".")[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_point_down_the_layers(path: Path):
    layer = layer_of(".".join(path.relative_to(PACKAGE).with_suffix("").parts))
    layer = layer if layer in MAY_IMPORT else "entry"
    names = imported_modules(path)
    inside = {layer_of(name.removeprefix("darts_hpc.")) for name in names if name.startswith("darts_hpc.")}
    inside -= {"__version__"}
    assert inside <= MAY_IMPORT[layer] | {layer}
    outside = {name.split(".")[0] for name in names}
    if path.name in ("genotypes.py", "reader.py", "requeue.py") or layer in ("config", "reporting", *BASE):
        assert "torch" not in outside
    if layer in ("entry", "campaigns", "reporting"):  # a look at runs needs no torch
        assert all(name.startswith(WITHOUT_TORCH) for name in names if name.startswith("darts_hpc.run."))
    if path.parent != PACKAGE / "config":
        assert not outside & {"tyro", "yaml"}
    if layer not in ("entry", "api", "commands", "commands.export", "config"):
        assert not any(name.startswith("darts_hpc.config.cli") for name in names)
