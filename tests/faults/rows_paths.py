"""Each flag that names a path, with paths that are none."""

from collections.abc import Iterator

from row import EVALUATE, IMAGENET, NEW_RUN, TRAIN, Row, arch, config, without_privileges

FLAGS = {
    "save": (*TRAIN, "--save", "{path}/run/"),
    "resume": (*TRAIN, "--resume", "{path}"),
    "data": (*TRAIN, "--dataset", "folder", "--data", "{path}"),
    "data of imagenet": (*IMAGENET, *NEW_RUN, "--data", "{path}"),
    "manifest": (*IMAGENET, *NEW_RUN, "--data", "{things}/images", "--manifest", "{path}"),
    "arch": arch("{path}"),
    "config": config("{path}"),
    "model_path": (*EVALUATE, "--model_path", "{path}"),
    "visualize": ("visualize", "{path}"),
    "output of visualize": ("visualize", "DARTS", "--format", "svg", "--output", "{path}/x"),
    "report": ("report", "{path}"),
    "output of report": ("report", "{things}/runs/train", "--output", "{path}/x"),
    "export": ("export", "{path}"),
    "output of export": ("export", "{things}/runs/train", "--format", "safetensors", "--output", "{path}/x"),
    "select_cell": ("select_cell", "{path}"),
    "pack": ("pack", "{path}", "{new}/packed"),
    "destination of pack": ("pack", "{things}/images", "{path}/x"),
    "stage": ("stage", "{path}", "{new}/staged"),
    "destination of stage": ("stage", "{things}/images", "{path}/x"),
    "campaign": ("campaign", "--config", "configs/campaign/tiny.yaml", "--save", "{path}/x"),
    "campaign status": ("campaign", "status", "{path}"),
}
"""What names it -> a whole command."""
PATHS = {
    "too long a name": ("{things}/" + "y" * 300, 4),
    "a folder one may not enter": ("{things}/odd/locked/x", 1),
    "a name that is not UTF-8": ("{things}/caf\udce9", 4),
    "too long a path": ("{things}/" + "z/" * 2500, 7),
    "a link to itself": ("{things}/odd/loop", 6),
    "a file as a folder": ("{things}/odd/empty/x", 5),
}
"""Kind -> the path, and with every how many-th of the flags it is tried; test_user_paths.py has all."""


def rows_of_paths() -> Iterator[Row]:
    """Yield a row for each flag and kind of path."""
    for kind, (path, step) in PATHS.items():
        for flag, command in list(FLAGS.items())[::step]:
            words = tuple(word.replace("{path}", path) for word in command)
            yield Row(f"{kind}: {flag}", words, before=without_privileges if "locked" in path else lambda: None)
