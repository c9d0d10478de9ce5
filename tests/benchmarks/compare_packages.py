"""How much faster are five metrics here than by calling their packages pair by pair?

    python tests/benchmarks/compare_packages.py [--images 24] [--points 6] [--crop 512]

Scores JPEG at several qualities: PSNR, MS-SSIM, LPIPS (AlexNet and VGG16) and DISTS, once as the judge of
`hvqbench run` does, once with `skimage`, `pytorch_msssim`, `lpips` and `DISTS_pytorch`. Prints CPU seconds of both,
their ratio, and the largest difference of a value. Exit 1 where a value differs by more than 1e-5 (of its size, where
that is above 1), or the ratio is below 1.8 (which is asked of 6 points).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from hvqbench.bench.worker import Judge
from hvqbench.catalog import load_codec
from hvqbench.codec import Image
from hvqbench.data import load_dataset
from hvqbench.image import read_image
from hvqbench.metrics.networks import dists_network, lpips_network

METRICS = ("psnr", "ms-ssim", "lpips-alex", "lpips-vgg", "dists")
QUALITIES = (5, 10, 20, 40, 60, 80, 90, 95)
TARGET, TOLERANCE = 1.8, 1e-5


@dataclass(frozen=True)
class Cropped:
    """An image file's top left corner, as the judge asks for it."""

    path: str
    side: int

    def read(self) -> Image:
        return read_image(self.path)[: self.side, : self.side]


def by_packages() -> Callable[[Image, Image], dict[str, float]]:
    """All five, of a pair, as their packages' own examples call them."""
    from pytorch_msssim import ms_ssim
    from skimage.metrics import peak_signal_noise_ratio

    alex, vgg, dists = lpips_network("alex"), lpips_network("vgg"), dists_network()

    def tensor(image: Image) -> torch.Tensor:
        return torch.tensor(image).permute(2, 0, 1)[None].float() / 255

    def call(original: Image, decoded: Image) -> dict[str, float]:
        x, y = tensor(original), tensor(decoded)
        with torch.no_grad():
            values = [
                ms_ssim(255 * x, 255 * y, data_range=255),
                alex(x, y, normalize=True),
                vgg(x, y, normalize=True),
                dists(x, y),
            ]
        return dict(zip(METRICS, [peak_signal_noise_ratio(original, decoded), *map(float, values)], strict=True))

    return call


def timed(call: Callable[[], dict[str, float]]) -> tuple[float, dict[str, float]]:
    start = time.process_time()
    values = call()
    return time.process_time() - start, values


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="sample")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--points", type=int, default=6, choices=range(1, len(QUALITIES) + 1))
    parser.add_argument("--crop", type=int, default=100_000, help="pixels of the largest side")
    given = parser.parse_args()
    jpeg, judge, packages = load_codec("jpeg"), Judge(), by_packages()
    judge(None, None, METRICS)
    warm = np.random.default_rng(0).integers(0, 256, (192, 192, 3), dtype=np.uint8)
    packages(warm, warm)
    ours, theirs, worst = 0.0, 0.0, 0.0
    for file in load_dataset(given.dataset).images[: given.images]:
        image = Cropped(str(file.path), given.crop)
        original = image.read()
        for quality in QUALITIES[: given.points]:
            decoded = jpeg.decode(jpeg.encode(original, quality).data)
            seconds, found = timed(lambda: judge(image, decoded, METRICS))  # type: ignore[arg-type] # noqa: B023
            ours += seconds
            seconds, expected = timed(lambda: packages(original, decoded))  # noqa: B023
            theirs += seconds
            unequal = [n for n in METRICS if found[n] != expected[n]]  # a PSNR may be infinite
            worst = max([worst, *(abs(found[n] - expected[n]) / max(1, abs(expected[n])) for n in unequal)])
    ratio = theirs / ours
    sys.stdout.write(f"packages {theirs:.2f} s, hvqbench {ours:.2f} s of CPU: {ratio:.2f} times as fast, ")
    sys.stdout.write(f"largest difference {worst:.1e}\n")
    return int(worst > TOLERANCE or ratio < TARGET)


if __name__ == "__main__":
    raise SystemExit(main())
