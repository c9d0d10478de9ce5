"""The contract: what enters a codec is what it says, or one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hvqbench
from hvqbench.catalog import codec_files, load_spec
from hvqbench.codec import Bitstream, Codec, CodecSpec, Image, Stream
from hvqbench.errors import HvqbenchError
from hvqbench.rate_control import Target, find_point

GOOD = np.full((8, 9, 3), 200, np.uint8)
BAD: dict[str, tuple[Any, str]] = {
    "floats in [0, 1]": (GOOD.astype(np.float32) / 255, r"not float32 \(8, 9, 3\): convert it, scaled to 0..255"),
    "floats in [0, 255]": (GOOD.astype(float), r"not float64"),
    "16 bits": (GOOD.astype(np.uint16), r"not uint16"),
    "grey": (GOOD[..., 0], r"not uint8 \(8, 9\)"),
    "C×H×W": (GOOD.transpose(2, 0, 1), r"not uint8 \(3, 8, 9\)"),
    "alpha": (np.dstack([GOOD, GOOD[..., :1]]), r"not uint8 \(8, 9, 4\)"),
    "a batch": (GOOD[None], r"not uint8 \(1, 8, 9, 3\)"),
    "no pixel": (GOOD[:0], r"at least one pixel"),
    "a list": (GOOD.tolist(), r"not list"),
    "a path": ("photo.png", r"not str"),
}


class Raw(Codec):
    """Somebody's own, which checks nothing."""

    def encode(self, image: Image, point: float) -> Bitstream:
        return Bitstream(bytes([image.shape[1]]) + image.tobytes(), {"payload": Stream(1 + image.nbytes)})

    def decode(self, data: bytes) -> Image:
        return np.frombuffer(data[1:], np.uint8).reshape(-1, data[0], 3)


class Derived(Raw):
    """Its encode() is the base class' own, called through ``super``."""

    def encode(self, image: Image, point: float) -> Bitstream:
        return super().encode(image, point)


def raw(kind: type[Codec] = Raw) -> Codec:
    return kind(CodecSpec("raw", "", "test", (1.0,), "quality", Path()))


@pytest.mark.parametrize("name", BAD)
def test_every_entry_refuses_what_is_no_image(name: str) -> None:
    image, reason = BAD[name]
    codecs = [raw(), raw(Derived), *map(hvqbench.load_codec, ("jpeg", "jpegxl", "hevc", "hypervq"))]
    for codec in codecs:
        with pytest.raises(HvqbenchError, match=rf"^an image must .*{reason}"):
            codec.encode(image, codec.points[0])
        with pytest.raises(HvqbenchError, match=reason):
            codec.encoder(image)
    with pytest.raises(HvqbenchError, match=reason):
        find_point(raw(), image, Target("bpp", 1.0))
    metric = hvqbench.load_metric("psnr")
    with pytest.raises(HvqbenchError, match=reason):
        metric(image, GOOD)


def test_every_adapter_that_ships_is_checked() -> None:
    from hvqbench.catalog import load_codec

    kinds = {type(load_codec(name)) for name in codec_files()}
    assert len(kinds) > 5
    for kind in kinds:
        for method in ("encode", "decode"):
            assert hasattr(getattr(kind, method), "__wrapped__"), (kind, method)
    assert load_spec("jpeg").id == "jpeg"


def test_a_bitstream_is_bytes() -> None:
    codec = raw()
    data = codec.encode(GOOD, 1.0).data
    for same in (data, bytearray(data), memoryview(data)):
        np.testing.assert_array_equal(codec.decode(same), GOOD)  # type: ignore[arg-type]
    for other in ("photo.bin", None, codec.encode(GOOD, 1.0), GOOD):
        with pytest.raises(HvqbenchError, match="a bitstream must be bytes, not"):
            codec.decode(other)  # type: ignore[arg-type]
