"""The classic codecs as shipped: they cover the rates, keep colours, state their settings; a tag selects them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from hvqbench.adapters.imagecodecs import FORMATS
from hvqbench.catalog import codec_files, load_codec, select_codecs
from hvqbench.codec import Codec, Image
from hvqbench.errors import BitstreamError, HvqbenchError

FULL_CHROMA = ("jpeg-444", "jpeg2000", "jpegxl", "htj2k", "hevc-444", "av1")
HALF_CHROMA = ("jpeg", "webp", "avif", "av1-svt", "hevc", "vvenc")
SHIPPED = (*FULL_CHROMA, *HALF_CHROMA, "jpegxr")
BEST = {"jpeg-444": 100, "jpeg2000": 1, "jpegxl": 0.05, "htj2k": 0.0005, "hevc-444": 0, "av1": 1, "avif": 99}
BEST |= {"jpeg": 100, "webp": 100, "av1-svt": 1, "hevc": 0, "vvenc": 0, "jpegxr": 99}


@pytest.mark.parametrize("name", SHIPPED)
def test_settings_are_stated_and_the_ladder_is_long(name: str) -> None:
    codec = load_codec(name)
    assert "classic" in codec.spec.tags
    assert len(codec.points) >= 6
    low, high = codec.point_range
    assert low <= min(codec.points) < max(codec.points) <= high
    chroma = codec.spec.protocol.chroma
    assert chroma.startswith("4:4:4" if name in FULL_CHROMA else "4:2:0")
    assert codec.spec.reference


def test_the_tag_selects_them_all() -> None:
    chosen = select_codecs("classic")
    assert set(SHIPPED) <= set(chosen)
    assert not any("classic" not in load_codec(name).spec.tags for name in chosen)


def test_ids_paths_and_tags_are_selected_in_order_and_once(tmp_path: Path) -> None:
    chosen = select_codecs(["vvenc", "classic", "webp", str(tmp_path), "clasic"])
    assert chosen[0] == "vvenc"
    assert chosen[-2:] == [str(tmp_path), "clasic"]
    assert len(chosen) == len(set(chosen))
    with pytest.raises(HvqbenchError, match="unknown codec 'clasic'"):
        load_codec("clasic")


def test_an_id_goes_before_a_tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVQBENCH_CATALOG", str(tmp_path))
    folder = tmp_path / "codecs" / "classic"
    folder.mkdir(parents=True)
    (folder / "codec.toml").write_text(codec_files()["jpeg"].read_text())
    assert select_codecs(["classic"]) == ["classic"]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_ladder_covers_the_rates_of_a_photograph(data_root: Path, name: str) -> None:
    codec, image = _ready(name), _kodak(data_root, 23)[128:384, 128:384]
    rates, psnrs = [], []
    for point in (codec.points[0], codec.points[-1]):
        data = codec.encode(image, point).data
        rates.append(8 * len(data) / image[..., 0].size)
        psnrs.append(_psnr(image, codec.decode(data)))
    # What each format needs at least: headers count, and JPEG and JPEG XR have no coarser tables.
    least = {"jpeg": 0.35, "jpeg-444": 0.5, "jpegxr": 0.4, "webp": 0.16, "jpegxl": 0.2, "avif": 0.16}
    assert min(rates) < least.get(name, 0.07)
    assert max(rates) > 0.8
    assert max(psnrs) > 38
    assert (rates[0] < rates[1]) == (psnrs[0] < psnrs[1])


@pytest.mark.parametrize("name", SHIPPED)
def test_colour_is_rounded_and_not_truncated(data_root: Path, name: str) -> None:
    # A conversion that truncates is 0.2 to 2 levels too dark. jxrlib's transform is the standard's; libwebp averages
    # chroma in linear light.
    allowed = {"jpegxr": 0.1, "webp": 0.15}.get(name, 0.05)
    codec, image = _ready(name), _kodak(data_root, 3)[100:356, 200:456]
    decoded = codec.decode(codec.encode(image, BEST[name]).data)
    assert abs(np.mean(decoded.astype(float) - image)) < allowed
    assert _psnr(image, decoded) > (45 if name in FULL_CHROMA else 41)


def test_eight_bit_full_range_reaches_what_its_conversion_allows(data_root: Path) -> None:
    # JFIF's Y'CbCr, each component rounded, allows 52.9 dB on kodim03; JPEG adds the rounding of its transform.
    image = _kodak(data_root, 3)
    jpeg = load_codec("jpeg-444")
    assert _psnr(image, _through_ycbcr(image)) == pytest.approx(52.86, abs=0.01)
    assert _psnr(image, jpeg.decode(jpeg.encode(image, 100).data)) > 50


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (128, 128, 128), (1, 254, 97)])
@pytest.mark.parametrize("name", ["hevc-444", "av1", "avif", "htj2k", "jpeg2000", "jpegxl"])
def test_a_flat_colour_comes_back(name: str, colour: tuple[int, int, int]) -> None:
    codec = _ready(name)
    image = np.broadcast_to(np.array(colour, np.uint8), (64, 64, 3)).copy()
    decoded = codec.decode(codec.encode(image, BEST[name]).data)
    assert np.abs(decoded.astype(int) - image).max() <= 1


def test_values_beyond_the_range_do_not_wrap_around(data_root: Path) -> None:
    # The decoder of OpenJPH in imagecodecs 2026.3.6 lets them: 32 dB here.
    htj2k, image = load_codec("htj2k"), _kodak(data_root, 3)
    assert _psnr(image, htj2k.decode(htj2k.encode(image, 0.01).data)) > 45


def test_both_kinds_of_jpeg2000_refuse_the_other() -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)
    for first, second in (("jpeg2000", "htj2k"), ("htj2k", "jpeg2000")):
        data = load_codec(first).encode(image, load_codec(first).points[0]).data
        with pytest.raises(BitstreamError, match=f"{second}: no whole"):
            load_codec(second).decode(data)


@pytest.mark.parametrize(("quality", "internal_format"), [(49, 1), (50, 3)])
def test_jpegxr_changes_its_chroma_where_it_says(quality: int, internal_format: int) -> None:
    # INTERNAL_CLR_FMT, the three bits after the image header, is 1 for 4:2:0 and 3 for 4:4:4 (T.832, 8.4.2).
    data = load_codec("jpegxr").encode(np.full((64, 64, 3), 90, np.uint8), quality).data
    assert data[data.index(b"WMPHOTO\0") + 16] >> 5 == internal_format


def test_points_that_would_be_lossless_are_refused() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    for name, point in (("jpegxl", 0), ("jpegxr", 0), ("jpegxr", 100), ("avif", 100), ("av1", 0), ("jpeg2000", 0.5)):
        with pytest.raises(HvqbenchError, match=rf"{name}: \w+ {point:g} is (not|not an integer) from .*correct the"):
            load_codec(name).encode(image, point)


def test_the_size_of_jpegxr_is_in_a_counted_header() -> None:
    stream = load_codec("jpegxr").encode(np.zeros((3, 300, 3), np.uint8), 30)
    assert stream.ledger["header"].bytes == 1 + 2 + 1 + 4


@pytest.mark.parametrize("format_name", sorted(FORMATS))
def test_an_imagecodecs_without_the_library_is_said(format_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import imagecodecs

    name = next(name for name in SHIPPED if load_codec(name).spec.options.get("format") == format_name)
    monkeypatch.setattr(getattr(imagecodecs, FORMATS[format_name].module.upper()), "available", False)
    assert "install" in str(load_codec(name).unavailable())


@pytest.mark.parametrize(
    ("name", "library"),
    [("hevc", "libx265 4."), ("hevc-444", "libx265 4."), ("av1", "libaom-av1 3."), ("av1-svt", "libsvtav1 4.")],
)
def test_the_build_names_both_versions(name: str, library: str) -> None:
    codec = _ready(name)
    assert f", {library}" in codec.build  # type: ignore[attr-defined]


def _ready(name: str) -> Codec:
    codec = load_codec(name)
    reason = codec.unavailable()
    if reason is not None:
        pytest.skip(reason)
    codec.prepare()
    return codec


def _kodak(data_root: Path, number: int) -> Image:
    return np.asarray(PillowImage.open(data_root / "kodak" / f"kodim{number:02d}.png").convert("RGB"))


def _through_ycbcr(image: Image) -> Image:
    """To 8-bit full-range Y'CbCr of BT.601, rounded, and back, rounded."""
    red, green, blue = np.moveaxis(image.astype(float), 2, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    cb, cr = np.rint((blue - luma) / 1.772), np.rint((red - luma) / 1.402)
    luma = np.rint(luma)
    red, blue = luma + 1.402 * cr, luma + 1.772 * cb
    green = (luma - 0.299 * red - 0.114 * blue) / 0.587
    return np.clip(np.rint(np.stack([red, green, blue], 2)), 0, 255).astype(np.uint8)


def _psnr(first: Image, second: Image) -> float:
    error = np.mean((first.astype(float) - second) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else np.inf
