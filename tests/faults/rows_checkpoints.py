"""Checkpoints that are damaged, forged, or of another layout; one that is whole is gone on from."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from row import GO_ON, Fault, Row, copied, flip, replaced, terabyte, to_device

from darts_hpc.run.checkpoint import MANIFEST, CheckpointStore, _digest, read_checkpoint

DAMAGED = "every checkpoint in"
LAYOUT = "is not as this version writes it; go on with the version that wrote it"


def forged(change: Callable[[dict], object], first: int = 0) -> Fault:
    """Copy a stopped training, and forge its manifests from the first-th; digests fit."""

    def forge(things: Path, new: Path) -> None:
        for manifest in sorted(copied(things, new, "stopped/train").rglob(MANIFEST))[first:]:
            content = json.loads(manifest.read_text())
            del content["sha256"]
            change(content)
            manifest.write_text(json.dumps({**content, "sha256": _digest(content)}))

    return forge


def changed(change: Callable[[Path], object], first: int = 0) -> Fault:
    """Copy a stopped training, and change its checkpoint folders from the first-th."""

    def act(things: Path, new: Path) -> None:
        for folder in sorted(copied(things, new, "stopped/train").glob("checkpoints/step-*"))[first:]:
            change(folder)

    return act


def of_another_layout(change: Callable[[dict], object], run: str = "stopped/train") -> Fault:
    """Copy a run, and change the state in its checkpoints, all digests in order."""

    def rewrite(things: Path, new: Path) -> None:
        folder = copied(things, new, run) / "checkpoints"
        found = [read_checkpoint(path) for path in sorted(folder.glob("step-*"))]
        shutil.rmtree(folder)
        for checkpoint in found:
            names = [name.removesuffix(".pt") for name in checkpoint.files]
            payloads = {name: checkpoint.load(name) for name in names}
            change(payloads["state"])
            CheckpointStore(folder).save(checkpoint.step, payloads, checkpoint.fingerprint)

    return rewrite


FORGED = {
    "a step that is text": lambda content: content.update(step="x"),
    "a fingerprint that is a list": lambda content: content.update(fingerprint=[]),
    "files that are a list": lambda content: content.update(files=["state.pt"]),
    "a digest that is a number": lambda content: content.update(files={"state.pt": 5}),
    "a file outside": lambda content: content["files"].update({"../x": {"bytes": 0, "sha256": ""}}),
    "a file of an exabyte": lambda content: content["files"]["state.pt"].update(bytes=1 << 60),
}
IN_PLACE = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a device": to_device,
    "nothing": lambda path: None,
    "a terabyte": terabyte,
    "brackets": lambda path: path.write_text("[" * 100_000),
}
LAYOUTS = {
    "no objects": lambda state: state.pop("objects"),
    "objects that are a list": lambda state: state.update(objects=[]),
    "another network": lambda state: state["objects"].update(network={"a": torch.ones(1)}),
    "another optimizer": lambda state: state["objects"].update(optimizer=[]),
    "a position in words": lambda state: state["position"].update(epoch="two"),
    "a meter of another size": lambda state: state.update(meter=torch.zeros(9)),
    "records below zero": lambda state: state["records"].update(metrics=-1),
}
SEARCHES = {
    "no objects": lambda state: state.pop("objects"),
    "another supernet": lambda state: state["objects"].update(supernet={"a": torch.ones(1)}),
    "no architect": lambda state: state["objects"].pop("architect"),
}
SELECT = ("select_cell", "{new}/run", "--save", "{new}/selection/", "--device", "cpu")
CHECKPOINTS = (
    *(Row(f"a forged manifest: {kind}", GO_ON, DAMAGED, forged(change)) for kind, change in FORGED.items()),
    *(
        Row(f"{kind} as {file} of all checkpoints", GO_ON, DAMAGED,
            changed(lambda folder, file=file, put=put: replaced(folder / file, put)))
        for file in (MANIFEST, "state.pt") for kind, put in IN_PLACE.items()
    ),
    *(
        Row(f"{kind} as state.pt of the newest checkpoint", GO_ON, runs=True, code=0, finishes="train",
            fault=changed(lambda folder, put=put: replaced(folder / "state.pt", put), first=1))
        for kind, put in list(IN_PLACE.items())[::3]
    ),
    Row("a flipped bit in the newest checkpoint", GO_ON, runs=True, code=0, finishes="train",
        fault=changed(lambda folder: flip(folder / "state.pt"), first=1)),
    Row("a forged newest checkpoint", GO_ON, runs=True, code=0, finishes="train",
        fault=forged(lambda content: content.update(files=[]), first=1)),
    *(
        Row(f"a checkpoint of another layout: {kind}", GO_ON, LAYOUT, of_another_layout(change), runs=True)
        for kind, change in LAYOUTS.items()
    ),
    *(
        Row(f"a search of another layout: {kind}", SELECT, LAYOUT, of_another_layout(change, "runs/search"), runs=True)
        for kind, change in SEARCHES.items()
    ),
    Row("a forged world size", GO_ON, "world_size", runs=True,
        fault=forged(lambda content: content["fingerprint"].update(world_size="2"))),
)  # fmt: skip
