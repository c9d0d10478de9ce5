"""Downsample, code, upsample: real streams of any size, decoded by their bytes alone, and no other codec's."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image as PillowImage

from hvqbench.adapters.downsampled import DownsampledCodec
from hvqbench.catalog import load_codec, load_spec
from hvqbench.codec import Codec, Image
from hvqbench.comparators import comparators
from hvqbench.errors import BitstreamError, HvqbenchError

NAMES = ("vvenc-down2", "vvenc-down4")


@pytest.fixture(scope="module")
def photo() -> Image:
    """Smooth, with an edge: 97x130, no multiple of anything."""
    y, x = np.mgrid[:97, :130]
    waves = 120 + 60 * np.sin(x / 17) * np.cos(y / 13) + 40 * (x > 70)
    return np.clip(np.stack([waves, waves[::-1], 255 - waves], 2), 0, 255).astype(np.uint8)


def ready(name: str) -> Codec:
    codec = load_codec(name)
    if reason := codec.unavailable():
        pytest.skip(reason)
    return codec


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 64), (97, 130)])
def test_any_size_comes_back_from_the_bytes_alone(name: str, size: tuple[int, int], photo: Image) -> None:
    image = photo[: size[0], : size[1]]
    stream = ready(name).encode(image, 22)
    assert sum(part.bytes for part in stream.ledger.values()) == len(stream.data)
    decoded = load_codec(name).decode(stream.data)  # by another object
    assert decoded.shape == image.shape
    assert decoded.dtype == np.uint8


@pytest.mark.parametrize("name", NAMES)
def test_the_coded_picture_is_the_smaller_one(name: str, photo: Image) -> None:
    codec = ready(name)
    factor = codec.spec.options["factor"]
    sides = (-(-130 // factor), -(-97 // factor))
    small = PillowImage.fromarray(photo).resize(sides, PillowImage.Resampling.LANCZOS)
    best = codec.decode(codec.encode(photo, 0).data)
    expected = np.array(small.resize((130, 97), PillowImage.Resampling.LANCZOS))
    assert np.abs(best.astype(int) - expected).mean() < 1.5  # 4:2:0 costs that
    whole, less = (len(codec_.encode(photo, 32).data) for codec_ in (ready("vvenc"), codec))
    assert less < 0.8 * whole


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_of_another_codec_or_a_damaged_one_is_refused(name: str, photo: Image) -> None:
    codec = ready(name)
    other = next(one for one in ("vvenc", *NAMES) if one != name)
    for stranger in ("vvenc", other):
        with pytest.raises(BitstreamError, match="checksum mismatch"):
            codec.decode(load_codec(stranger).encode(photo, 37).data)
    data = codec.encode(photo, 37).data
    for altered in (data[:-1], data[:5], bytes([data[0], data[1] ^ 1, *data[2:]]), b""):
        with pytest.raises(BitstreamError):
            codec.decode(altered)


def test_it_is_marked_as_resized() -> None:
    for name in NAMES:
        assert load_spec(name).protocol.flags == ("resized",)
    rows = {row.codec: row for row in comparators()}
    assert rows["vvenc-down2"].how == "runs"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"factor": 1}, "factor = 1; set it to an integer from 2 to 16"),
        ({"factor": 2.0}, "factor = 2.0; set it"),
        ({"kernel": "sinc"}, "kernel = 'sinc'; set it to one of lanczos"),
        ({"qp": 3}, "option 'qp' is unknown or missing"),
    ],
)
def test_options_are_checked(change: dict[str, object], message: str) -> None:
    spec = load_spec("vvenc-down2")
    with pytest.raises(HvqbenchError, match=message):
        DownsampledCodec(replace(spec, options={**spec.options, **change}))


def test_what_changes_the_pixels_changes_the_fingerprint() -> None:
    spec = load_spec("vvenc-down2")
    bicubic = DownsampledCodec(replace(spec, options={**spec.options, "kernel": "bicubic"}))
    assert bicubic.fingerprint != load_codec("vvenc-down2").fingerprint
    assert "pillow" in bicubic.ingredients["libraries"]


def test_the_encoder_is_the_same_as_without(photo: Image) -> None:
    """The smaller picture's bytes are those that codec vvenc gives it, but for the header's size and checksum."""
    codec, plain = ready("vvenc-down2"), ready("vvenc")
    file = BytesIO()
    PillowImage.fromarray(photo).resize((65, 49), PillowImage.Resampling.LANCZOS).save(file, "PNG")
    small = np.array(PillowImage.open(file))
    own, other = codec.encode(photo, 32), plain.encode(small, 32)
    assert own.ledger["payload"] == other.ledger["payload"]
    assert own.data[-own.ledger["payload"].bytes :] == other.data[-other.ledger["payload"].bytes :]
