"""Pictures of codecs for those who show them: each is what a process decoded that had nothing but the bytes."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from hvqbench.bench.plan import Entry
from hvqbench.bench.process import Process, threads_per_process
from hvqbench.bench.task import Decoded
from hvqbench.codec import Bitstream, Image
from hvqbench.errors import HvqbenchError
from hvqbench.rate_control import Found, Target, find_point


@dataclass(frozen=True, eq=False)
class RoundTrip:
    """An image that was encoded here and decoded elsewhere; *found* is of a point that was searched."""

    point: float
    stream: Bitstream
    decoded: Decoded
    found: Found | None = None


class Pictures:
    """Encodes here, decodes in a process of its own, which ends with the ``with`` block."""

    def __init__(self, device: str = "cpu") -> None:
        self._device = device
        self._decoder = Process("decoder", threads_per_process(1))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._decoder.close()

    def decode(self, entry: Entry, data: bytes) -> Decoded:
        """What the bytes *data* give."""
        decoded: Decoded = self._decoder.call(entry.source, self._device, data)
        return decoded

    def make(self, entry: Entry, image: Image, wanted: float | Target) -> RoundTrip:
        """*image* at a point, or at the one that is searched for a target.

        Raises
        ------
        UnreachableError
            Every point misses the target.
        HvqbenchError
            The decoder's is not what the encoder meant, and the codec does not declare itself stochastic.
        """
        codec = entry.codec
        assert codec is not None
        codec.prepare(self._device)
        found = find_point(codec, image, wanted) if isinstance(wanted, Target) else None
        if found is None:
            assert not isinstance(wanted, Target)
            point, stream = wanted, codec.encode(image, wanted)
        else:
            point, stream = found.trial.point, found.trial.stream
        digest = stream.digest or codec.digest(stream.data, codec.decode(stream.data))
        decoded = self.decode(entry, stream.data)
        if decoded.digest != digest and not codec.spec.protocol.stochastic:
            remedy = f"`hvqbench doctor {entry.source}` looks into it"
            raise HvqbenchError(f"{codec.id}: another process decodes the stream to something else; {remedy}")
        return RoundTrip(point, stream, decoded, found)
