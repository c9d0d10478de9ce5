"""Does a store of a million rows answer `bd` and `report` in under 5 s and 1 GB?

    python tests/benchmarks/million_rows.py [--rows 1000000] [--codecs 10] [--versions 10] [--folder FOLDER]

Makes a store of --codecs codecs, --versions versions of each (only the newest counts) and 10 points, over as many
images as it takes, as a sweep leaves it after compaction, with every column that a row has. With --folder it stays.
Then each command runs in a process of its own, and its time and the peak of its resident memory are printed. Exit 1
where one is over the limit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from hvqbench.bench.parquet import table_to_parquet

POINTS = 10
SECONDS, GIGABYTE = 5.0, 1e9
MEASURE = """
import resource, sys, time
from hvqbench.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
finally:
    print(time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, file=sys.stderr)
"""


def make_store(root: Path, rows: int, codecs: int, versions: int) -> None:
    """Deterministic rows: rate rises with the point, quality too, each image has its own level."""
    images = max(4, rows // (codecs * versions * POINTS))
    rng = np.random.default_rng(0)
    level = rng.normal(0, 2, images)
    point = np.tile(np.repeat(np.arange(1.0, POINTS + 1), images), versions)
    image = np.tile(np.arange(images), POINTS * versions)
    fingerprints = [f"{version:064x}" for version in range(versions) for _ in range(POINTS * images)]
    count = len(point)
    for codec in range(codecs):
        bpp = 0.05 * point**1.5 * np.exp(0.1 * level[image] + 0.01 * codec) * rng.uniform(0.98, 1.02, count)
        size = np.maximum(1, np.rint(bpp * 768 * 512 / 8)).astype(np.int64)
        hashes = [f"{number:064x}" for number in rng.integers(0, 2**62, count)]
        started = [f"2026-01-01T00:00:00.{n:06}+00:00" for n in range(count)]
        libraries = json.dumps({"python": "3.11.2", "numpy": "2.4.0", "torch": "2.10.0+cpu", "pillow": "12.0.0"})
        texts = {"point_name": "quality", "status": "ok", "reason": "", "version": "0.1.0", "host": "benchmark"}
        texts |= {"libraries": libraries, "device": "cpu", "protocol": ""}
        texts |= {"metrics": json.dumps({"psnr": "psnr/1", "lpips-alex": "lpips-alex/1 lpips==0.1.4"})}
        texts |= {"command": "hvqbench run --codec many --dataset large --metric psnr,lpips-alex"}
        table = pa.table(
            {
                "point": point,
                "image": [f"photo-{n:06}.png" for n in image],
                "width": np.full(count, 768),
                "height": np.full(count, 512),
                "bytes": size,
                "bytes.payload": size,
                "bpp": 8 * size / (768 * 512),
                "ideal_bytes": np.full(count, np.nan),
                "psnr": 25 + 6 * np.log2(1 + point) + level[image] - 0.05 * codec,
                "lpips-alex": 0.5 / point + 0.01 * rng.random(count),
                "encode_s": rng.uniform(0.01, 0.02, count),
                "decode_s": rng.uniform(0.01, 0.02, count),
                "threads": np.full(count, 1),
                "jobs": np.full(count, 1),
                "started": started,
                "codec_fingerprint": fingerprints,
                **dict.fromkeys(("key", "bitstream_sha256", "reconstruction_sha256", "digest"), hashes),
                "image_sha256": [f"{n:064x}" for n in image],
                **{name: pa.array([value] * count) for name, value in texts.items()},
            }
        )
        folder = root / "dataset=large" / f"codec=codec-{codec:02}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "0.parquet").write_bytes(table_to_parquet(table))


def measure(*command: str) -> tuple[float, float, float]:
    """Seconds on the clock and of CPU, and bytes at the peak, of a command in a fresh process."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", MEASURE, *command], capture_output=True, text=True, check=False)
    whole = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    cpu, memory = map(float, done.stderr.split("\n")[-2].split())
    return whole, cpu, memory


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--codecs", type=int, default=10)
    parser.add_argument("--versions", type=int, default=10)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = given.folder or Path(temporary) / "results"
        if not root.is_dir():
            make_store(root, given.rows, given.codecs, given.versions)
        where = ("--results", str(root))
        commands = {
            "bd of two codecs": ("bd", "--anchor", "codec-00", "--codec", "codec-01", "--metric", "psnr", *where),
            "bd of all": ("bd", "--anchor", "codec-00", "--metric", "psnr", *where),
            "report": ("report", "--anchor", "codec-00", "--out", str(Path(temporary) / "report"), *where),
        }
        over = 0
        for name, command in commands.items():
            seconds, cpu, memory = measure(*command)
            fine = seconds < SECONDS and memory < GIGABYTE
            over += not fine
            verdict = "" if fine else ", over the limit"
            sys.stdout.write(f"{name}: {seconds:.2f} s, {cpu:.2f} s of CPU, {memory / 1e6:.0f} MB{verdict}\n")
            sys.stdout.flush()
    return int(over > 0)


if __name__ == "__main__":
    raise SystemExit(main())
