"""A codec under examination, and what can be found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Literal

import numpy as np

from hvqbench.bench.worker import describe
from hvqbench.catalog import load_codec
from hvqbench.codec import Bitstream, Image
from hvqbench.errors import HvqbenchError

LISTED = 6
"""Names that a finding lists at most."""


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Parameters
    ----------
    detail
        What was seen; why it failed, or why it was skipped.
    remedy
        What to do, if it failed.
    """

    check: str
    status: Literal["ok", "failed", "skipped"]
    detail: str
    remedy: str = ""


class Failed(HvqbenchError):
    """A check that failed: what was seen and, if it is another than the check's own, the remedy."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.remedy = remedy


class Skipped(HvqbenchError):
    """A check that means nothing for this codec, and why."""


class Subject:
    """A codec that is asked to code, with a note of each step and a look at each answer.

    Parameters
    ----------
    note
        Called before each step, with what it is: who survives the codec can say where it died.
    """

    def __init__(self, source: str, device: str, note: Callable[[str], object]) -> None:
        self.source, self.device, self.note = source, device, note
        self.codec = load_codec(source)
        self.spec = self.codec.spec
        self._seen: dict[tuple[str, float], tuple[Bitstream, Image]] = {}

    @property
    def ends(self) -> tuple[float, ...]:
        """The first and the last point of the ladder, of which there may be only one."""
        return tuple(dict.fromkeys((self.codec.points[0], self.codec.points[-1])))

    def at(self, point: float) -> str:
        return f"at {self.spec.point_name} {point:g}"

    def encode(self, image: Image, point: float, what: str = "a photograph") -> Bitstream:
        """Encode a copy of *image*; *what* it is, for the note."""
        self.note(f"encoding {what} {self.at(point)}")
        stream = self.codec.encode(image.copy(), point)
        if not isinstance(stream, Bitstream) or not isinstance(stream.data, bytes):
            raise Failed(f"encode() returned {_kind(stream)}", "return a hvqbench.codec.Bitstream whose data are bytes")
        return stream

    def decode(self, data: bytes, what: str = "a photograph") -> Image:
        """Decode *data*; raises :class:`Failed` if what comes back is no image."""
        self.note(f"decoding {what} from {len(data)} bytes")
        image = self.codec.decode(data)
        if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
            raise Failed(f"decode() returned {_kind(image)}", "return a numpy array of type uint8 and shape HxWx3")
        return image

    def round_trip(self, image: Image, point: float, what: str = "a photograph") -> tuple[Bitstream, Image]:
        """Encode and decode *image*, whose size must come back. What was done before is not done again."""
        if (what, point) not in self._seen:
            stream = self.encode(image, point, what)
            decoded = self.decode(stream.data, what)
            if decoded.shape != image.shape:
                before, after = (f"{shape[1]}x{shape[0]}" for shape in (image.shape, decoded.shape))
                raise Failed(f"{before} came back as {after}", "code the original's size, and cut the padding off")
            self._seen[what, point] = stream, decoded
        return self._seen[what, point]

    def round_trips(self, images: Mapping[str, Image]) -> str:
        """A round trip for each image, at the ladder's points in turn; all that fail are told together."""
        wrong = {}
        for (name, image), point in zip(images.items(), cycle(self.codec.points), strict=False):
            try:
                self.round_trip(image, point, name)
            except Exception as error:  # an adapter's own, of any kind
                wrong[name] = f"{describe(error)} ({self.at(point)})", getattr(error, "remedy", "")
        if wrong:
            first = next(iter(wrong))
            names = ", ".join([*list(wrong)[:LISTED], *(["..."] if len(wrong) > LISTED else [])])
            raise Failed(f"{len(wrong)} of {len(images)} fail ({names}); {first}: {wrong[first][0]}", wrong[first][1])
        return f"{len(images)} images, from {next(iter(images))} to {list(images)[-1]}"


def _kind(value: object) -> str:
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
