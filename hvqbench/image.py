"""Pixels in and out. What a file's pixels *are* is decided here, once, so that every codec and metric sees the same.

Everything becomes 8-bit sRGB, H×W×3:

- **EXIF orientation** is applied: the picture is taken as it is shown.
- **16 bit** is scaled by 255/65535 and rounded, in grey files and in colour PNGs; of other 16-bit files, Pillow gives
  the high byte only.
- **Alpha** is composited on white, in the file's own colour space; a palette's transparency too.
- **An ICC profile** is converted to sRGB (relative colorimetric, black point compensated); pixels that are sRGB already
  stay as they are. A profile that cannot be read is ignored, as browsers do.
- **CMYK** goes through its ICC profile, or by Pillow's formula, R = (255 - C)(255 - K) / 255, if it has none.
- **Grey** is repeated three times, a **palette** is looked up, an **animation** counts for its first frame.
"""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hvqbench.codec import Image
from hvqbench.errors import HvqbenchError
from hvqbench.files import atomic_path

if TYPE_CHECKING:
    from PIL import Image as pil
    from PIL import ImageCms, ImageFile

SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".pgm", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
"""What counts as an image when a folder is listed."""


def read_image(path: str | Path) -> Image:
    """The pixels of an image file, uint8 H×W×3 in sRGB; the module's text says what is converted, and how.

    Raises
    ------
    HvqbenchError
        The file is missing, no image, truncated, corrupt, or claims more pixels than Pillow trusts (179 million).
    """
    from PIL import Image as pil
    from PIL import UnidentifiedImageError

    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(path)
    except HvqbenchError:
        raise
    except pil.DecompressionBombError:
        limit = 2 * (pil.MAX_IMAGE_PIXELS or 0) // 10**6
        raise HvqbenchError(
            f"{path} claims more than {limit} million pixels: crop it, or split it into tiles"
        ) from None
    except UnidentifiedImageError:
        raise HvqbenchError(f"{path} is not an image that Pillow knows: remove it or convert it to PNG") from None
    except OSError as error:
        if error.errno is not None:
            raise HvqbenchError(f"cannot read {path}: {error.strerror}; check the path and its permissions") from None
        raise _corrupt(path, error) from None
    except Exception as error:  # a damaged file makes Pillow's parsers raise almost anything
        raise _corrupt(path, error) from None


def write_image(path: str | Path, image: Image) -> None:
    """Write *image* (uint8, H×W×3) as a PNG file."""
    from PIL import Image as pil

    path = Path(path)
    if path.suffix.lower() != ".png":
        raise HvqbenchError(f"cannot write {path}: images are written as PNG only; give it the suffix .png")
    try:
        with atomic_path(path) as temporary:
            pil.fromarray(check_image(image)).save(temporary, format="PNG")
    except OSError as error:
        raise HvqbenchError(f"cannot write {path}: {error.strerror or error}; check the folder") from None


def check_image(image: Image) -> Image:
    """*image* itself if it is what this package calls an image: uint8, H×W×3, at least one pixel."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise HvqbenchError(
            f"an image must be a uint8 array H×W×3, not {found}: convert it, scaled to 0..255 and rounded"
        )
    if image.size == 0:
        raise HvqbenchError(f"an image must have at least one pixel, but its shape is {image.shape}")
    return image


def _corrupt(path: Path, error: Exception) -> HvqbenchError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return HvqbenchError(f"{path} is corrupt or truncated ({reason}): replace it or leave it out")


def _read(path: Path) -> Image:
    from PIL import Image as pil
    from PIL import ImageOps

    with pil.open(path) as file:
        if file.format == "PNG":
            file.verify()  # checks every chunk's CRC, which loading alone does not; the file must be opened again then
    with pil.open(path) as file:
        profile = file.info.get("icc_profile")
        picture = _eight_bits(file, path)
        ImageOps.exif_transpose(picture, in_place=True)
        picture = _to_srgb(_flatten(picture), profile)
    return np.array(picture)


def _eight_bits(file: ImageFile.ImageFile, path: Path) -> pil.Image:
    """The file's picture at 8 bits per channel, in any mode."""
    from PIL import Image as pil

    if file.format == "PNG" and file.tile and file.tile[0].args in ("RGB;16B", "RGBA;16B"):
        # Pillow keeps the high byte only. Read as little-endian, the same bytes give the low one.
        with pil.open(path) as low:
            low.tile = [tile._replace(args=str(tile.args).replace("16B", "16L")) for tile in low.tile]
            wide = np.asarray(file).astype(np.uint32) * 256 + np.asarray(low)
        scaled = pil.fromarray(_from_16_bits(wide))
    elif file.mode.startswith("I"):  # I;16, or I where Pillow has scaled a PGM to 16 bits
        wide = np.asarray(file).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise HvqbenchError(f"{path} has values outside 0..65535: scale it to 8 or 16 bits per channel")
        scaled = pil.fromarray(_from_16_bits(wide))
    elif file.mode == "F":
        raise HvqbenchError(f"{path} has floating-point values, whose range is unknown: scale it to 8 or 16 bits")
    else:
        file.load()
        return file
    scaled.info["exif"] = file.info.get("exif", b"")
    return scaled


def _from_16_bits(values: np.ndarray) -> Image:
    return ((values * 255 + 32767) // 65535).astype(np.uint8)


def _flatten(picture: pil.Image) -> pil.Image:
    """Without palette and alpha: mode L, RGB, CMYK or another one without transparency."""
    from PIL import Image as pil

    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        white = pil.new("RGBA", rgba.size, "white")
        return pil.alpha_composite(white, rgba).convert("RGB")
    return picture if picture.mode in ("L", "RGB", "CMYK", "LAB") else picture.convert("RGB")


def _to_srgb(picture: pil.Image, profile: bytes | None) -> pil.Image:
    from PIL import ImageCms

    target = ImageCms.createProfile("sRGB")
    if picture.mode == "LAB":
        source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    elif profile and (read := _read_profile(profile, picture.mode)):
        source = read
    else:
        return picture.convert("RGB")
    converted = ImageCms.profileToProfile(
        picture,
        source,
        target,
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert converted is not None
    return converted


def _read_profile(profile: bytes, mode: str) -> ImageCms.ImageCmsProfile | None:
    """The parsed profile, or None if it is sRGB already, unreadable, or meant for other channels than *mode*'s."""
    from PIL import ImageCms

    try:
        parsed = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except OSError:
        return None
    if parsed.profile.xcolor_space.strip() != {"L": "GRAY"}.get(mode, mode):
        return None
    if re.match(r"sRGB\b", ImageCms.getProfileDescription(parsed)):
        return None
    return parsed
