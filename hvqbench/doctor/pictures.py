"""What a codec is put through: small photographs and synthetic images, and files as ``run`` would read them.

The photographs are those of scikit-image's wheel (the data set ``sample``), so nothing needs a network.
"""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache

import numpy as np

from hvqbench.codec import Image
from hvqbench.scratch import scratch_folder

SIZES = (
    *((1, 1), (1, 2), (2, 1), (180, 1), (1, 180), (2, 2), (3, 5), (7, 9), (8, 8), (15, 17), (16, 16), (17, 15)),
    *((33, 31), (31, 33), (63, 65), (64, 64), (65, 63), (127, 129), (129, 127)),
)
"""Width and height: one pixel, one row, one column, and one below, at and above the blocks that codecs have."""


@lru_cache
def photographs() -> tuple[Image, Image]:
    """Two photographs of 256x192 pixels, with faces, fur, fabric and edges, and every colour in another place."""
    from hvqbench.data import load_dataset

    files = {file.name: file for file in load_dataset("sample").images}
    astronaut, cat = files["astronaut"].read(), files["chelsea"].read()
    return astronaut[:192, 96:352].copy(), cat[40:232, 100:356].copy()


def photograph() -> Image:
    """The first of :func:`photographs`."""
    return photographs()[0]


def sizes() -> dict[str, Image]:
    """A photograph cut to each of :data:`SIZES`; a corner with an edge in it, so that no cut is plain."""
    photo = photograph()[10:, 70:]
    return {f"{width}x{height}": photo[:height, :width].copy() for width, height in SIZES}


def synthetic() -> dict[str, Image]:
    """Images that no photograph prepares a codec for: without any detail, and with nothing else."""
    height, width = 48, 64
    y, x = np.mgrid[:height, :width]
    grey = {
        "black": np.zeros((height, width)),
        "white": np.full((height, width), 255),
        "a checkerboard of single pixels": 255 * ((x + y) % 2),
        "a ramp": 4 * x,
    }
    images = {name: np.repeat(values[..., None], 3, axis=2).astype(np.uint8) for name, values in grey.items()}
    images["saturated stripes"] = np.eye(3, dtype=np.uint8)[(x // 5) % 3] * 255
    images["noise"] = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return images


@lru_cache
def inputs() -> dict[str, Image]:
    """What :func:`hvqbench.image.read_image` makes of files that are not 8-bit RGB."""
    from PIL import Image as pil

    from hvqbench.image import read_image

    photo = photograph()[60:141, 70:171]  # 101x81
    picture = pil.fromarray(photo)
    alpha = pil.fromarray(np.tile(np.linspace(0, 255, photo.shape[1]).astype(np.uint8), (photo.shape[0], 1)))
    wide = photo.astype(np.uint16) * 257
    images = {}
    with scratch_folder() as folder:
        path = folder / "image.png"
        pictures = {
            "grey": picture.convert("L"),
            "grey with alpha": pil.merge("LA", (picture.convert("L"), alpha)),
            "RGBA": pil.merge("RGBA", (*picture.split(), alpha)),
            "palette": picture.quantize(16),
            "black and white": picture.convert("1"),
            "16-bit grey": pil.fromarray(wide[..., 1]),
        }
        for kind, file in pictures.items():
            file.save(path)
            images[kind] = read_image(path)
        path.write_bytes(png16(wide))
        images["16-bit RGB"] = read_image(path)
    return images


def png16(values: np.ndarray) -> bytes:
    """A PNG of 16-bit RGB (uint16, H×W×3), which Pillow reads and cannot write."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    coded = (struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(coded)
