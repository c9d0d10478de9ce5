"""Pixels in and out. What a file's pixels *are* is decided here, once, so that every codec and metric sees the same.

Everything becomes 8-bit sRGB, H×W×3:

- **EXIF orientation** is applied: the picture is taken as it is shown.
- **16 bit** is scaled by 255/65535 and rounded, in PNGs and in grey and RGB TIFFs; of other 16-bit files, Pillow gives
  the high byte only.
- **Alpha** is composited on white, in the file's own colour space; a palette's transparency and a transparent colour
  (tRNS) too.
- **An ICC profile** is converted to sRGB (relative colorimetric, black point compensated), whatever it is called. One
  that moves no colour by more than one level is sRGB, and the pixels stay as they are. One that cannot be read, or is
  of other channels than the picture, is left out, as browsers do.
- **CMYK** goes through its ICC profile, or by Pillow's formula, R = (255 - C)(255 - K) / 255, if it has none.
- **Grey** is repeated three times, a **palette** is looked up, an **animation** counts for its first frame.
- **cICP, gAMA and cHRM** (PNG) and the code points of an AVIF are *not* applied: the pixels are taken for sRGB.

What a file says of its colours and is not applied is what :func:`not_applied` gives. Damaged metadata (a comment, EXIF,
a profile) refuses no picture. A file is opened as one of :data:`FORMATS`, whatever its name says, and as nothing else.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from hvqbench.codec import Image, check_image
from hvqbench.colour import conversion, to_srgb
from hvqbench.errors import HvqbenchError
from hvqbench.files import atomic_path
from hvqbench.png import PNG, SIGNATURE, read_png

if TYPE_CHECKING:
    from PIL import Image as pil
    from PIL import ImageFile

T = TypeVar("T")

READER = "2"
"""Raised whenever the pixels of any file change, so that nothing that was remembered of a file is believed."""

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow may take a file for. It knows many more, of which some start programs: an EPS, Ghostscript."""

SUFFIXES = frozenset(
    {
        *(".apng", ".avif", ".bmp", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg"),
        *(".jpx", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    }
)
"""What counts as an image when a folder is listed."""

ORIENTATION = 0x0112


def read_image(path: str | Path) -> Image:
    """The pixels of an image file, uint8 H×W×3 in sRGB; the module's text says what is converted, and how.

    Raises
    ------
    HvqbenchError
        The file is missing, no image, truncated, corrupt, or claims more pixels than Pillow trusts (179 million).
    """
    return _guarded(_read, Path(path))


def not_applied(path: str | Path) -> tuple[str, ...]:
    """What the file says of its colours that :func:`read_image` does not apply; for most files nothing.

    Each is a few words, ``cICP (primaries 9, transfer 16)``. Pixels are not decoded.

    Raises
    ------
    HvqbenchError
        As :func:`read_image`, as far as it looks.
    """
    return _guarded(_not_applied, Path(path))


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


def _guarded(read: Callable[[Path], T], path: Path) -> T:
    """*read* of *path*, with every way to fail as one line."""
    from PIL import Image as pil
    from PIL import UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read(path)
    except HvqbenchError:
        raise
    except pil.DecompressionBombError:
        limit = 2 * (pil.MAX_IMAGE_PIXELS or 0) // 10**6
        raise HvqbenchError(
            f"{path} claims more than {limit} million pixels: crop it, or split it into tiles"
        ) from None
    except UnidentifiedImageError:
        kinds = ", ".join(FORMATS)
        raise HvqbenchError(
            f"{path} is not an image of a kind that hvqbench reads ({kinds}): convert it to PNG or remove it"
        ) from None
    except OSError as error:
        if error.errno is not None:
            raise HvqbenchError(f"cannot read {path}: {error.strerror}; check the path and its permissions") from None
        raise _corrupt(path, error) from None
    except Exception as error:  # a damaged file makes Pillow's parsers raise almost anything
        raise _corrupt(path, error) from None


def _corrupt(path: Path, error: Exception) -> HvqbenchError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return HvqbenchError(f"{path} is corrupt or truncated ({reason}): replace it or leave it out")


def _open(path: Path) -> tuple[ImageFile.ImageFile, bytes, PNG | None]:
    """The file as Pillow sees it, its content, and a PNG file's parts."""
    from PIL import Image as pil

    # Pillow maps some files that it opens by name into memory, and then misreads a TIFF that is to be turned.
    content = path.read_bytes()
    png = read_png(content) if content.startswith(SIGNATURE) else None
    pil.init()
    formats = [name for name in FORMATS if name in pil.OPEN]  # a build of Pillow may lack one
    return pil.open(io.BytesIO(png.picture if png else content), formats=formats), content, png


def _read(path: Path) -> Image:
    file, content, png = _open(path)
    with file:
        # libpng gives all 16 bits, and compares a transparent colour with what is in the file.
        picture, turn = (_png(png), _turn(png.exif)) if png else _picture(file, content, path)
        profile = png.profile if png else file.info.get("icc_profile")
        if turn is not None:
            picture = picture.transpose(turn)
        return np.array(to_srgb(_flatten(picture), profile or b""))


def _not_applied(path: Path) -> tuple[str, ...]:
    file, content, png = _open(path)
    with file:
        profile = (png.profile if png else file.info.get("icc_profile")) or b""
        notes = list(png.notes if png else ())
        if profile and isinstance(problem := conversion(profile, _channels(file)), str):
            notes.append(problem)
        if file.format == "AVIF" and not profile:
            notes += _code_points(content)
    return tuple(notes)


def _png(png: PNG) -> pil.Image:
    import imagecodecs
    from PIL import Image as pil

    return pil.fromarray(_from_16_bits(imagecodecs.png_decode(png.picture)))


def _picture(file: ImageFile.ImageFile, content: bytes, path: Path) -> tuple[pil.Image, pil.Transpose | None]:
    """The file's picture at 8 bits per channel, in any mode, and how it is still to be turned."""
    from PIL import Image as pil

    tags = getattr(file, "tag_v2", {})  # of a TIFF
    turn = _transpositions().get(tags.get(ORIENTATION, 1))
    bits = set(tags.get(258, (1,)))
    if bits == {16} and (wide := _wide_tiff(content, tags)) is not None:
        return pil.fromarray(_from_16_bits(wide)), turn
    if file.mode == "F":
        raise HvqbenchError(f"{path} has floating-point values, whose range is unknown: scale it to 8 or 16 bits")
    if not file.mode.startswith("I"):
        file.load()  # which turns a TIFF
        return file, None if tags else _turn(file.info.get("exif", b""))
    # I;16, or I where Pillow has scaled a PGM to 16 bits
    wide = np.asarray(file).astype(np.int64)
    most = 4095 if bits == {12} else 65535
    if wide.min() < 0 or wide.max() > most:
        raise HvqbenchError(f"{path} has values outside 0..{most}: scale it to 8 or 16 bits per channel")
    return pil.fromarray(_scaled(wide, most)), None if tags else _turn(file.info.get("exif", b""))


def _wide_tiff(content: bytes, tags: Any) -> np.ndarray | None:
    """A TIFF's first picture, uint16 H×W or H×W×C with 0 for black; None if it is not grey, RGB or RGBA."""
    import imagecodecs

    photometric, extra, samples = tags.get(262), tuple(tags.get(338, ())), tags.get(277, 1)
    if photometric not in (0, 1, 2) or set(tags.get(339, (1,))) != {1}:
        return None
    if (samples, extra) not in ((1, ()), (3, ()), (4, (2,))):
        return None
    values = np.asarray(imagecodecs.tiff_decode(content, index=0)).squeeze()
    if samples > 1 and tags.get(284, 1) == 2:  # plane by plane
        values = np.moveaxis(values, 0, -1)
    if values.dtype != np.uint16 or values.ndim != (2 if samples == 1 else 3):
        return None
    return 65535 - values if photometric == 0 else values


def _from_16_bits(values: np.ndarray) -> np.ndarray:
    """*values*, uint16 or uint8, as uint8."""
    return values if values.dtype == np.uint8 else _scaled(values.astype(np.int64), 65535)


def _scaled(values: np.ndarray, most: int) -> np.ndarray:
    return ((values * 255 + most // 2) // most).astype(np.uint8)


def _turn(exif: bytes) -> pil.Transpose | None:
    """How a picture with that EXIF is to be turned; not at all if the EXIF cannot be read."""
    from PIL import Image as pil

    block = pil.Exif()
    try:
        block.load(exif)
        return _transpositions().get(block.get(ORIENTATION, 1))
    except Exception:  # of somebody's parser, about somebody's bytes
        return None


def _transpositions() -> dict[int, pil.Transpose]:
    from PIL.Image import Transpose

    return {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }


def _flatten(picture: pil.Image) -> pil.Image:
    """Without palette and alpha: mode L, RGB, CMYK or LAB."""
    from PIL import Image as pil

    grey = picture.mode in ("1", "L", "LA", "La")
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        flat = pil.alpha_composite(pil.new("RGBA", rgba.size, "white"), rgba)
        return flat.getchannel("R") if grey else flat.convert("RGB")
    if picture.mode in ("L", "RGB", "CMYK", "LAB"):
        return picture
    return picture.convert("L" if grey else "RGB")


def _channels(file: pil.Image) -> str:
    """The mode that :func:`_flatten` will give."""
    if file.mode in ("1", "L", "LA", "La") or file.mode.startswith("I"):
        return "L"
    return file.mode if file.mode in ("CMYK", "LAB") else "RGB"


def _code_points(content: bytes) -> list[str]:
    """Of an AVIF whose colours are not BT.709's or sRGB's."""
    head = content[: 2**16]
    place = head.find(b"colrnclx")
    if place < 0:
        return []
    primaries, transfer = (int.from_bytes(head[place + at : place + at + 2], "big") for at in (8, 10))
    # 2 says nothing; 6 and 5 are the curves and primaries of television, which nobody tells from sRGB's.
    return [] if primaries in (1, 2, 5, 6) and transfer in (1, 2, 6, 13) else [f"nclx ({primaries}, {transfer})"]
