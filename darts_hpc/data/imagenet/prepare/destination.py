"""Where copies of images go: apart from what they are copied from, and below /tmp for this user alone."""

import os
import stat
from pathlib import Path


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, if they are missing; those below a folder like /tmp for this user alone (0700).

    Raises ValueError, one line, where what lies below a folder that everybody may write to is a link, or is another
    user's, or may be written by everybody: they could exchange what is copied there. Raises OSError where it can't be
    made.
    """
    is_shared = False
    for path in reversed([folder.absolute(), *folder.absolute().parents]):
        if not is_shared:
            path.mkdir(exist_ok=True)
        else:
            path.mkdir(mode=0o700, exist_ok=True)
            _check_own(path, folder)
        is_shared = is_shared or bool(path.stat().st_mode & stat.S_IWOTH)


def check_not_linked(root: Path, folder: Path) -> None:
    """Raise ValueError where a link leads from a folder inside of root to somewhere else."""
    if not folder.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{folder} leads to {folder.resolve()}, outside of {root}; remove that link")


def _check_own(path: Path, folder: Path) -> None:
    found = path.lstat()
    problem = None
    if not stat.S_ISDIR(found.st_mode):
        problem = "is a link" if stat.S_ISLNK(found.st_mode) else "is no folder"
    elif found.st_uid not in (os.getuid(), 0):
        problem = f"belongs to another user ({found.st_uid})"
    elif found.st_mode & stat.S_IWOTH and (path == folder.absolute() or not found.st_mode & stat.S_ISVTX):
        problem = "may be written by everybody"
    if problem is not None:
        raise ValueError(f"{path} {problem}, and who may write there could exchange {folder}; choose another folder")
