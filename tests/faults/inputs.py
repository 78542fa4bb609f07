"""Random bad inputs: mutations of flags, presets, genotypes, JSON, paths and images."""

import io
import json
import os
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from attempts import BEGAN, Outcome, attempt, changes, contents
from PIL import Image

Finding = tuple[str, str]
"""What went wrong, one of soak.VERDICTS, and in which words."""

COMMANDS = (
    ("train_search", "--config", "{things}/presets/search.yaml", "--save", "{new}/run/"),
    ("train", "--config", "{things}/presets/train.yaml", "--save", "{new}/run/", "--arch", "{things}/cells/cell.txt"),
    ("train", "--config", "{things}/presets/train.yaml", "--dataset", "folder", "--data", "{things}/images"),
    ("train_imagenet", "--config", "{things}/presets/imagenet.yaml", "--save", "{new}/run/"),
    ("train_imagenet", "--loader", "torchvision", "--data", "{things}/images", "--arch", "DARTS_V1", "--layers", "3",
     "--init_channels", "4", "--batch_size", "2", "--device", "cpu", "--workers", "1", "--save", "{new}/run/"),
    ("evaluate", "--model_path", "{things}/runs/train"),
    ("evaluate", "--model_path", "{things}/weights/whole.pt", "--arch", "DARTS_V1", "--dataset", "digits",
     "--image_size", "4", "--init_channels", "4", "--layers", "3", "--device", "cpu"),
    ("visualize", "{things}/cells/cell.json", "--format", "svg", "--output", "{new}"),
    ("report", "{things}/runs/search", "{things}/runs/train", "--output", "{new}/report"),
    ("export", "{things}/runs/train", "--format", "safetensors", "--output", "{new}/model.safetensors"),
    ("pack", "{things}/images", "{new}/packed", "--num_threads", "1"),
    ("stage", "{things}/images", "{new}/staged", "--num_threads", "1"),
    ("select_cell", "{things}/runs/search", "--save", "{new}/selection/", "--device", "cpu"),
    ("campaign", "--config", "configs/campaign/tiny.yaml", "--save", "{new}/campaign", "--dry_run"),
    ("campaign", "status", "{things}/runs"),
)  # fmt: skip
"""Whole commands; what a mutation leaves whole in them is accepted."""
FLAGS = (
    "epochs", "layers", "init_channels", "batch_size", "learning_rate", "seed", "save", "resume", "data", "dataset",
    "arch", "config", "image_size", "train_portion", "drop_path_prob", "held_out", "precision", "report_freq",
    "checkpoint_freq", "memory_limit", "cutout_length", "grad_clip", "device", "gpu", "space", "selection", "unrolled",
    "max_bad_images", "manifest", "output", "format", "opset", "search_seeds", "jobs", "hours", "workers",
)  # fmt: skip
NUMBERS = (
    "0", "-1", "1", "2", "3", "7", "1000000", "1000000000", "1000000000000", "2147483648", "9223372036854775808",
    "99999999999999999999", "0.5", "1.0", "1e400", "-0.0", "1e-400", "nan", "inf", "-inf", "0x10", "1_000", "007",
    "9" * 5000, "١٢", "1e3", "--1", "+5", " 5", "5 ",
)  # fmt: skip
WORDS = (
    "", " ", "\n", "\t", "é", "\udce9", "\ufeff", "x" * 300, "x" * 5000, "null", "true", "None", "[]", "{}", "'", '"',
    ":", "%s", "\x1b[31m", "~/x", "~", "..", ".", "/", "/dev/zero", "/dev/full", "/dev/stdin", "/proc/self/mem",
    "/proc/1/root", "/root", "-", "--", "-h-", "12:30:45", "2024_01_05", "a,b", "a b", "$HOME", "*", "a/../b", "//x",
)  # fmt: skip
ODD = ("folder", "pipe", "loop", "nowhere", "zero", "empty", "nul", "latin1", "utf16", "deep.json", "deep.yaml",
       "digits.json", "null.json", "list.json", "text.json", "huge", "laughs.yaml", "locked", "gone", "empty/x",
       "../cells/cell.txt", "../presets/train.yaml", "../weights/bare.pt", "../runs/search", "../runs/train",
       "../runs", "../images", "../images/train/cat/1.png")  # fmt: skip
YAML = (
    "&a",
    "*a",
    "!!python/object/apply:os.getcwd []",
    "<<: {epochs: 1}",
    "- a",
    "---\nepochs: 1",
    "? x",
    "| x",
    "epochs: 1\nepochs: 2",
    "\tepochs: 1",
    "{epochs: 1}",
    "[1, 2]",
    "save: 007",
    "save: 1.10",
    "entry: train",
    "epochs: {a: 1}",
    "epochs: [1]",
    "unrolled: yes",
    "unrolled: 1",
    "1: 2",
    "null: 1",
    "? [a]\n: 1",
    "a: 2024-01-05",
)
PIECES = ("Genotype(", ")", "]", "(", "[", "'", '"', ", ", "range(", "range(2, 6)", "range(-1000000000, 3)", "None",
          "np.int64(0)", "{}", "set()", "*x", "**x", "lambda: 0", "f''", "\\", "#", "\n", "\0", "...", "1j", "True",
          "0" * 400, "(" * 500, "normal=", "reduce=", "x" * 2000)  # fmt: skip


def try_flags(draw: random.Random, things: Path, new: Path) -> Iterator[Finding]:
    """Change a command's flags."""
    command = list(_filled(draw.choice(COMMANDS), things, new))
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        place = draw.randrange(1, len(command) + 1)
        match draw.randrange(6):
            case 0:
                command[place:place] = [f"--{draw.choice(FLAGS)}", _value(draw, things)]
            case 1:
                command[place:place] = [f"--{draw.choice(FLAGS)}={_value(draw, things)}"]
            case 2 if place < len(command):
                command[place] = _value(draw, things)
            case 3 if place < len(command):
                command[place] = _mutated(draw, command[place], WORDS)
            case 4 if place < len(command):
                del command[place]
            case _:
                command.append(draw.choice(command[1:] or ["x"]))
    yield from judged(tuple(command), things, new)


def try_path(draw: random.Random, things: Path, new: Path) -> Iterator[Finding]:
    """Name something odd where a command names a path."""
    command = list(_filled(draw.choice(COMMANDS), things, new))
    places = [place for place, word in enumerate(command) if "/" in word]
    command[draw.choice(places)] = _path(draw, things)
    yield from judged(tuple(command), things, new)


def try_preset(draw: random.Random, things: Path, new: Path) -> Iterator[Finding]:
    """Change a preset's text."""
    entry, name = draw.choice((("train_search", "search"), ("train", "train"), ("train_imagenet", "imagenet")))
    preset = new / "preset.yaml"
    lines = (things / "presets" / f"{name}.yaml").read_text().splitlines()
    for _ in range(draw.choice((1, 1, 2, 3))):
        place = draw.randrange(len(lines))
        key = lines[place].partition(":")[0]
        lines[place] = draw.choice((
            f"{key}: {_value(draw, things)}", _mutated(draw, lines[place], WORDS), draw.choice(YAML),
            f"{lines[place]}\n{draw.choice(YAML)}", f"{draw.choice(FLAGS)}: {_value(draw, things)}",
        ))  # fmt: skip
    _write_text(draw, preset, "\n".join(lines))
    yield from judged((entry, "--config", str(preset), "--save", f"{new}/run/"), things, new)


def try_genotype(draw: random.Random, things: Path, new: Path) -> Iterator[Finding]:
    """Change a genotype's text, in a file or on the command line."""
    text = (things / "cells" / draw.choice(("cell.txt", "cell.json"))).read_text()
    for _ in range(draw.choice((1, 1, 2, 4))):
        text = _mutated(draw, text, PIECES)
    cell = text
    if draw.random() < 0.6 or "\0" in text:
        _write_text(draw, new / "cell", text)
        cell = f"{new}/cell"
    if draw.random() < 0.5:
        yield from judged(("visualize", cell, "--format", "svg", "--output", f"{new}/out"), things, new)
    else:
        preset = ("--config", f"{things}/presets/train.yaml", "--save", f"{new}/run/")
        yield from judged(("train", *preset, "--arch", cell), things, new)


def try_json(draw: random.Random, things: Path, new: Path) -> Iterator[Finding]:
    """Change what is in a run folder's files, and read it with each command that does."""
    name = draw.choice(("search", "train"))
    run = copy_run(things / "runs" / name, new / "given")
    files = [path for path in run.rglob("*") if path.suffix in (".json", ".jsonl", ".yaml", ".txt")]
    path = draw.choice(files)
    _replace(draw, path)
    command = draw.choice((
        ("report", str(run), "--output", f"{new}/report"),
        ("visualize", str(run), "--format", "svg", "--output", f"{new}/cells"),
        ("export", str(run), "--format", "safetensors", "--output", f"{new}/model.safetensors"),
        ("evaluate", "--model_path", str(run)),
        ("select_cell", str(run), "--save", f"{new}/selection/", "--device", "cpu"),
        ("train", "--config", f"{things}/presets/train.yaml", "--arch", str(run), "--save", f"{new}/run/"),
        ("train" if name == "train" else "train_search", "--config", f"{run}/config.yaml", "--save", f"{new}/run/"),
    ))  # fmt: skip
    yield from judged(command, things, new)


def try_image(draw: random.Random, things: Path, new: Path) -> Iterator[Finding]:
    """Change the bytes of an image, or put another kind in its place."""
    root = new / "images"
    for path in (things / "images").rglob("*.*"):
        copy = root / path.relative_to(things / "images")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    for path in draw.sample(sorted(root.rglob("*.*")), draw.choice((1, 1, 3))):
        _replace_image(draw, path, things)
    command = draw.choice((
        ("train", "--config", f"{things}/presets/train.yaml", "--dataset", "folder", "--data", str(root),
         "--image_size", "4", "--batch_size", "2", "--save", f"{new}/run/"),
        ("pack", str(root), f"{new}/packed", "--num_threads", "1"),
        ("stage", str(root), f"{new}/staged", "--num_threads", "1"),
        ("train_imagenet", "--loader", "torchvision", "--data", str(root), "--arch", "DARTS_V1", "--layers", "3",
         "--init_channels", "4", "--batch_size", "2", "--device", "cpu", "--workers", "0", "--save", f"{new}/run/"),
    ))  # fmt: skip
    yield from judged(command, things, new)


KINDS: dict[str, tuple[int, Callable]] = {
    "flags": (30, try_flags),
    "path": (15, try_path),
    "preset": (12, try_preset),
    "genotype": (12, try_genotype),
    "json": (12, try_json),
    "image": (8, try_image),
}


def judged(command: tuple[str, ...], things: Path, new: Path, **how: object) -> Iterator[Finding]:
    """Try a command; yield what is bad about its end, and about what it left."""
    before, there = contents(things), contents(new)
    done = attempt(command, new, **how)  # pyright: ignore[reportArgumentType]
    yield from findings(done)
    touched = changes(before, contents(things))
    if done.code in (0, BEGAN):  # what the command names may be written
        named = [os.path.normpath(word) for word in command]
        touched = [name for name in touched if not any((things / name).is_relative_to(word) for word in named)]
    if touched:
        yield "lost", f"{_shown(done)} changed {touched[:3]}"
    left = [name for name in changes(there, contents(new)) if "/.lock" not in f"/{name}"]
    may_leave = "run folder:" in done.said or any(
        name.endswith(("/.staging", ".writing")) for name in left
    )  # to go on with
    if done.code == 2 and left and not may_leave:
        yield "lost", f"{_shown(done)} was refused and left {left[:3]}: {done.refusals}"


def findings(done: Outcome) -> Iterator[Finding]:
    """Yield what is bad about how a command ended."""
    if done.problem:
        yield f"{done.problem}s", f"{_shown(done)} -> {done.code}: {done.said[-300:]!a}"


def copy_run(run: Path, to: Path) -> Path:
    """Copy a run folder."""
    for path in run.rglob("*"):
        if path.is_file():
            copy = to / path.relative_to(run)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return to


def damaged(draw: random.Random, content: bytes) -> bytes:
    """Flip bits of a file, or cut it."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 20))):
        if changed:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed[: draw.randrange(len(changed) + 1)] if draw.random() < 0.3 else changed)


def _shown(done: Outcome) -> str:
    return " ".join(ascii(word) if len(word) < 100 else f"{word[:60]!a}..({len(word)})" for word in done.command)


def _filled(command: tuple[str, ...], things: Path, new: Path) -> list[str]:
    return [word.format(things=things, new=new) for word in command]


def _value(draw: random.Random, things: Path) -> str:
    return draw.choice((draw.choice(NUMBERS), draw.choice(WORDS), _path(draw, things)))


def _path(draw: random.Random, things: Path) -> str:
    odd = f"{things}/odd/{draw.choice(ODD)}"
    return draw.choice(
        (odd, odd, odd, f"{odd}/", draw.choice(WORDS), f"{things}/{'y' * 300}", f"{things}/" + "z/" * 2500)
    )


def _mutated(draw: random.Random, text: str, pieces: tuple[str, ...]) -> str:
    place = draw.randrange(len(text) + 1)
    end = min(len(text), place + draw.choice((0, 1, 1, 5, 40)))
    match draw.randrange(5):
        case 0:
            return text[:place] + text[end:]
        case 1:
            return text[:place] + draw.choice(pieces) + text[end:]
        case 2:
            return text[:place] + text[place:end] * 2 + text[end:]
        case 3:
            numbers = list(re.finditer(r"\d+", text))
            if numbers:
                number = draw.choice(numbers)
                return text[: number.start()] + draw.choice(NUMBERS) + text[number.end() :]
            return draw.choice(pieces)
        case _:
            return text[:place]


def _write_text(draw: random.Random, path: Path, text: str) -> None:
    encoding = draw.choice(("utf-8",) * 6 + ("utf-8-sig", "latin-1", "utf-16"))
    path.write_bytes(text.encode(encoding, errors="replace"))


def _replace(draw: random.Random, path: Path) -> None:
    """Change a text file of a run."""
    content = path.read_bytes()
    match draw.randrange(6):
        case 0:
            path.write_bytes(damaged(draw, content))
        case 1:
            path.unlink()
            draw.choice((path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to("/dev/zero"), path.touch))()
        case 2 | 3 if path.suffix in (".json", ".jsonl"):
            lines = (
                [json.loads(line) for line in content.splitlines()]
                if path.suffix == ".jsonl"
                else [json.loads(content)]
            )
            place = draw.randrange(len(lines))
            lines[place] = _odd_json(draw, lines[place])
            path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
        case _:
            _write_text(draw, path, _mutated(draw, content.decode(), (*WORDS, "[" * 50_000, "9" * 5000)))


def _odd_json(draw: random.Random, value: object) -> object:
    """Change a value somewhere in parsed JSON."""
    odd = (None, True, 0, -1, 1.5, 10**400, 1e308, "", "x", "9" * 5000, [], {}, [[]], {"a": None}, float("nan"), 10**30)
    if isinstance(value, dict) and value and draw.random() < 0.85:
        key = draw.choice(list(value))
        if draw.random() < 0.2:
            return {name: item for name, item in value.items() if name != key}
        return {**value, key: _odd_json(draw, value[key])}
    if isinstance(value, list) and value and draw.random() < 0.7:
        place = draw.randrange(len(value))
        return [*value[:place], _odd_json(draw, value[place]), *value[place + 1 :]]
    return draw.choice(odd)


def _replace_image(draw: random.Random, path: Path, things: Path) -> None:
    if draw.random() < 0.4:
        path.write_bytes(damaged(draw, path.read_bytes()))
        return
    if draw.random() < 0.3:
        path.unlink()
        odd = things / "odd" / draw.choice(("folder", "loop", "nowhere", "pipe", "zero", "empty", "nul", "huge"))
        path.symlink_to(odd)
        return
    mode = draw.choice(("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16", "LAB", "HSV"))
    side = draw.choice(((1, 1), (1, 50), (7, 5), (300, 200)))
    kind = draw.choice(("png", "jpeg", "gif", "tiff", "bmp", "webp", "ppm", "ico"))
    buffer = io.BytesIO()
    try:
        image = Image.new(mode, side)
        more = {"save_all": True, "append_images": [Image.new(mode, side, 9)]} if draw.random() < 0.3 else {}
        image.save(buffer, kind, **more)  # pyright: ignore[reportArgumentType]
    except (OSError, ValueError, KeyError, TypeError):
        buffer.write(b"GIF89a")
    path.write_bytes(buffer.getvalue())
