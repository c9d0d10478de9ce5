"""Files that are either whole or absent."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST = 50
"""Characters that a temporary name takes over: the whole would be too long where *path* just is not."""


def atomic_write(path: Path, data: bytes) -> None:
    """Write *data* to *path* so that a reader, a crash or a full disk never meets half a file.

    An :class:`OSError` leaves *path* as it was.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


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
