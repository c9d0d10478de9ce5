"""Files that are either whole or absent."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def atomic_write(path: Path, data: bytes) -> None:
    """Write *data* to *path* so that a reader, a crash or a full disk never meets half a file.

    The temporary file lies beside *path* (a rename across file systems is no rename) and its name begins with a dot,
    which readers of Parquet folders skip. An :class:`OSError` leaves *path* as it was.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
