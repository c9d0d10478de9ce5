"""Training photos: a folder or a ZIP of images, kept compressed in memory, served as random crops."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError
from torch import Tensor

from hvqbench.errors import HvqbenchError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True)
class Photo:
    """A compressed photo and its width and height."""

    name: str
    data: bytes
    size: tuple[int, int]

    def pixels(self) -> np.ndarray:
        """uint8 H×W×3."""
        try:
            with PillowImage.open(io.BytesIO(self.data)) as image:
                return np.asarray(image.convert("RGB"))
        except OSError as error:
            raise HvqbenchError(f"{self.name} is damaged ({error}); remove or replace it") from None


class Photos:
    """All photos of *sources* whose short side is at least *crop*; decoded when one is drawn.

    Every ``held_out``-th of them, by the hash of its name, is kept from training: those are ``held``.
    """

    def __init__(self, sources: Path | Sequence[Path], crop: int, held_out: int = 0) -> None:
        self.crop = crop
        sources = [sources] if isinstance(sources, Path) else sources
        read = [photo for source in sources for photo in _read_all(source) if min(photo.size) >= crop]
        self.held = [photo for photo in read if held_out and crc32(photo.name.encode()) % held_out == 0]
        self.photos = [photo for photo in read if photo not in self.held] if self.held else read
        if not self.photos:
            named = ", ".join(map(str, sources))
            raise HvqbenchError(
                f"{named} holds no image of at least {crop}x{crop} pixels: give --data more or larger photos"
            )
        # A photo is drawn in proportion to the square root of its area: large ones hold more crops, but are few.
        self._decoded: dict[str, np.ndarray] = {}
        weights = np.array([np.sqrt(photo.size[0] * photo.size[1]) for photo in self.photos])
        self.probabilities = weights / weights.sum()

    def batch(self, size: int, rng: np.random.Generator, crop: int = 0) -> Tensor:
        """Random crops, half of them mirrored: float32 B×3×crop×crop in [-1, 1], channels last."""
        chosen = rng.choice(len(self.photos), size, p=self.probabilities)
        return to_tensor(np.stack([self._crop(self._pixels(self.photos[i]), crop or self.crop, rng) for i in chosen]))

    def decode_all(self) -> None:
        """Decode every photo now, on all cores, and keep the pixels: a GPU outruns decoding as it goes."""
        with ThreadPoolExecutor() as pool:
            names = [photo.name for photo in self.photos]
            self._decoded = dict(zip(names, pool.map(Photo.pixels, self.photos), strict=True))

    def _pixels(self, photo: Photo) -> np.ndarray:
        found = self._decoded.get(photo.name)
        return photo.pixels() if found is None else found

    def held_crops(self, size: int, count: int) -> np.ndarray:
        """The middle *size* pixels a side of the first *count* held-out photos that are large enough, uint8 B×H×W×3."""
        large = [photo.pixels() for photo in [p for p in self.held if min(p.size) >= size][:count]]
        corners = [((image.shape[0] - size) // 2, (image.shape[1] - size) // 2) for image in large]
        crops = [x[top : top + size, left : left + size] for x, (top, left) in zip(large, corners, strict=True)]
        return np.stack(crops) if crops else np.empty((0, size, size, 3), np.uint8)

    def _crop(self, image: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
        top = rng.integers(image.shape[0] - side + 1)
        left = rng.integers(image.shape[1] - side + 1)
        crop = image[top : top + side, left : left + side]
        return crop[:, ::-1] if rng.random() < 0.5 else crop


def to_tensor(images: np.ndarray) -> Tensor:
    """uint8 B×H×W×3 to float32 B×3×H×W in [-1, 1], channels last in memory."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def _read_all(source: Path) -> list[Photo]:
    photos = []
    for name, data in _files(source):
        try:
            with PillowImage.open(io.BytesIO(data)) as image:
                photos.append(Photo(f"{source.name}/{name}", data, image.size))
        except (UnidentifiedImageError, OSError) as error:
            raise HvqbenchError(f"{source}: {name} is not a readable image ({error}); remove or replace it") from None
    return photos


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
