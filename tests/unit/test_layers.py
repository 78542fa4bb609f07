"""Imports point down the layers only, as MAY_IMPORT has them from top to bottom."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "darts_hpc"
MODULES = sorted(PACKAGE.rglob("*.py"))
BASE = {"durable", "errors", "imports", "locks", "progress", "strict_json", "suggest", "units", "openmp"}
BASE |= {"allocator", "terminal", "user_files", "data.sets.table"}
"""Small modules without torch that import nothing of the package."""
ANYONE = {"distributed", "counter_rng", "optimizers"} | BASE
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
    "memory": {"training", "run", "search", "models", "space", "data", "config"} | ANYONE,
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
    "optimizers": set(),
    **{module: set() for module in BASE},
}


def module_name(path: Path) -> str:
    """The dotted name of a file in the package."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


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
    layer = layer_of(module_name(path))
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
    assert not any(name.startswith("torch.nn.parallel") for name in names)
    if path.parent != PACKAGE / "config":
        assert not outside & {"tyro", "yaml"}
    if layer not in ("entry", "api", "commands", "commands.export", "config"):
        assert not any(name.startswith("darts_hpc.config.cli") for name in names)


BARE = "|".join(
    (
        r"(\w+\.)*(torch|json|np|numpy|pickle|yaml)\.(safe_)?loads?(_all)?",
        r"yaml\.parse",
        r"os\.(walk|listdir|scandir|open|stat)",
        r"open",
        r"(?![A-Z]\w+\.open$).*\.open",
        r"(tarfile|Image)\.open",
        r".*\.(read_text|read_bytes|iterdir|glob|rglob|exists|is_file|is_dir|resolve)",
    )
)
"""What opens, lists, looks at or parses a file; World.open and the like are this package's own."""
OWN_CHECKS = {
    "user_files": "the door itself",
    # files of this package or of the machine
    "config.cli": "the shipped presets, and /dev/null",
    "config.yaml_text": "parses what the door has read, within bounds of its own",
    "openmp": "/proc",
    "distributed.identity": "/proc",
    "memory.available": "/proc and control groups",
    "commands.calibrate": "/proc",
    "campaigns.executors": "/proc, and the package's slurm/site.sh",
    "terminal": "/dev/null",
    "pictures.cells": "a picture that this package has just drawn",
    "space.genotypes": "the published cells in the package; other files by the door",
    "space.genotype_text": "parses what the door has read, within bounds of its own",
    # what this process writes
    "durable": "writes",
    "locks": "writes and locks",
    "run.folder": "writes; checks what is in the way",
    "campaigns.command": "writes a job's log",
    "campaigns.control": "marks in the campaign's folder, which it holds",
    "commands.export": "reads back what it has just written, from memory",
    "training.snapshots": "reads with the door, and torch parses plain data",
    # own checks, at their own places
    "run.metrics": "own checks: a run's records, which the run holds locked",
    "run.weights": "own checks: weights of any layout",
    "run.checkpoint": "own checks: every byte against a digest",
    "data": "own checks: a million images, tars, manifests and downloads",
}
"""Module, or folder of modules -> why it may do without the door (user_files) for what a user names."""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_what_a_user_names_goes_through_the_door(path: Path):
    module = module_name(path)
    if any(f"{module}.".startswith(f"{own}.") for own in OWN_CHECKS):
        return
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    bare = [f"line {call.lineno}: {ast.unparse(call.func)}" for call in calls if is_bare(call)]
    assert not bare, f"read it by darts_hpc.user_files, or say in OWN_CHECKS why not: {', '.join(bare)}"


def is_bare(call: ast.Call) -> bool:
    """Whether a call opens, lists, looks at or parses a file without the door."""
    return re.fullmatch(BARE, ast.unparse(call.func), re.DOTALL) is not None


@pytest.mark.parametrize(
    ("code", "bare"),
    [
        ("open(path)", True),
        ("path.open('rb')", True),
        ("(folder / 'x').read_text()", True),
        ("Path(x).read_bytes()", True),
        ("torch.load(file)", True),
        ("safetensors.torch.load(data)", True),
        ("json.loads(text)", True),
        ("np.load(file)", True),
        ("yaml.safe_load(text)", True),
        ("folder.iterdir()", True),
        ("folder.glob('*')", True),
        ("os.walk(folder)", True),
        ("tarfile.open(path)", True),
        ("Image.open(path)", True),
        ("path.is_file()", True),
        ("path.resolve()", True),
        ("World.open(device)", False),
        ("read_text(path)", False),
        ("parse_json(text, path)", False),
        ("exists(path)", False),
        ("json.dumps(value)", False),
        ("part.load_state_dict(state)", False),
    ],
)
def test_what_counts_as_bare(code: str, bare: bool):
    (call,) = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)][:1]
    assert is_bare(call) == bare


@pytest.mark.parametrize("module", OWN_CHECKS)
def test_a_module_that_may_do_without_the_door_is_there_and_does(module: str):
    places = [path for path in MODULES if f"{module_name(path)}.".startswith(f"{module}.")]
    calls = [node for path in places for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert any(map(is_bare, calls))
