"""SSIMULACRA2 (Sneyers, Cloudinary 2022) through the package ``ssimulacra2``, a port of the authors' C++ to NumPy.

The values are the package's own, since its public function is what is called. It reads files, so both images are handed
over as uncompressed files in memory.
"""

from __future__ import annotations

from io import BytesIO

from hvqbench.codec import Image
from hvqbench.metrics.base import Metric


class SSIMULACRA2(Metric):
    """100 for equal images, 90 visually lossless, 70 high, 50 medium and 30 low quality; negative beyond that.

    Six scales of the opsin colour space XYB. A side below 8 pixels has no scale at all, and the package would call any
    two such images equal.
    """

    def _features(self, image: Image) -> bytes:
        from PIL import Image as pillow

        file = BytesIO()
        pillow.fromarray(image).save(file, "PPM")
        return file.getvalue()

    def _score(self, features: bytes, image: Image) -> float:
        from ssimulacra2 import compute_ssimulacra2

        return float(compute_ssimulacra2(BytesIO(features), BytesIO(self._features(image))))
