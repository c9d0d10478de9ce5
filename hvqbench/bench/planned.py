"""The originals of a plan: whoever reads one gets the pixels that were planned, or none."""

from __future__ import annotations

from dataclasses import dataclass

from hvqbench.codec import Image, image_digest
from hvqbench.data import ImageFile
from hvqbench.errors import HvqbenchError
from hvqbench.image import read_image
from hvqbench.scratch import scratch_folder


@dataclass(frozen=True)
class PlannedImage(ImageFile):
    """An image and what is known of its pixels: a row's ``image_sha256`` is that of what was coded and judged."""

    sha256: str = ""

    def read(self) -> Image:
        """As of :class:`~hvqbench.data.ImageFile`; raises if the pixels are others than when the run was planned."""
        image = self._read()
        if image_digest(image) != self.sha256:
            reason = "its pixels are not those that the run was planned for"
            raise HvqbenchError(f"{self.path}: {reason}; leave the file alone and run the same command again")
        return image

    def _read(self) -> Image:
        return read_image(self.path)


@dataclass(frozen=True)
class CarriedImage(PlannedImage):
    """An image that comes with its file's bytes."""

    data: bytes = b""

    def _read(self) -> Image:
        with scratch_folder() as folder:
            file = folder / self.path.name
            file.write_bytes(self.data)
            return read_image(file)
