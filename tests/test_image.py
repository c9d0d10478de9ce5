from __future__ import annotations

import importlib.util
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pil

from hvqbench.errors import HvqbenchError
from hvqbench.image import read_image, write_image

RNG = np.random.default_rng(0)


def png(values: np.ndarray, colour_type: int) -> bytes:
    """A 16-bit PNG, which Pillow cannot write in colour."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + values[y].astype(">u2").tobytes() for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


@pytest.fixture
def photo() -> np.ndarray:
    return RNG.integers(0, 256, (24, 31, 3), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(1, 1, 3), (5000, 3, 3), (3, 5000, 3), (24, 31, 3)])
def test_png_round_trip_is_exact(tmp_path: Path, shape: tuple[int, ...]) -> None:
    image = RNG.integers(0, 256, shape, dtype=np.uint8)
    write_image(tmp_path / "a.png", image)
    back = read_image(tmp_path / "a.png")
    assert back.dtype == np.uint8
    assert back.flags.writeable
    np.testing.assert_array_equal(back, image)


def test_16_bit_grey_is_scaled_and_rounded(tmp_path: Path) -> None:
    grey = np.array([[0, 128, 129, 385, 386, 32767, 32768, 65407, 65535]], np.uint16)
    pil.fromarray(grey).save(tmp_path / "a.png")
    expected = np.rint(grey / 257).astype(np.uint8)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.repeat(expected[..., None], 3, axis=2))


def test_16_bit_colour_is_scaled_and_rounded_not_cut(tmp_path: Path) -> None:
    colour = RNG.integers(0, 65536, (9, 7, 3))
    (tmp_path / "a.png").write_bytes(png(colour, 2))
    expected = np.rint(colour / 257)
    assert (expected != colour >> 8).any()  # what Pillow alone would give
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), expected)


def test_16_bit_alpha_is_composited_on_white(tmp_path: Path) -> None:
    colour = RNG.integers(0, 65536, (9, 7, 4))
    colour[0, :, 3] = 0
    colour[1, :, 3] = 65535
    (tmp_path / "a.png").write_bytes(png(colour, 6))
    image = read_image(tmp_path / "a.png")
    assert (image[0] == 255).all()
    np.testing.assert_array_equal(image[1], np.rint(colour[1, :, :3] / 257))


def test_alpha_is_composited_on_white(tmp_path: Path) -> None:
    rgba = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [0, 100, 200, 51]]], np.uint8)
    pil.fromarray(rgba).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), [[[255, 255, 255], [10, 20, 30], [204, 224, 244]]])


def test_palette_and_its_transparency(tmp_path: Path) -> None:
    picture = pil.new("P", (2, 1))
    picture.putpalette([200, 0, 0, 0, 100, 0])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "opaque.png")
    picture.save(tmp_path / "clear.png", transparency=0)
    np.testing.assert_array_equal(read_image(tmp_path / "opaque.png"), [[[200, 0, 0], [0, 100, 0]]])
    np.testing.assert_array_equal(read_image(tmp_path / "clear.png"), [[[255, 255, 255], [0, 100, 0]]])


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_has_three_equal_channels(tmp_path: Path, mode: str, photo: np.ndarray) -> None:
    grey = pil.fromarray(photo).convert("L").convert(mode)
    grey.save(tmp_path / "a.png")
    expected = np.asarray(grey.convert("L"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.repeat(expected[..., None], 3, axis=2))


def test_cmyk_without_profile(tmp_path: Path) -> None:
    cmyk = np.full((8, 8, 4), [40, 80, 120, 60], np.uint8)
    pil.fromarray(cmyk, "CMYK").save(tmp_path / "a.tif")
    image = read_image(tmp_path / "a.tif")
    expected = np.rint((255 - cmyk[..., :3].astype(int)) * (255 - 60) / 255)
    np.testing.assert_array_equal(image, expected)


def test_adobe_rgb_is_converted_to_srgb() -> None:
    folder = Path(importlib.util.find_spec("skimage").submodule_search_locations[0]) / "data"
    raw = np.asarray(pil.open(folder / "rocket.jpg"))[::8, ::8] / 255  # carries the profile Adobe RGB (1998)
    to_xyz = [[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]]
    to_srgb = [[3.24048, -1.53715, -0.49854], [-0.96926, 1.87601, 0.04156], [0.05565, -0.20404, 1.05731]]
    linear = np.clip(raw**2.19921875 @ np.transpose(to_xyz) @ np.transpose(to_srgb), 0, 1)
    srgb = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    image = read_image(folder / "rocket.jpg")[::8, ::8]
    assert np.abs(image - 255 * raw).mean() > 3
    assert np.abs(image - srgb).mean() < 0.75


def test_an_srgb_or_broken_profile_changes_nothing(tmp_path: Path, photo: np.ndarray) -> None:
    from PIL import ImageCms

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"no profile", srgb[:200]):
        pil.fromarray(photo).save(tmp_path / "a.png", icc_profile=profile)
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), photo)


def test_exif_orientation_is_applied(tmp_path: Path, photo: np.ndarray) -> None:
    exif = pil.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    pil.fromarray(photo).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(photo, -1))
    grey = RNG.integers(0, 65536, (4, 6), dtype=np.uint16)
    pil.fromarray(grey).save(tmp_path / "b.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "b.png")[..., 0], np.rot90(np.rint(grey / 257), -1))


def test_an_animation_counts_for_its_first_frame(tmp_path: Path) -> None:
    frames = [pil.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (read_image(tmp_path / "a.gif") == [255, 0, 0]).all()


def damaged_files(folder: Path, photo: np.ndarray) -> dict[str, bytes]:
    pil.fromarray(photo).save(folder / "good.png")
    pil.fromarray(photo).save(folder / "good.jpg")
    good, jpeg = (folder / "good.png").read_bytes(), (folder / "good.jpg").read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    return {
        "truncated.png": good[: len(good) // 2],
        "endless.png": good[:-12],
        "flipped.png": bytes(flipped),
        "truncated.jpg": jpeg[: len(jpeg) // 2],
        "header.png": good[:20],
    }


def test_a_damaged_file_is_one_clear_line(tmp_path: Path, photo: np.ndarray) -> None:
    for name, content in damaged_files(tmp_path, photo).items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(HvqbenchError, match=r"corrupt or truncated|not an image") as caught:
            read_image(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not an image at all")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("a.png", "empty.png"):
        with pytest.raises(HvqbenchError, match="not an image"):
            read_image(tmp_path / name)
    with pytest.raises(HvqbenchError, match="No such file"):
        read_image(tmp_path / "missing.png")
    pil.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(HvqbenchError, match="floating-point"):
        read_image(tmp_path / "float.tif")


def test_a_decompression_bomb_is_refused_unread(tmp_path: Path) -> None:
    good = png(np.zeros((1, 1), np.uint16), 0)
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 16, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (tmp_path / "bomb.png").write_bytes(good[:8] + chunk + good[33:])
    with pytest.raises(HvqbenchError, match=r"bomb\.png claims more than 178 million pixels"):
        read_image(tmp_path / "bomb.png")


def test_writing_refuses_what_is_no_image(tmp_path: Path, photo: np.ndarray) -> None:
    with pytest.raises(HvqbenchError, match="uint8"):
        write_image(tmp_path / "a.png", photo / 255)
    with pytest.raises(HvqbenchError, match="H×W×3"):
        write_image(tmp_path / "a.png", photo[..., 0])
    with pytest.raises(HvqbenchError, match="PNG only"):
        write_image(tmp_path / "a.jpg", photo)
    with pytest.raises(HvqbenchError, match="cannot write"):
        write_image(tmp_path / "nowhere" / "a.png", photo)
