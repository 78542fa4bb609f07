"""What mkdocs is given beside the files of docs/: the reference of all flags, and the changelog."""

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from flags import reference  # noqa: E402  found by the line above


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from other files."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for name, text in (("flags.md", reference()), ("changelog.md", changelog)):
        files.append(File.generated(config, name, content=text))
    return files
