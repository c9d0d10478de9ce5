"""From a picture's own colours to sRGB, by its ICC profile."""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image as pil
    from PIL import ImageCms


def to_srgb(picture: pil.Image, profile: bytes) -> pil.Image:
    """*picture*, of mode L, RGB, CMYK or LAB, in sRGB; *profile* may be empty."""
    from PIL import Image as pil
    from PIL import ImageCms

    found = conversion(profile, picture.mode) if profile or picture.mode == "LAB" else None
    if found is None or isinstance(found, str):
        return picture.convert("RGB")
    # Of grey, all that there is are 256 levels.
    pixels = pil.fromarray(np.arange(256, dtype=np.uint8)[None]) if picture.mode == "L" else picture
    converted = ImageCms.applyTransform(pixels, found)
    assert converted is not None
    return pil.fromarray(np.asarray(converted)[0][np.asarray(picture)]) if picture.mode == "L" else converted


@functools.lru_cache(maxsize=8)
def conversion(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | str | None:
    """What takes pixels of *mode* to sRGB; None if they are sRGB already, or in words why *profile* is not applied."""
    from PIL import ImageCms

    try:
        if mode == "LAB":
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        else:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            channels = source.profile.xcolor_space.strip()
            if channels != {"L": "GRAY"}.get(mode, mode):
                return f"ICC profile ({channels}, of a picture in {mode})"
        # Without its optimisation lcms is exact; with it, it joins 16 points of a grey curve by lines.
        precise = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE
        found = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION | precise,
        )
    except (OSError, ImageCms.PyCMSError):
        return "ICC profile (cannot be read)"
    return None if mode in ("L", "RGB") and _is_identity(found, mode) else found


def _is_identity(conversion: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether it moves nothing by more than a level. A profile's name proves nothing: "sRGB Linear" is not sRGB."""
    from PIL import Image as pil
    from PIL import ImageCms

    levels = np.arange(0, 256, 17 if mode == "RGB" else 1, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(64, 64, 3) if mode == "RGB" else levels[None]
    probe = pil.fromarray(np.ascontiguousarray(colours))
    moved = ImageCms.applyTransform(probe, conversion)
    return moved is not None and int(abs(np.asarray(moved, int) - np.asarray(probe.convert("RGB"), int)).max()) <= 1
