"""Names in files that a user names, such as a manifest: it may come from anyone, and they must stay in their folder."""

from pathlib import Path, PurePosixPath


def check_inside(name: str, source: str | Path) -> str:
    """Return a relative path that a file holds, if it leads to something inside of the folder it is relative to.

    `source` is that file. Raises ValueError for an absolute path, one with .. in it, and the folder itself.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\0" in name:
        raise ValueError(
            f"{source} names {name!r}; expected a path inside its own folder: do not use what this file came with"
        )
    return name
