"""What does `hvqbench run` cost beside its codecs and metrics? Wall times: let the machine do nothing else.

    python tests/benchmarks/run_overhead.py [--codec jpegxl] [--metric lpips-alex] [--dataset kodak] [--limit 24]

Prints four times, each of a fresh process and an empty folder of results:

- a plain loop: load, then for each image and point encode, decode and score, in one process with as many threads;
- `run --jobs 1`, and how much more that is (to be at most 10 %);
- `run --jobs 2`, and how many times as fast (to be at least 1.6);
- the same run again, of nothing but cached rows (10 codecs on Kodak are to take under 2 s).

What a run does and the loop does not (an encoder and a decoder of their own, a second decode for the digest of a codec
that needs it, one warm-up call of each) is told apart: `inside` is the loop with these.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time

LOOP = """
import sys
from hvqbench.bench.worker import Decoder, Encoder, Judge
from hvqbench.data import load_dataset
codecs, metrics, dataset, limit, full = sys.argv[1].split(","), tuple(sys.argv[2].split(",")), *sys.argv[3:6]
from hvqbench.catalog import load_codec, load_spec
judge = Judge()
judge(None, None, metrics)
if full == "inside":
    encoder, decoder = Encoder(), Decoder()
    encode = lambda name, file, point: encoder(name, "cpu", file, point).data
    decode = lambda name, data: decoder(name, "cpu", data).image
else:
    ready = {name: load_codec(name) for name in codecs}
    for codec in ready.values():
        codec.prepare("cpu")
    encode = lambda name, file, point: ready[name].encode(file.read(), point).data
    decode = lambda name, data: ready[name].decode(data)
for file in load_dataset(dataset).images[: int(limit)]:
    for name in codecs:
        for point in load_spec(name).points:
            judge(file, decode(name, encode(name, file, point)), metrics)
"""


def seconds(*command: str) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codec", default="jpegxl")
    parser.add_argument("--metric", default="lpips-alex")
    parser.add_argument("--dataset", default="kodak")
    parser.add_argument("--limit", default="24")
    given = parser.parse_args()
    cores = str(len(os.sched_getaffinity(0)))
    os.environ.setdefault("OMP_NUM_THREADS", cores)  # the loop's; a run of one job has as many
    arguments = (given.codec, given.metric, given.dataset, given.limit)
    plain, inside = (seconds(sys.executable, "-c", LOOP, *arguments, kind) for kind in ("plain", "inside"))
    if os.environ["OMP_NUM_THREADS"] == cores:
        del os.environ["OMP_NUM_THREADS"]  # two jobs share the cores
    with tempfile.TemporaryDirectory() as folder:
        run = (sys.executable, "-m", "hvqbench", "run", "--codec", given.codec, "--metric", given.metric)
        run += ("--dataset", given.dataset, "--limit", given.limit)
        one, again, two = (
            seconds(*run, "--results", f"{folder}/{name}", "--jobs", jobs)
            for name, jobs in (("one", "1"), ("one", "1"), ("two", "2"))
        )
    sys.stdout.write(f"plain loop {plain:.2f} s, inside {inside:.2f} s\n")
    sys.stdout.write(f"run --jobs 1 {one:.2f} s: {100 * (one / inside - 1):+.1f} % of inside\n")
    sys.stdout.write(f"run --jobs 2 {two:.2f} s: {one / two:.2f} times as fast\n")
    sys.stdout.write(f"cached rows only {again:.2f} s\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
