"""Checkpoints that survive kill -9, a full disk and bit rot.

A checkpoint is a folder step-00000123 of torch files and a manifest with the digest of each. It is written under a
temporary name, fsync'ed and renamed, and the `latest` pointer moves last. Loading verifies every digest first, because
torch.load accepts a flipped bit in silence.
"""

import hashlib
import io
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from darts_hpc import strict_json
from darts_hpc.durable import failpoint, fsync_folder, write_atomically, write_durably
from darts_hpc.errors import is_out_of_memory
from darts_hpc.user_files import check_inside, read_file

log = logging.getLogger(__name__)

MANIFEST, LATEST, TEMPORARY, REPLACED = "manifest.json", "latest", ".writing-", ".replaced-"


class UnknownLayout(ValueError):
    """A whole checkpoint in which something is not as a run of this version writes it."""


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint."""

    step: int
    path: Path
    fingerprint: dict
    files: dict[str, bytes]

    def load(self, name: str, map_location: torch.device | str = "cpu") -> dict:
        """Return a payload, read from the bytes that were verified. Raises ValueError where it is not one of a run."""
        try:
            content = torch.load(io.BytesIO(self.files[f"{name}.pt"]), map_location=map_location, weights_only=True)
        except Exception as error:  # torch raises nearly anything for what it did not write
            if is_out_of_memory(error):
                raise
            content = None
        if not isinstance(content, dict):
            raise self.unknown_layout(f"{name}.pt")
        return content

    @contextmanager
    def restoring(self) -> Iterator[None]:
        """Raise UnknownLayout for what fails in a body that restores from it, but for memory that ran out."""
        try:
            yield
        except (KeyError, TypeError, AttributeError, IndexError, ValueError, RuntimeError) as error:
            if is_out_of_memory(error) or isinstance(error, UnknownLayout):
                raise
            raise self.unknown_layout(f"state.pt ({type(error).__name__}: {str(error)[:200]})") from None

    def unknown_layout(self, part: str) -> UnknownLayout:
        """Return what to raise where a part of it is not as a run of this version writes it."""
        return UnknownLayout(
            f"{self.path}: {part} is not as this version writes it; go on with the version that wrote it, or start "
            "afresh with another --save"
        )


class CheckpointStore:
    """The checkpoints of one run, the newest `keep` of them. Only one process may write."""

    def __init__(self, folder: Path, keep: int = 2):
        self.folder, self.keep = folder, keep

    def save(self, step: int, payloads: Mapping[str, object], fingerprint: Mapping[str, object]) -> Path:
        """Write payloads (name -> object for torch.save) as the newest checkpoint.

        Raises OSError when the disk is full or the like; nothing half-written stays, and older checkpoints are whole.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for stale in self.folder.glob(f"{TEMPORARY}*"):
            shutil.rmtree(stale, ignore_errors=True)
        final = self.folder / f"step-{step:08d}"
        temporary, replaced = (self.folder / f"{prefix}{final.name}" for prefix in (TEMPORARY, REPLACED))
        try:
            temporary.mkdir()
            digests = {}
            for name, payload in payloads.items():
                data = _serialise(payload)
                write_durably(temporary / f"{name}.pt", data)
                digests[f"{name}.pt"] = digest_of(data)
            failpoint("before_manifest")
            manifest = {"step": step, "fingerprint": dict(fingerprint), "files": digests}
            signed = {**manifest, "sha256": _digest(manifest)}
            write_durably(temporary / MANIFEST, strict_json.dumps(signed, indent=1).encode())
            fsync_folder(temporary)
            failpoint("before_rename")
            if final.exists():  # the same step was saved before, as after a stop in validation
                final.rename(replaced)
                failpoint("between_renames")
            temporary.rename(final)
            fsync_folder(self.folder)
            failpoint("before_pointer")
            write_text_atomically(self.folder / LATEST, final.name + "\n")
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        failpoint("after_pointer")
        later = [path for path in self._steps() if path > final]  # damaged: the run resumed from one before them
        for stale in (*later, *[path for path in self._steps() if path <= final][self.keep :]):
            shutil.rmtree(stale, ignore_errors=True)
        return final

    def load_newest(self, fits: Callable[[Checkpoint], bool] = lambda checkpoint: True) -> Checkpoint | None:
        """Return the newest checkpoint whose every byte is as written, None if there never was one.

        One that `fits` is taken before a newer one that does not. Damaged ones are skipped with a warning. Raises
        ValueError when all are damaged.
        """
        candidates, whole = self._steps(), None
        for path in candidates:
            try:
                found = read_checkpoint(path)
            except ValueError as damage:
                log.warning("checkpoint %s is damaged (%s); trying the one before", path, damage)
                continue
            if fits(found):
                return found
            whole = whole or found
        if candidates and whole is None:
            raise ValueError(f"every checkpoint in {self.folder} is damaged; start afresh with another --save")
        return whole

    def _steps(self) -> list[Path]:
        for replaced in self.folder.glob(f"{REPLACED}*"):
            final = self.folder / replaced.name.removeprefix(REPLACED)
            if final.exists():
                shutil.rmtree(replaced, ignore_errors=True)
            else:
                replaced.rename(final)
        # By step number: a kill between rename and pointer leaves a newer whole checkpoint than the pointer says.
        return sorted(self.folder.glob("step-*"), reverse=True)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify one checkpoint folder. Raises ValueError saying what is damaged."""
    manifest = _read_manifest(path)
    files = {}
    for name, digest in manifest["files"].items():
        if not isinstance(digest, dict) or type(digest.get("bytes")) is not int:
            raise ValueError(f"{MANIFEST}: the digest of {name} is not as this version writes it")
        files[name] = read_file(path / check_inside(name, MANIFEST), digest["bytes"])
        if digest_of(files[name]) != digest:
            raise ValueError(f"{name}: {len(files[name])} bytes whose digest is not the manifest's")
    return Checkpoint(manifest["step"], path, manifest["fingerprint"], files)


def read_fingerprint(path: Path) -> dict | None:
    """Return the fingerprint of a checkpoint folder whose manifest is whole; else None."""
    try:
        return _read_manifest(path)["fingerprint"]
    except ValueError:
        return None


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(read_file(path / MANIFEST))
        intact = manifest.pop("sha256", None) == _digest(manifest)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"{MANIFEST}: {error}") from None
    if not intact:
        raise ValueError(f"{MANIFEST}: its digest does not match")
    for key, kind in (("step", int), ("fingerprint", dict), ("files", dict)):
        if type(manifest.get(key)) is not kind:
            raise ValueError(f"{MANIFEST}: {key} is not as this version writes it")
    return manifest


def save_atomically(path: Path, payload: object) -> dict[str, object]:
    """torch.save under a temporary name, then rename: a reader sees the old file or the whole new one.

    Returns the file's digest and size.
    """
    data = _serialise(payload)
    write_atomically(path, data)
    return digest_of(data)


def digest_of(data: bytes) -> dict[str, object]:
    """Return what tells a file from a damaged one: SHA-256 and the number of bytes."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def write_text_atomically(path: Path, text: str) -> None:
    """Write text under a temporary name, then rename."""
    write_atomically(path, text.encode())


def _digest(manifest: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _serialise(payload: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    return buffer.getvalue()
