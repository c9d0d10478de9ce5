"""Training photos: a folder or a ZIP of images, decoded once into memory, served as random crops."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError
from torch import Tensor

from hvqbench.errors import HvqbenchError
from hvqbench.training import processes

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


class Photos:
    """All photos of *source* whose short side is at least *crop*, as uint8 H×W×3 arrays."""

    def __init__(self, source: Path, crop: int) -> None:
        self.crop = crop
        self.images = [image for image in _decode_all(source) if min(image.shape[:2]) >= crop]
        if not self.images:
            raise HvqbenchError(
                f"{source} holds no image of at least {crop}x{crop} pixels: give --data more or larger photos"
            )
        # A photo is drawn in proportion to the square root of its area: large ones hold more crops, but are few.
        weights = np.array([np.sqrt(image.shape[0] * image.shape[1]) for image in self.images])
        self.probabilities = weights / weights.sum()

    def batch(self, size: int, rng: np.random.Generator) -> Tensor:
        """Random crops, half of them mirrored: float32 B×3×crop×crop in [-1, 1], channels last."""
        chosen = rng.choice(len(self.images), size, p=self.probabilities)
        crops = np.stack([self._crop(self.images[i], rng) for i in chosen])
        return to_tensor(crops)

    def _crop(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        top = rng.integers(image.shape[0] - self.crop + 1)
        left = rng.integers(image.shape[1] - self.crop + 1)
        crop = image[top : top + self.crop, left : left + self.crop]
        return crop[:, ::-1] if rng.random() < 0.5 else crop


def to_tensor(images: np.ndarray) -> Tensor:
    """uint8 B×H×W×3 to float32 B×3×H×W in [-1, 1], channels last in memory."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def _decode_all(source: Path) -> Iterator[np.ndarray]:
    from rich.progress import track

    files = list(_files(source))
    for name, data in track(files, "reading photos", console=processes.console(), total=len(files)):
        try:
            with PillowImage.open(io.BytesIO(data)) as image:
                yield np.asarray(image.convert("RGB"))
        except (UnidentifiedImageError, OSError) as error:
            raise HvqbenchError(f"{source}: {name} is not a readable image ({error}); remove or replace it") from None


def _files(source: Path) -> Iterator[tuple[str, bytes]]:
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            for name in sorted(n for n in archive.namelist() if Path(n).suffix.lower() in SUFFIXES):
                yield name, archive.read(name)
    elif source.is_dir():
        for path in sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES):
            yield path.name, path.read_bytes()
    else:
        raise HvqbenchError(f"training data {source} is neither a folder nor a ZIP of images: correct --data")
