"""What a file's pixels are: colour × depth × transparency × profile × orientation × compression × container.

Every file is made from samples by a writer of this module or of a library that hvqbench does not read it with, and is
compared with what its format's definition says of these samples, computed here.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as pil

from hvqbench.errors import HvqbenchError
from hvqbench.image import not_applied, read_image

HEIGHT, WIDTH = 5, 7
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}
"""EXIF orientation: from what is stored to what is shown (TIFF 6.0, tag 274)."""


def linear_profile(channels: str, name: str) -> bytes:
    """An ICC profile, version 2, of linear light; RGB with sRGB's primaries."""

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    text = name.encode() + b"\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
    }
    linear = b"curv\0\0\0\0\0\0\0\0"
    if channels == "RGB":
        tags |= {b"rXYZ": xyz(0.43607, 0.22249, 0.01392), b"gXYZ": xyz(0.38515, 0.71687, 0.09708)}
        tags |= {b"bXYZ": xyz(0.14307, 0.06061, 0.7141), b"rTRC": linear, b"gTRC": linear, b"bTRC": linear}
    else:
        tags |= {b"kTRC": linear}
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        table += tag + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = start + len(body)
    head = struct.pack(">I4sI", size, b"lcms", 0x02400000) + b"mntr" + channels.ljust(4).encode() + b"XYZ "
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + body


def profiles(grey: bool) -> dict[str, bytes]:
    """By name: nothing, linear light under two names, sRGB, and no profile at all."""
    from PIL import ImageCms

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    kind = "GRAY" if grey else "RGB"
    return {
        "none": b"",
        "linear": linear_profile(kind, "Linear light"),
        "linear, called sRGB": linear_profile(kind, "sRGB-elle-V2-g10.icc"),
        "damaged": b"no profile",
        **({} if grey else {"sRGB": srgb}),
    }


def shown(samples: np.ndarray, depth: int, profile: str, orientation: int = 1, clear: np.ndarray | None = None):
    """What a reader must give: *samples* H×W×C of *depth* bits; where *clear*, nothing but the white behind it."""
    unit = samples / (2**depth - 1)
    colour, alpha = unit, np.ones((*unit.shape[:2], 1))
    if unit.shape[2] in (2, 4):
        colour, alpha = unit[..., :-1], unit[..., -1:]
    if clear is not None:
        alpha = np.where(clear[..., None], 0.0, alpha)
    colour = colour * alpha + 1 - alpha
    if profile.startswith("linear"):
        colour = np.where(colour <= 0.0031308, 12.92 * colour, 1.055 * np.maximum(colour, 1e-9) ** (1 / 2.4) - 0.055)
    return TURNS[orientation](255 * np.broadcast_to(colour, (*colour.shape[:2], 3)))


def tolerance(profile: str, alpha: bool) -> float:
    """Scaling is exact; compositing rounds twice more; linear light is so steep in the dark that 8 bits jump."""
    steep = 13 if profile.startswith("linear") else 1
    return 1.5 * steep if alpha else 0.55 * steep


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples: np.ndarray, depth: int, colour_type: int, chunks: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG file of H×W×C samples; *chunks* stand before the pixels."""
    height, width = samples.shape[:2]
    rows = b""
    for row in samples.reshape(height, -1):
        if depth == 16:
            packed = row.astype(">u2").tobytes()
        else:
            bits = (row[:, None] >> np.arange(depth - 1, -1, -1)) & 1
            packed = np.packbits(bits.astype(np.uint8)).tobytes()
        rows += b"\0" + packed
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return head + chunks + chunk(b"IDAT", zlib.compress(rows)) + after + chunk(b"IEND", b"")


def png_cases() -> Iterator[tuple[int, int, bool, str, int]]:
    depths = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
    for colour_type, own in depths.items():
        for depth, clear in itertools.product(own, (False, True) if colour_type < 4 else (False,)):
            for profile in profiles(colour_type in (0, 4)):
                for orientation in TURNS if profile == "none" else (1, 6):
                    yield colour_type, depth, clear, profile, orientation


def exif(orientation: int) -> bytes:
    block = pil.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def test_png(tmp_path: Path) -> None:
    """Colour type × depth × tRNS × profile × orientation."""
    rng = np.random.default_rng(0)
    path = tmp_path / "a.png"
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
    for case in png_cases():
        colour_type, depth, clear, profile, orientation = case
        samples = rng.integers(0, 2**depth, (HEIGHT, WIDTH, channels[colour_type]))
        icc = profiles(colour_type in (0, 4))[profile]
        chunks = chunk(b"iCCP", b"any name\0\0" + zlib.compress(icc)) if icc else b""
        chunks += chunk(b"eXIf", exif(orientation).removeprefix(b"Exif\0\0"))
        where = None
        values, bits = samples, depth
        if colour_type == 3:
            palette = rng.integers(0, 256, (2**depth, 3))
            chunks += chunk(b"PLTE", palette.astype(np.uint8).tobytes())
            values, bits = palette[samples[..., 0]], 8
        if clear:
            one = samples[2, 3]
            if colour_type != 3:  # in a 16-bit file another sample may differ from it in the low byte only
                samples[0, 0] = one ^ 1
            where = (samples == one).all(-1)
            if colour_type == 3:
                values = palette[samples[..., 0]]
                chunks += chunk(b"tRNS", bytes(255 * int(n != one[0]) for n in range(2**depth)))
            else:
                chunks += chunk(b"tRNS", b"".join(struct.pack(">H", int(value)) for value in one))
        path.write_bytes(png(samples, depth, colour_type, chunks))
        expected = shown(values, bits, profile, orientation, where)
        worst = np.abs(read_image(path) - expected).max()
        assert worst <= tolerance(profile, colour_type > 3), (case, worst)


def tiff_cases() -> Iterator[tuple[str, int, str | None, str, str, int]]:
    for mode, depth in (("L", 8), ("L", 16), ("white", 8), ("white", 16), ("RGB", 8), ("RGB", 16), ("RGBA", 8)):
        for compression, planes in itertools.product((None, "lzw", "zlib", "packbits"), ("contig", "separate")):
            if mode in ("L", "white") and planes == "separate":
                continue
            for orientation in TURNS:
                yield mode, depth, compression, planes, "none", orientation
            for profile in () if mode == "white" else profiles(mode == "L"):
                yield mode, depth, compression, planes, profile, 6
    for compression, orientation in itertools.product((None, "lzw"), TURNS):
        yield "RGBA", 16, compression, "contig", "none", orientation
        yield "CMYK", 8, compression, "contig", "none", orientation


def test_tiff(tmp_path: Path) -> None:
    """Mode × depth × compression × planes × profile × orientation × byte order."""
    rng = np.random.default_rng(1)
    path = tmp_path / "a.tif"
    photometric = {"L": "minisblack", "white": "miniswhite", "RGB": "rgb", "RGBA": "rgb", "CMYK": "separated"}
    for number, case in enumerate(tiff_cases()):
        mode, depth, compression, planes, profile, orientation = case
        channels = {"L": 1, "white": 1, "RGB": 3}.get(mode, 4)
        samples = rng.integers(0, 2**depth, (HEIGHT, WIDTH, channels)).astype(np.uint8 if depth == 8 else np.uint16)
        stored = samples[..., 0] if channels == 1 else samples
        stored = np.moveaxis(stored, -1, 0).copy() if planes == "separate" else stored
        order = "<>"[number % 2]
        if mode == "white" and depth == 16:
            order = "<"  # Pillow knows no other
        tifffile.imwrite(
            path,
            stored,
            photometric=photometric[mode],
            compression=compression,
            byteorder=order,
            planarconfig=planes if channels > 1 else None,
            extrasamples=["unassalpha"] if mode == "RGBA" else None,
            iccprofile=profiles(mode == "L")[profile] or None,
            extratags=[(274, 3, 1, orientation, True)],
            metadata=None,
        )
        values, clear = samples, None
        if mode == "white":
            values = 2**depth - 1 - samples
        if mode == "CMYK":
            ink = samples.astype(float)
            values = (255 - ink[..., :3]) * (255 - ink[..., 3:]) / 255
        expected = shown(values, depth, profile, orientation, clear)
        image = read_image(path)
        assert image.shape == expected.shape, case
        worst = np.abs(image - expected).max()
        assert worst <= tolerance(profile, mode in ("RGBA", "CMYK")), (case, order, worst)


@pytest.mark.parametrize(
    ("suffix", "options", "most"),
    [
        ("webp", {"lossless": True, "exact": True}, 0),
        ("jp2", {}, 0),
        ("avif", {"quality": 100, "subsampling": "4:4:4"}, 8),
        ("jpg", {"quality": 100, "subsampling": 0}, 8),
    ],
)
def test_other_containers(tmp_path: Path, suffix: str, options: dict, most: float) -> None:
    """Colour × alpha × profile × orientation, as far as each has them."""
    y, x = np.mgrid[0:40, 0:56]
    smooth = np.stack([4 * x, 5 * y, 200 - 2 * x - 2 * y, 120 + 2 * x], -1).astype(np.uint8)
    path = tmp_path / f"a.{suffix}"
    modes = {"jpg": ("L", "RGB"), "jp2": ("L", "LA", "RGB", "RGBA")}.get(suffix, ("RGB", "RGBA"))
    for mode, orientation in itertools.product(modes, TURNS):
        if suffix == "jp2" and orientation > 1:
            continue
        channels = {"L": [0], "LA": [0, 3], "RGB": [0, 1, 2], "RGBA": [0, 1, 2, 3]}[mode]
        for profile, icc in profiles(len(channels) < 3).items():
            if (icc and suffix == "jp2") or profile == "damaged":
                continue
            more = {"icc_profile": icc, "exif": exif(orientation)} if suffix != "jp2" else {}
            pil.fromarray(smooth[..., channels].squeeze(), mode).save(path, **options, **more)
            expected = shown(smooth[..., channels], 8, profile, orientation)
            image = read_image(path)
            assert image.shape == expected.shape, (mode, profile, orientation)
            worst = np.abs(image - expected).max()
            assert worst <= most * (4 if profile.startswith("linear") else 1) + tolerance(profile, "A" in mode), (
                mode,
                profile,
                orientation,
                worst,
            )


def test_twelve_bits_are_scaled_by_their_own_white(tmp_path: Path) -> None:
    """A TIFF of 4×2 grey samples, two in three bytes; no library at hand writes it."""
    samples = [0, 1, 2048, 4095, 4095, 2000, 15, 300]
    packed = b"".join(((a << 12) | b).to_bytes(3, "big") for a, b in zip(samples[::2], samples[1::2], strict=True))
    tags = {256: 4, 257: 2, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 2, 279: len(packed)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    start = 8 + len(packed)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", start) + packed + directory)
    expected = np.rint(np.array(samples).reshape(2, 4) * 255 / 4095)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[..., 0], expected)


def test_what_a_profile_is_called_proves_nothing(tmp_path: Path) -> None:
    """64 in linear light is 137 in sRGB, whether the profile says so or says that it is sRGB."""
    grey = np.full((8, 8, 3), 64, np.uint8)
    for name in ("Linear light", "sRGB Linear", "sRGB", "sRGB IEC61966-2.1"):
        pil.fromarray(grey).save(tmp_path / "a.png", icc_profile=linear_profile("RGB", name))
        assert (read_image(tmp_path / "a.png") == 137).all(), name


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (HEIGHT, WIDTH, 3))


def broken(data: bytes) -> bytes:
    """A chunk whose CRC is wrong."""
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("after", [False, True])
def test_damaged_metadata_refuses_no_png(tmp_path: Path, picture: np.ndarray, after: bool) -> None:
    comment = zlib.compress(bytes(30_000_000))
    metadata = {
        "a comment that unpacks to 30 MB": chunk(b"zTXt", b"Comment\0\0" + comment),
        "an international one": chunk(b"iTXt", b"Comment\0\1\0\0\0" + comment),
        "EXIF that is none": chunk(b"eXIf", b"not a TIFF file at all"),
        "a wrong CRC": broken(chunk(b"tEXt", b"Comment\0text")),
        "a profile with a wrong CRC": broken(chunk(b"iCCP", b"x\0\0" + zlib.compress(linear_profile("RGB", "x")))),
        "a profile that cannot be unpacked": chunk(b"iCCP", b"x\0\0" + b"nonsense"),
        "an animation's": chunk(b"acTL", b"too short"),
        "a time of nonsense": chunk(b"tIME", b"\xff" * 3),
        "nobody's": chunk(b"prVt", b"\0\1\2"),
        "a physical size of nonsense": chunk(b"pHYs", b"\xff"),
    }
    for name, data in metadata.items():
        (tmp_path / "a.png").write_bytes(png(picture, 8, 2, *((b"", data) if after else (data, b""))))
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture, err_msg=name)


def test_a_damaged_picture_is_refused(tmp_path: Path, picture: np.ndarray) -> None:
    good = png(picture, 8, 2, chunk(b"tRNS", bytes(6)))
    for kind in (b"IHDR", b"tRNS", b"IDAT", b"IEND"):
        place = good.index(kind)
        length = int.from_bytes(good[place - 4 : place], "big")
        bad = bytearray(good)
        bad[place + 4 + length] ^= 1
        (tmp_path / "a.png").write_bytes(bad)
        with pytest.raises(HvqbenchError, match=rf"corrupt or truncated \(its chunk {kind.decode()} is damaged\)"):
            read_image(tmp_path / "a.png")
    for cut in (good[:-1], good[:-12], good[:40], good[:12]):
        (tmp_path / "a.png").write_bytes(cut)
        with pytest.raises(HvqbenchError, match="corrupt or truncated"):
            read_image(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(png(picture, 8, 2, chunk(b"CgBI", bytes(4))))  # of another kind of file
    with pytest.raises(HvqbenchError, match="is none of PNG's"):
        read_image(tmp_path / "a.png")


def test_a_jpeg_with_damaged_exif_is_read(tmp_path: Path) -> None:
    """A rational that does not fit its type is no reason, and its orientation still holds."""
    block = pil.Exif()
    block[0x0112] = 6
    pil.fromarray(np.full((8, 16, 3), 90, np.uint8)).save(tmp_path / "a.jpg", exif=block)
    rational = struct.pack(">2sHI H HHII HHII I", b"MM", 42, 8, 2, *(0x0112, 3, 1, 6 << 16), *(0x9204, 10, 1, 38), 0)
    exif_block = b"Exif\0\0" + rational + struct.pack(">II", 0xFFFFFFFF, 0x7FFFFFFF)
    content = (tmp_path / "a.jpg").read_bytes()
    end = 4 + int.from_bytes(content[4:6], "big") if content[2:4] == b"\xff\xe0" else 2
    for own in (exif_block, b"Exif\0\0" + b"MM\0*\xff\xff\xff\xff", b"Exif\0\0nonsense"):
        segment = b"\xff\xe1" + struct.pack(">H", len(own) + 2) + own
        rest = content[end:]
        if rest[:2] == b"\xff\xe1":
            rest = rest[2 + int.from_bytes(rest[2:4], "big") :]
        (tmp_path / "b.jpg").write_bytes(content[:end] + segment + rest)
        shape = read_image(tmp_path / "b.jpg").shape
        assert shape == ((16, 8, 3) if own is exif_block else (8, 16, 3))


def test_what_is_not_applied_is_said(tmp_path: Path, picture: np.ndarray) -> None:
    def said(chunks: bytes) -> tuple[str, ...]:
        (tmp_path / "a.png").write_bytes(png(picture, 8, 2, chunks))
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture)
        return not_applied(tmp_path / "a.png")

    srgb = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
    wide = struct.pack(">8I", 31270, 32900, 70800, 29200, 17000, 79700, 13100, 4600)
    assert said(b"") == ()
    assert said(chunk(b"cICP", bytes([1, 13, 0, 1]))) == ()
    assert said(chunk(b"cICP", bytes([9, 16, 0, 1]))) == ("cICP (primaries 9, transfer 16)",)
    assert said(chunk(b"gAMA", struct.pack(">I", 45455)) + chunk(b"cHRM", srgb)) == ()
    assert said(chunk(b"gAMA", struct.pack(">I", 100000))) == ("gAMA (1)",)
    assert said(chunk(b"sRGB", b"\0") + chunk(b"gAMA", struct.pack(">I", 100000))) == ()
    assert said(chunk(b"cHRM", wide)) == ("cHRM (other primaries than sRGB's)",)
    assert said(chunk(b"iCCP", b"x\0\0nonsense")) == ("iCCP (damaged)",)
    grey = linear_profile("GRAY", "grey")
    assert said(chunk(b"iCCP", b"x\0\0" + zlib.compress(grey))) == ("ICC profile (GRAY, of a picture in RGB)",)
    assert said(chunk(b"iCCP", b"x\0\0" + zlib.compress(b"no profile"))) == ("ICC profile (cannot be read)",)


def test_an_avif_says_its_code_points(tmp_path: Path) -> None:
    pil.new("RGB", (16, 16), "grey").save(tmp_path / "a.avif")
    content = (tmp_path / "a.avif").read_bytes()
    assert not_applied(tmp_path / "a.avif") == ()
    place = content.index(b"colrnclx") + 8
    (tmp_path / "a.avif").write_bytes(content[:place] + b"\0\x09\0\x10" + content[place + 4 :])
    assert not_applied(tmp_path / "a.avif") == ("nclx (9, 16)",)


def test_only_the_formats_that_are_meant_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An EPS called photo.png would start Ghostscript."""
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/ran\n[ "$1" = --version ] && echo 10.0\nexit 0\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # to be looked for again
    (tmp_path / "photo.png").write_bytes(eps)
    pil.new("RGB", (4, 4)).save(tmp_path / "b.tga")
    (tmp_path / "b.tga").rename(tmp_path / "b.png")
    for name in ("photo.png", "b.png"):
        with pytest.raises(HvqbenchError, match=r"is not an image of a kind that hvqbench reads \(AVIF, BMP, .*PNG"):
            read_image(tmp_path / name)
    assert not (tmp_path / "ran").exists()
