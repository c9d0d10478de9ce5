"""Temporary folders that say whose they are, so that those of a dead process can be removed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hvqbench.lineage import is_dead, own_identity

PREFIX = "hvqbench-"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder that is gone when the block ends; if the process is killed, its watchman or the next run removes it."""
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{own_identity()}-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def remove_orphaned_folders() -> None:
    """Remove what processes that are dead have left in the temporary directory."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        identity = folder.name.removeprefix(PREFIX).rpartition("-")[0]
        if is_dead(identity):
            shutil.rmtree(folder, ignore_errors=True)
