"""Files that are either whole or absent, and names for them."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # no Unix: nothing is ever swept there
    fcntl = None  # type: ignore[assignment]

LONGEST = 50
"""Characters that a temporary name takes over: the whole would be too long where *path* just is not."""


def atomic_write(path: Path, data: bytes) -> None:
    """Write *data* to *path* so that a reader, a crash or a full disk never meets half a file.

    An :class:`OSError` leaves *path* as it was.
    """
    with ExitStack() as until_renamed, atomic_path(path) as temporary:
        file = until_renamed.enter_context(_locked(temporary))
        file.write(data)
        file.flush()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path that becomes *path* if the block succeeds, for what others write: a download, say.

    The temporary file lies beside *path* (a rename across file systems is no rename) and its name begins with a dot,
    which readers of Parquet folders skip. An :class:`OSError` names *path*.
    """
    temporary = path.with_name(f".{path.name[:LONGEST]}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:  # of a library it may name no file, of a rename the temporary one
        raise OSError(error.errno, error.strerror, os.fspath(path)) if error.errno else error from None
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folders: Iterable[Path]) -> int:
    """Remove what killed processes left behind in *folders* when they were in :func:`atomic_write`; how many files.

    Whoever writes holds a lock, which the system takes from the dead. Where the file system has no locks, all stay.
    """
    removed = 0
    for folder in folders:
        with suppress(OSError):
            for path in folder.glob(".*.tmp"):
                with suppress(OSError), path.open("rb") as file:  # taken, or gone in the meantime
                    if _lock(file):
                        path.unlink()
                        removed += 1
    return removed


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """The new file *path*, open and locked."""
    while True:
        with path.open("xb") as file:
            _lock(file)
            try:
                same = os.fstat(file.fileno()).st_ino == path.stat().st_ino
            except FileNotFoundError:  # swept before it was locked
                same = False
            if same:
                yield file
                return


def _lock(file: BinaryIO) -> bool:
    """Whether the lock is had: nobody else has it, and the file system knows locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, AttributeError):
        return False
    return True


def file_name(text: str) -> str:
    """*text* with everything replaced that is no letter, digit, dot, dash or underscore."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "data"


def image_file_name(image: str) -> str:
    """:func:`file_name` of an image, with a hash where that changes it: like names must not share a file."""
    name = file_name(image)
    return name if name == image else f"{name}-{hashlib.sha256(image.encode()).hexdigest()[:8]}"
