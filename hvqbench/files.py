"""Files that are either whole or absent, and names for them."""

from __future__ import annotations

import hashlib
import os
import re
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


def file_name(text: str) -> str:
    """*text* with everything replaced that is no letter, digit, dot, dash or underscore."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "data"


def image_file_name(image: str) -> str:
    """:func:`file_name` of an image, with a hash where that changes it: like names must not share a file."""
    name = file_name(image)
    return name if name == image else f"{name}-{hashlib.sha256(image.encode()).hexdigest()[:8]}"
