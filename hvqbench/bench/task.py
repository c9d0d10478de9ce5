"""One task: an image through a codec at one operating point, and the row that comes of it.

::

    image ──> encoder process ──> bytes ──> decoder process ──> pixels ──> judge process ──> metrics
                      └── digest ── must agree ── digest ──┘

The decoder gets the codec's name and the bytes, nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from hvqbench.bench.rows import Identity, Row
from hvqbench.codec import Image
from hvqbench.errors import HvqbenchError

if TYPE_CHECKING:
    from hvqbench.data import ImageFile


def task_key(image_sha256: str, fingerprint: str, point: float, device_kind: str) -> str:
    """The key of the row of an image (its pixels) by a codec at a point on a kind of device: ``cpu``, ``cuda``."""
    return hashlib.sha256(json.dumps([image_sha256, fingerprint, point, device_kind]).encode()).hexdigest()


@dataclass(frozen=True)
class Task:
    """What is to be measured."""

    dataset: str
    codec: str
    source: str
    """What :func:`hvqbench.catalog.load_codec` takes to find the codec: its id or a path."""
    fingerprint: str
    point: float
    point_name: str
    device: str
    image: ImageFile
    image_sha256: str
    width: int
    height: int
    metrics: Mapping[str, str]
    """Metric id: its version and those of its libraries."""
    earlier: Row | None = field(default=None, compare=False)
    """A finished row that lacks only metrics: its bitstream is decoded again, and nothing is encoded."""

    @property
    def key(self) -> str:
        """Sha256 of everything that can change the bytes or the pixels.

        The metrics carry their own versions, in the row's column ``metrics``, so that a new one needs no new encoding.
        """
        return task_key(self.image_sha256, self.fingerprint, self.point, self.device.partition(":")[0])

    @property
    def identity(self) -> Identity:
        return self.dataset, self.codec, self.image.name, self.key

    def row(self, status: str, reason: str = "") -> Row:
        """The row's columns that are known before anything is measured."""
        return {
            "dataset": self.dataset,
            "codec": self.codec,
            "point": self.point,
            "point_name": self.point_name,
            "image": self.image.name,
            "image_sha256": self.image_sha256,
            "width": self.width,
            "height": self.height,
            "device": self.device,
            "codec_fingerprint": self.fingerprint,
            "key": self.key,
            "status": status,
            "reason": reason,
            "started": now(),
        }


@dataclass(frozen=True)
class Encoded:
    """What the encoder process answers."""

    data: bytes
    streams: Mapping[str, int]
    """Coded bytes of each stream."""
    ideal_bits: float | None
    digest: str
    seconds: float


@dataclass(frozen=True)
class Decoded:
    """What the decoder process answers."""

    image: Image
    sha256: str
    digest: str
    seconds: float


class Workers(Protocol):
    """The three processes that a task needs; each call may raise :class:`WorkerError`."""

    def encode(self, source: str, device: str, image: ImageFile, point: float) -> Encoded: ...
    def decode(self, source: str, device: str, data: bytes) -> Decoded: ...
    def score(self, image: ImageFile, decoded: Image, metrics: tuple[str, ...]) -> dict[str, float]: ...


class WorkerError(HvqbenchError):
    """A worker process raised, or died; the message is the reason of a failed row."""


def measure(task: Task, workers: Workers, stored: bytes | None = None) -> tuple[Row, bytes | None]:
    """Do *task*.

    Parameters
    ----------
    stored
        The bitstream of ``task.earlier``, if it is still there.

    Returns
    -------
    tuple
        The finished row, with status ``ok`` or ``failed``, and the bitstream if there is a new one.
    """
    if task.earlier is not None and stored is not None:
        return _score_again(task, task.earlier, workers, stored), None
    row = task.row("ok")
    data = None
    try:
        encoded = workers.encode(task.source, task.device, task.image, task.point)
        data = encoded.data
        row |= _coding_columns(task, encoded)
        decoded = decode(task, workers, data, encoded.digest)
        row |= {"decode_s": decoded.seconds, "reconstruction_sha256": decoded.sha256, "digest": decoded.digest}
        row |= workers.score(task.image, decoded.image, tuple(task.metrics))
        row["metrics"] = json.dumps(dict(task.metrics))
    except WorkerError as error:
        # No numbers in a failed row: what is not there cannot be averaged.
        kept = {name: row[name] for name in ("bitstream_sha256", "started") if name in row}
        return task.row("failed", str(error)) | kept, data
    return row, data


def _score_again(task: Task, earlier: Row, workers: Workers, stored: bytes) -> Row:
    row = earlier | {"started": now(), "reason": ""}
    measured: dict[str, str] = json.loads(earlier["metrics"])
    try:
        decoded = decode(task, workers, stored, earlier["digest"])
    except WorkerError as error:
        return task.row("failed", str(error)) | {"bitstream_sha256": earlier["bitstream_sha256"]}
    if decoded.sha256 != earlier["reconstruction_sha256"]:
        # Floating-point synthesis on another machine: no row mixes the metrics of two reconstructions.
        row = {name: value for name, value in row.items() if name not in measured}
        measured = {}
    missing = {name: version for name, version in task.metrics.items() if measured.get(name) != version}
    try:
        row |= workers.score(task.image, decoded.image, tuple(missing))
        measured |= missing
    except WorkerError as error:  # the codec did its part, and what was measured before still holds
        row["reason"] = str(error)
    return row | {"metrics": json.dumps(measured), "reconstruction_sha256": decoded.sha256}


def decode(task: Task, workers: Workers, data: bytes, digest: str) -> Decoded:
    """What the decoder makes of *data*; raises unless it has the right size and the encoder's *digest*."""
    decoded = workers.decode(task.source, task.device, data)
    height, width = decoded.image.shape[:2]
    if (width, height) != (task.width, task.height):
        raise WorkerError(f"the decoder returned {width}x{height} pixels for an image of {task.width}x{task.height}")
    if decoded.digest != digest:
        raise WorkerError("the decoder disagrees with the encoder: from the same bytes it restored something else")
    return decoded


def _coding_columns(task: Task, encoded: Encoded) -> Row:
    ideal = float("nan") if encoded.ideal_bits is None else encoded.ideal_bits / 8
    return {
        "bytes": len(encoded.data),
        "bpp": 8 * len(encoded.data) / (task.width * task.height),
        "ideal_bytes": ideal,
        **{f"bytes.{name}": size for name, size in encoded.streams.items()},
        "encode_s": encoded.seconds,
        "bitstream_sha256": hashlib.sha256(encoded.data).hexdigest(),
    }


def now() -> str:
    """UTC, ISO 8601, to the microsecond, so that it sorts as text."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
