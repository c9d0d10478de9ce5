"""The classic codecs: golden sizes, true round trips of any size, and streams that must not decode."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageFile

from hvqbench.adapters.ffmpeg import FFmpegCodec, Spoken
from hvqbench.catalog import load_codec
from hvqbench.codec import Codec, Image
from hvqbench.errors import BitstreamError, HvqbenchError, UnavailableError

IN_PROCESS = ("jpeg", "webp", "jpeg2000", "jpegxl", "jpegxr", "htj2k", "avif")
CLASSIC = (*IN_PROCESS, "vvenc", "hevc", "hevc-444", "av1", "av1-svt")
SIZES = [(1, 1), (3, 5), (16, 17), (33, 18), (1, 200), (200, 1)]


@pytest.fixture(params=CLASSIC)
def codec(request: pytest.FixtureRequest) -> Codec:
    return _ready(request.param)


@pytest.mark.parametrize(
    ("name", "changed", "quality", "bpp", "psnr"),
    [
        ("jpeg", {}, 5, 0.2212, 23.852),  # published: 23.780 dB, of a Pillow that had IJG's libjpeg
        ("jpeg", {}, 10, 0.3266, 26.672),  # published: 26.577 dB
        ("webp", {"method": 4}, 10, 0.2963, 29.151),  # Pillow's default, which CompressAI did not change
    ],
)
def test_published_rate_and_quality_on_kodak(
    data_root: Path, name: str, changed: dict[str, Any], quality: int, bpp: float, psnr: float
) -> None:
    codec = load_codec(name)
    codec = type(codec)(replace(codec.spec, options={**codec.spec.options, **changed}))
    rates, psnrs = [], []
    for path in sorted((data_root / "kodak").glob("kodim*.png")):
        image = np.asarray(PillowImage.open(path).convert("RGB"))
        data = codec.encode(image, quality).data
        rates.append(8 * len(data) / (image.shape[0] * image.shape[1]))
        psnrs.append(_psnr(image, codec.decode(data)))
    assert len(rates) == 24
    assert np.mean(rates) == pytest.approx(bpp, abs=0.001)
    assert np.mean(psnrs) == pytest.approx(psnr, abs=0.01)


def test_vvenc_reaches_very_low_rates(data_root: Path) -> None:
    image = np.asarray(PillowImage.open(data_root / "kodak" / "kodim23.png").convert("RGB"))[128:384, 128:384]
    vvenc = _ready("vvenc")
    stream = vvenc.encode(image, max(vvenc.points))
    assert 8 * len(stream.data) / 256**2 < 0.05
    assert _psnr(image, vvenc.decode(stream.data)) > 22


def test_a_better_point_costs_more_and_looks_better(codec: Codec) -> None:
    image = _photo(96, 64)
    streams = [codec.encode(image, point) for point in (codec.points[0], codec.points[-1])]
    psnrs = [_psnr(image, codec.decode(stream.data)) for stream in streams]
    assert (len(streams[0].data) < len(streams[1].data)) == (psnrs[0] < psnrs[1])
    assert abs(psnrs[0] - psnrs[1]) > 5


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_every_size_comes_back_and_every_byte_is_counted(codec: Codec, width: int, height: int) -> None:
    image = _photo(width, height)
    stream = codec.encode(image, codec.points[0])
    decoded = codec.decode(stream.data)
    assert decoded.shape == image.shape
    assert decoded.dtype == np.uint8
    assert sum(part.bytes for part in stream.ledger.values()) == len(stream.data)


def test_the_same_image_gives_the_same_bytes_and_pixels(codec: Codec) -> None:
    image = _photo(40, 24)
    again = load_codec(codec.id)
    stream = codec.encode(image, codec.points[1])
    assert again.encode(image, again.points[1]).data == stream.data
    np.testing.assert_array_equal(again.decode(stream.data), codec.decode(stream.data))


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (128, 128, 128), (1, 254, 97)])
def test_vvenc_converts_colour_without_a_bias(colour: tuple[int, int, int]) -> None:
    vvenc = _ready("vvenc")
    image = np.broadcast_to(np.array(colour, np.uint8), (16, 16, 3)).copy()
    decoded = vvenc.decode(vvenc.encode(image, 0).data)
    assert np.abs(decoded.astype(int) - image).max() <= 1


def test_vvenc_is_nearly_transparent_at_a_very_low_qp() -> None:
    # A conversion that truncates is at 40 dB here, and 1.9 levels too dark.
    vvenc = _ready("vvenc")
    image = _photo(96, 64)
    decoded = vvenc.decode(vvenc.encode(image, 0).data)
    assert _psnr(image, decoded) > 46
    assert abs(np.mean(decoded.astype(float) - image)) < 0.05


def test_vvenc_carries_the_size_in_a_counted_header() -> None:
    stream = _ready("vvenc").encode(_photo(300, 20), 60)
    assert stream.ledger["header"].bytes == 1 + 2 + 1 + 4
    assert stream.ledger["payload"].bytes == len(stream.data) - 8


def test_bytes_of_vvenc_do_not_depend_on_threads() -> None:
    vvenc = _ready("vvenc")
    two = type(vvenc)(replace(vvenc.spec, options={**vvenc.spec.options, "threads": 2}))
    image = _photo(160, 130)
    assert two.encode(image, 37).data == vvenc.encode(image, 37).data


@pytest.mark.parametrize("keep", [0, 1, 3, 0.5, -1])
def test_a_truncated_stream_is_one_clear_error(codec: Codec, keep: float, monkeypatch: pytest.MonkeyPatch) -> None:
    # Some libraries set this global; it must not turn a truncated file into a grey half of a picture.
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = codec.encode(_photo(64, 48), codec.points[1]).data
    _assert_refused(codec, data[: int(keep * len(data)) if keep == 0.5 else int(keep)])


def test_a_foreign_stream_is_one_clear_error(codec: Codec) -> None:
    for other in set(CLASSIC) - {codec.id}:
        _assert_refused(codec, _some_stream(other))
    for data in (b"\x89PNG\r\n\x1a\n" + bytes(64), b"\xff\xd8\xff" + bytes(64) + b"\xff\xd9", bytes(1000), b"\xf5\xff"):
        _assert_refused(codec, data)


@pytest.mark.parametrize(("name", "point"), [("vvenc", 50), ("jpegxr", 10)])
def test_any_flipped_bit_is_found(name: str, point: float) -> None:
    codec = _ready(name)
    data = codec.encode(_photo(32, 32), point).data
    for byte in range(len(data)):
        damaged = bytearray(data)
        damaged[byte] ^= 1 << byte % 8
        _assert_refused(codec, bytes(damaged))


@pytest.mark.parametrize(
    ("name", "point"), [("jpeg", 10.5), ("jpeg", 101), ("webp", -1), ("vvenc", 64), ("vvenc", 0.5)]
)
def test_a_wrong_operating_point_is_one_clear_error(name: str, point: float) -> None:
    with pytest.raises(HvqbenchError, match=f"{name}: .* is not an integer from 0"):
        load_codec(name).encode(_photo(16, 16), point)


def test_an_image_that_the_format_cannot_hold_is_one_clear_error() -> None:
    with pytest.raises(HvqbenchError, match="webp: WEBP cannot hold an image of 17000x1"):
        load_codec("webp").encode(np.zeros((1, 17000, 3), np.uint8), 10)


@pytest.mark.parametrize("name", CLASSIC)
def test_options_must_be_stated_exactly(name: str) -> None:
    codec = load_codec(name)
    options = dict(codec.spec.options)
    with pytest.raises(HvqbenchError, match="'optimise' is unknown or missing"):
        type(codec)(replace(codec.spec, options={**options, "optimise": True}))
    for removed in options.keys() - {"format"}:
        left = {key: value for key, value in options.items() if key != removed}
        with pytest.raises(HvqbenchError, match=f"'{removed}' is unknown or missing"):
            type(codec)(replace(codec.spec, options=left))


def test_fingerprints_know_the_libraries_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    prints = {name: _ready(name).fingerprint for name in CLASSIC}
    assert len(set(prints.values())) == len(CLASSIC)
    assert prints == {name: load_codec(name).fingerprint for name in CLASSIC}
    monkeypatch.setattr("hvqbench.adapters.pillow.features.version", lambda name: "0.0")
    assert load_codec("jpeg").fingerprint != prints["jpeg"]
    monkeypatch.setattr("hvqbench.adapters.ffmpeg.FFmpegCodec.build", "ffmpeg 0, libvvenc 0")
    assert load_codec("vvenc").fingerprint != prints["vvenc"]


def test_the_build_of_vvenc_names_both_versions() -> None:
    build: Any = _ready("vvenc")
    assert build.build.startswith("ffmpeg ")
    assert ", libvvenc 1." in build.build


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_a_pillow_without_the_library_is_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvqbench.adapters.pillow.features.check", lambda name: False)
    assert "install" in str(load_codec(name).unavailable())


def test_an_ffmpeg_without_libvvenc_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    listing = Spoken(b" V....D libx265   libx265 H.265 / HEVC (codec hevc)\n", b"")
    monkeypatch.setattr(FFmpegCodec, "_ffmpeg", lambda *_: listing)
    reason = str(load_codec("vvenc").unavailable())
    assert "without the encoder libvvenc" in reason
    assert "IMAGEIO_FFMPEG_EXE" in reason


def test_without_any_ffmpeg_vvenc_is_unavailable_and_nothing_else_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nonexistent/ffmpeg")
    vvenc = load_codec("vvenc")
    assert "IMAGEIO_FFMPEG_EXE" in str(vvenc.unavailable())
    assert len(vvenc.fingerprint) == 64
    with pytest.raises(UnavailableError):
        vvenc.encode(_photo(16, 16), 40)


def test_a_failure_of_ffmpeg_shows_the_last_line_that_it_said() -> None:
    vvenc = _ready("vvenc")
    wrong = {**vvenc.spec.options, "encoder_options": {"preset": "impossible"}}
    with pytest.raises(HvqbenchError, match=r"vvenc: ffmpeg failed \(\d+\): .+") as error:
        type(vvenc)(replace(vvenc.spec, options=wrong)).encode(_photo(16, 16), 40)
    assert "\n" not in str(error.value)


def test_a_range_that_ffmpeg_would_truncate_is_refused() -> None:
    vvenc = load_codec("vvenc")
    with pytest.raises(HvqbenchError, match="vvenc: swscale truncates when it converts to range 'full'"):
        type(vvenc)(replace(vvenc.spec, options={**vvenc.spec.options, "range": "full"}))


def test_an_ffmpeg_that_hangs_is_ended() -> None:
    vvenc = _ready("vvenc")
    hurried = type(vvenc)(replace(vvenc.spec, options={**vvenc.spec.options, "timeout_s": 0.001}))
    with pytest.raises(HvqbenchError, match=r"more than 0.001 s; raise timeout_s"):
        hurried.encode(_photo(16, 16), 40)


def _ready(name: str) -> Codec:
    codec = load_codec(name)
    reason = codec.unavailable()
    if reason is not None:
        pytest.skip(reason)
    codec.prepare()
    return codec


@cache
def _some_stream(name: str) -> bytes:
    codec = _ready(name)
    return codec.encode(_photo(32, 32), codec.points[0]).data


def _assert_refused(codec: Codec, data: bytes) -> None:
    with pytest.raises(BitstreamError) as error:
        codec.decode(data)
    assert str(error.value).startswith(f"{codec.id}: ")
    assert "\n" not in str(error.value)


def _photo(width: int, height: int) -> Image:
    """Soft shapes of low saturation with a little grain, the same each time."""
    y, x = np.mgrid[:height, :width]
    soft = 128 + 60 * np.sin(x / 17) * np.cos(y / 11)
    channels = np.stack([soft + 20 * np.sin((x + y) / 29), soft, soft - 15 * np.cos(y / 23)], axis=-1)
    grain = np.random.default_rng(7).normal(0, 3, (height, width, 1))
    return np.clip(np.rint(channels + grain), 0, 255).astype(np.uint8)


def _psnr(first: Image, second: Image) -> float:
    return float(10 * np.log10(255**2 / np.mean((first.astype(float) - second) ** 2)))
