"""How much memory does a metric take for each pixel of an image?

    python tests/benchmarks/metric_memory.py [METRIC ...]

The peak of resident memory for a pair of 1536x1024 pixels beyond that for a pair of 256x256; a process for each metric.
"""

from __future__ import annotations

import subprocess
import sys

METRICS = ("psnr", "ms-ssim", "ssimulacra2", "lpips-alex", "lpips-vgg", "dists")
MEASURE = """
import resource, sys
import numpy as np
from hvqbench.metrics import load_metric
metric, peaks = load_metric(sys.argv[1]), []
for height, width in ((256, 256), (1024, 1536)):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    metric.score(metric.reference(image), image // 2)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
print((peaks[1] - peaks[0]) / (1024 * 1536 - 256 * 256))
"""


def main() -> None:
    for name in sys.argv[1:] or METRICS:
        done = subprocess.run([sys.executable, "-c", MEASURE, name], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        sys.stdout.write(f"{name}: {float(done.stdout):.0f} bytes for each pixel\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
