"""Texts that users name: presets, sizes in them, cells, and the records of runs."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from row import GO_ON, TRAIN, Fault, Row, arch, config, copied


def preset(text: str) -> Fault:
    """Put a preset at {new}/preset.yaml."""
    return lambda things, new: (new / "preset.yaml").write_text(text)


ODD = config("{new}/preset.yaml")
PRESETS = (
    Row("a preset that is nested 100,000 deep", config("{things}/odd/deep.yaml"), "deep.yaml"),
    Row("a preset that unfolds to gigabytes", config("{things}/odd/laughs.yaml"), "laughs.yaml"),
    Row("a preset of a terabyte", config("{things}/odd/huge"), "bytes; expected at most"),
    Row("a preset that is a pipe", config("{things}/odd/pipe"), "odd/pipe"),
    Row("a preset in Latin-1", config("{things}/odd/latin1"), "UTF-8"),
    Row("a preset in UTF-16", config("{things}/odd/utf16"), "odd/utf16"),
    Row("a preset with a doubled key", ODD, "epochs", preset("epochs: 1\nepochs: 2\n")),
    Row("a preset with a NUL in a path", ODD, "NUL", preset('save: "a\\0b/"\n')),
    Row("a preset that is a list", ODD, "expected lines of the form flag: value", preset("[1, 2]")),
    Row("a preset with a section", ODD, "not a list or a section", preset("epochs: {a: 1}\n")),
    Row("a preset with an object", ODD, "preset.yaml", preset("epochs: !!python/object/apply:os.getcwd []\n")),
    Row("a preset with 5,000 digits", ODD, "preset.yaml", preset(f"epochs: {'9' * 5000}\n")),
)
SIZES = tuple(
    Row(f"a size that overflows: {flag} {value}", (*TRAIN, f"--{flag}", value), f"--{flag} {value}: expected")
    for flag, value in {
        "image_size": "1000000",
        "init_channels": "1000000000000",
        "layers": "1000000000",
        "batch_size": "99999999999999999999",
        "seed": "99999999999999999999",
    }.items()
)

BILLION = "Genotype(normal=[], normal_concat=range(-1000000000, 3), reduce=[], reduce_concat=[2])"
CELLS = (
    Row("a cell that is nested 100,000 deep", arch("{things}/odd/deep.json"), "deep.json"),
    Row("a cell with 5,000 digits", arch("{things}/odd/digits.json"), "digits.json"),
    *(
        Row(f"a cell that is the JSON of {kind}", arch(f"{{things}}/odd/{kind}.json"), f"{kind}.json: genotype")
        for kind in ("null", "list", "text")
    ),
    *(Row(f"a cell that is odd/{kind}", arch(f"{{things}}/odd/{kind}"), f"odd/{kind}") for kind in ("pipe", "zero")),
    Row("a cell of a terabyte", arch("{things}/odd/huge"), "odd/huge"),
    Row("a cell with a range of a billion", arch(BILLION), "or a range up to 100"),
    Row("NNI's choice of a cell", arch('{"normal/op_2_0": "sep_conv_3x3"}'), "this is NNI's choice"),
    Row("a cell's name in lower case", arch("darts_v2"), "did you mean DARTS_V2?"),
)


def result(content: str) -> Fault:
    """Copy a training, and write its result.json anew."""
    return lambda things, new: (copied(things, new, "runs/train") / "result.json").write_text(content)


RESULTS = tuple(
    Row(f"{command} of a run whose result.json is {kind}", (command, "{new}/run"), "result.json", result(content))
    for kind, content in {"nested deep": "[" * 100_000, "null": "null", "a list": "[]", "cut": '{"status": "f'}.items()
    for command in ("report", "export")
)


def metrics(change: Callable[[Path], object]) -> Fault:
    """Copy a stopped training, and change its metrics.jsonl."""
    return lambda things, new: change(copied(things, new, "stopped/train") / "metrics.jsonl")


def cut(share: float, less: int = 0) -> Callable[[Path], object]:
    """Leave a share of a file, and some bytes less."""
    return lambda path: os.truncate(path, max(0, int(share * path.stat().st_size) - less))


SHORT = Row("metrics that are a byte short", GO_ON, fault=metrics(cut(1, 1)), runs=True, code=0, finishes="train")
METRICS = (
    SHORT,
    *(
        replace(SHORT, name=f"metrics that are {kind}", fault=metrics(change), loses_records=True)
        for kind, change in {
            "half there": cut(0.5),
            "empty": cut(0),
            "gone": Path.unlink,
            "nested deep": lambda path: path.write_text("[" * 100_000 + "\n"),
            "no text": lambda path: path.write_bytes(b"\xff" * 100_000),
        }.items()
    ),
)
