"""darts, or python -m darts_hpc: the list of commands, and the way to each: darts search, darts train, ..."""

import runpy
import sys
from collections.abc import Sequence

from darts_hpc import __version__
from darts_hpc.config import program
from darts_hpc.config.cli import quiet_when_the_reader_leaves, refuse
from darts_hpc.config.completion import SHELLS, completion
from darts_hpc.suggest import did_you_mean

COMMANDS = {
    "Search": {
        "search": "search a cell",
        "plan": "what memory a step needs, and what would fit",
        "select_cell": "select the cell of a finished search anew, by perturbation",
        "campaign": "from N searches to a table; then status, report, cancel",
    },
    "Train": {
        "train": "train a found or published cell on small images",
        "train_imagenet": "train it on ImageNet",
        "evaluate": "test trained weights",
    },
    "Look and use": {
        "report": "compare runs: table, curves, cells, as a page and as files",
        "visualize": "draw a cell as SVG, PDF and PNG",
        "export": "write a trained network as ONNX, torch.export or safetensors",
    },
    "ImageNet's files": {
        "pack": "pack images into tar shards",
        "stage": "copy images to a disk of this node",
    },
}
"""Task -> command -> what it does. A command is a module of this package, but for program.MODULES."""
NAMES = [name for group in COMMANDS.values() for name in group]


def main() -> None:
    """Start the command that the first word names, or list them all."""
    start = "python -m darts_hpc" if sys.argv[0].endswith("__main__.py") else "darts"
    word, rest = (sys.argv[1] if len(sys.argv) > 1 else "--help"), sys.argv[2:]
    if word == "help":
        word, rest = (rest[0], ["--help"]) if rest else ("--help", [])
    name = word if word.startswith("-") else word.replace("-", "_")
    name = {module: command for command, module in program.MODULES.items()}.get(name, name)
    if name in NAMES:
        program.started_as = f"{start} {name}"
        sys.argv[1:] = rest
        runpy.run_module(f"darts_hpc.{program.MODULES.get(name, name)}", run_name="__main__", alter_sys=True)
        return
    try:
        with quiet_when_the_reader_leaves():
            print(answer(start, word, rest))
    except ValueError as error:
        refuse(error)


def answer(start: str, word: str, rest: Sequence[str]) -> str:
    """Return what is printed for a word that is no command. Raises ValueError for an unknown one, with the nearest."""
    if word in ("-h", "--help"):
        return listing(start)
    if word == "--version":
        return f"darts_hpc {__version__}"
    if word == "completion":
        if {"-h", "--help"} & set(rest):
            shells = "|".join(SHELLS)
            return f"usage: {start} completion [{shells}]\n\nPrint a script by which a shell completes flags."
        return completion(rest[0] if rest else "bash")
    kind = "flag" if word.startswith("-") else "command"
    known = [*NAMES, "completion", "--help", "--version"]
    raise ValueError(f"unknown {kind} {word!r}; {did_you_mean(word, known, f'{start} lists the known ones')}")


def listing(start: str) -> str:
    """Return the commands by task, a line each."""
    lines = [f"usage: {start} COMMAND [--flag value ...]", "", f"{start} COMMAND --help explains each."]
    for task, commands in COMMANDS.items():
        lines += ["", task, *(f"  {name:<15} {what}" for name, what in commands.items())]
    lines += [
        "",
        "Shell",
        f"  {'completion':<15} print a script by which a shell completes flags ({', '.join(SHELLS)})",
    ]
    return "\n".join([*lines, f"  {'--version':<15} show the version"])


if __name__ == "__main__":
    main()
