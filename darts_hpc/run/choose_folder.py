"""Choose the folder of a run: a new one, that of the launch before its restart, or the one that --resume selects.

launch.json in a run folder holds the identity of the launch that runs there, and what it computes. Folders are ordered
by the UTC time in it: their names have local time, and file times come from the file server's clock.
"""

import os
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from darts_hpc import strict_json
from darts_hpc.config.shared import RunConfig
from darts_hpc.distributed.identity import earlier_identities, identities, process_identity
from darts_hpc.distributed.launcher import job_name
from darts_hpc.distributed.world import World
from darts_hpc.locks import is_locked, lock_run_folder
from darts_hpc.run.checkpoint import read_fingerprint, write_text_atomically
from darts_hpc.run.fingerprint import Fingerprint, same_configuration
from darts_hpc.run.folder import check_files
from darts_hpc.user_files import exists, is_folder, list_folder, read_json

RUNS = Path("runs")
LAUNCH = "launch.json"


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What launch.json holds.

    created: when the run began, UTC. launchers: identities of the launch, which a restart of it keeps. process: that of
    the process that wrote this, whose next run is no restart of this one. fingerprint: what the run computes.
    """

    created: str
    launchers: list[str]
    process: str
    fingerprint: dict = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FolderRequest:
    """The launch that needs a folder.

    launchers: identities of the launch, from all its processes. earlier: those that it already had before a restart.
    process: identity of the process that writes. job: the last part of a new folder's name.
    """

    fingerprint: Fingerprint
    process: str
    launchers: Sequence[str] = ()
    earlier: Sequence[str] = ()
    job: str = ""


def folder_request(fingerprint: Fingerprint, world: World) -> FolderRequest:
    """Return this launch's request, with all ranks' identities: torchrun counts a restart only where a process died."""
    known = world.gather_objects((identities(), earlier_identities()))
    return FolderRequest(
        fingerprint=fingerprint,
        process=process_identity(os.getpid()),
        launchers=[name for names, _ in known for name in names],
        earlier=[name for _, names in known for name in names],
        job=job_name(),
    )


def choose_run_folder(
    entry: str, save: str, resume: str, request: FolderRequest, runs: Path = RUNS
) -> tuple[Path, bool]:
    """Return the run folder for --save and --resume, and whether to resume from its checkpoint if it has one.

    A name gives a new folder runs/<entry>-<name>-<time>-<job>/, made here; with a path separator in it, `save` is the
    folder, which may not exist yet. resume: "none", "auto" (the newest run of that name and seed with a checkpoint,
    one of the same configuration first; else a new run) or a run folder. A launch that was restarted resumes its own
    run of the same configuration in any case.

    Raises ValueError when a run is in the way, there is nothing to resume, or no folder can be made.
    """
    own_names = request.earlier if os.sep in save and _is_own(Path(save), request) else []
    given = given_folder(save, resume, own_names)
    if given is not None:
        return given, resume != "none" or bool(own_names)
    name = re.compile(rf"{re.escape(entry)}-{re.escape(save)}-\d{{8}}-\d{{6}}-[^-]+")
    earlier = [path for path in list_folder(runs) if name.fullmatch(path.name)]
    own = [path for path in earlier if _is_own(path, request)]
    if own:
        return max(own, key=lambda path: (not is_locked(path), not is_finished(path), _created(path))), True
    if resume == "auto":
        free = [path for path in earlier if has_checkpoint(path) and _same_seed(path, request) and not is_locked(path)]
        if free:
            return max(free, key=lambda path: (_same(path, request), _created(path))), True
    return _make_folder(runs / f"{entry}-{save}-{time.strftime('%Y%m%d-%H%M%S')}-{request.job}"), False


def given_folder(save: str, resume: str, launchers: Sequence[str] = ()) -> Path | None:
    """Return the folder where --save or --resume gives a path, else None.

    Raises ValueError when there is nothing to resume, or the folder holds a run of none of these launches.
    """
    if resume not in ("none", "auto"):
        if not has_checkpoint(Path(resume)):
            raise ValueError(f"--resume {resume}: no checkpoint there; give a run folder, or auto")
        return Path(resume)
    if os.sep not in save:
        return None
    launch = _read_launch(Path(save))
    is_own = launch is not None and not set(launch.launchers).isdisjoint(launchers)
    if resume == "none" and not is_own and holds_run(Path(save)):
        raise ValueError(f"--save {save} holds a run already; add --resume auto to go on with it, or name another")
    return Path(save)


def check_run_folder(cfg: RunConfig, world: World) -> None:
    """Check, before the data is read, that Run.open can use the run folder. Writes nothing.

    Raises ValueError on rank 0 where it can't.
    """
    if not world.is_main:
        return
    folder = given_folder(cfg.save, cfg.resume, identities()) or RUNS / "new"
    if exists(folder):
        with lock_run_folder(folder):
            check_files(folder)
            return
    there = next(parent for parent in folder.absolute().parents if exists(parent))
    if not (is_folder(there) and os.access(there, os.W_OK)):
        raise ValueError(
            f"can't write to the run folder {folder}: {there} is no writable folder; choose another --save"
        )


def has_checkpoint(folder: Path) -> bool:
    """Whether a run in this folder can be continued."""
    return bool(list_folder(folder / "checkpoints", "step-*"))


def holds_run(folder: Path) -> bool:
    """Whether a run began in this folder."""
    return exists(folder / "config.yaml") or has_checkpoint(folder)


def is_finished(folder: Path) -> bool:
    """Whether the run in this folder came to its end."""
    return exists(folder / "result.json")


def write_launch(folder: Path, request: FolderRequest) -> None:
    """Write launch.json, by which the run belongs to this launch; the time at which the run began is kept."""
    before = _read_launch(folder)
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    launch = Launch(
        created=before.created if before is not None else now,
        launchers=sorted(set(request.launchers)),
        process=request.process,
        fingerprint=request.fingerprint.values,
    )
    write_text_atomically(folder / LAUNCH, strict_json.dumps(asdict(launch), indent=1) + "\n")


def _make_folder(wanted: Path) -> Path:
    """Make a folder that no other process has: two launches in the same second may want the same name."""
    folder, number = wanted, 1
    while True:
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            if not is_folder(folder):
                raise _not_writable(folder, "a file is in the way") from None
            number += 1
            folder = wanted.with_name(f"{wanted.name}.{number}")
        except OSError as error:
            raise _not_writable(folder, error.strerror) from None


def _not_writable(folder: Path, reason: str | None) -> ValueError:
    return ValueError(f"can't write to the run folder {folder}: {reason}; choose another with --save")


def _is_own(folder: Path, request: FolderRequest) -> bool:
    """Whether the folder's run is of this launch, before its restart, and of the same configuration."""
    launch = _read_launch(folder) if request.earlier else None
    if launch is None or launch.process == request.process:
        return False
    return not set(launch.launchers).isdisjoint(request.earlier) and _same(folder, request)


def _same(folder: Path, request: FolderRequest) -> bool:
    return same_configuration(_fingerprint(folder), request.fingerprint)


def _same_seed(folder: Path, request: FolderRequest) -> bool:
    """Whether the folder's run has the seed of this one, where its seed is known."""
    seed = request.fingerprint.values.get("seed")
    return _fingerprint(folder).get("seed", seed) == seed


def _fingerprint(folder: Path) -> dict:
    launch = _read_launch(folder)
    if launch is not None:
        return launch.fingerprint
    steps = reversed(list_folder(folder / "checkpoints", "step-*"))
    return next(filter(None, map(read_fingerprint, steps)), {})


def _created(folder: Path) -> float:
    """Return when a run began, in seconds since the epoch; without launch.json, by the local time in its name."""
    launch = _read_launch(folder)
    if launch is not None:
        return datetime.fromisoformat(launch.created).timestamp()
    date, clock = folder.name.split("-")[-3:-1]
    try:
        return time.mktime(time.strptime(f"{date}-{clock}", "%Y%m%d-%H%M%S"))
    except (ValueError, OverflowError):  # no run made that folder: its name says no time
        return 0.0


def _read_launch(folder: Path) -> Launch | None:
    try:
        launch = Launch(**read_json(folder / LAUNCH))
        datetime.fromisoformat(launch.created)
    except (ValueError, TypeError):
        return None
    names = launch.launchers
    is_ours = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return launch if is_ours and isinstance(launch.fingerprint, dict) else None
