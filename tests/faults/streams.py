"""Streams of every VQ codec that lie: damaged anywhere, with a checksum made good, so that the decoder has to see it.

Right is an image of the size that the header says, or a one-line :class:`~hvqbench.errors.BitstreamError`; each within
:data:`LIMIT_S`. Where the checksum is left as it is, only the error is right.

    python tests/faults/streams.py hypervq 100 7      100 streams of one codec, from seed 7
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from outcome import Outcome
from workplace import Workplace

from hvqbench.catalog import codec_files, load_codec, load_spec
from hvqbench.errors import BitstreamError
from hvqbench.vq.container import FINGERPRINT_BYTES, crc24

LIMIT_S = 20.0
"""For one stream of an image as small as these."""
HEAD = 3 + FINGERPRINT_BYTES
CHUNK = 250
SIZE = (40, 56)
BAD_CHECKSUM = 0.1
"""Part of the streams whose checksum is not made good."""


TOYS = Path(__file__).parents[1] / "streams/codecs"
"""Small codecs: of those with a transformer all streams are in its own mode, and some hold the first slices alone."""


def vq_codecs() -> list[str]:
    shipped = [name for name in codec_files() if load_spec(name).adapter == "vq"]
    return [name for name in shipped if load_codec(name).unavailable() is None] + [str(TOYS / "rvq-prefix")]


def fuzz(place: Workplace, codecs: list[str], count: int, jobs: int, seed: int) -> Outcome:
    """*count* streams, shared among *codecs*, in processes that may die."""
    outcome = Outcome("streams", f"damaged streams of {len(codecs)} VQ codecs, 9 of 10 with a good checksum")
    shares = [count // len(codecs) + (number < count % len(codecs)) for number in range(len(codecs))]
    chunks = [
        (codec, min(CHUNK, share - start), seed + start)
        for codec, share in zip(codecs, shares, strict=True)
        for start in range(0, share, CHUNK)
    ]
    with outcome.timed(), ThreadPoolExecutor(jobs) as pool:
        for chunk, found in zip(chunks, pool.map(lambda chunk: _in_process(place, *chunk), chunks), strict=True):
            told = f"python tests/faults/streams.py {chunk[0]} {chunk[1]} {chunk[2]}"
            for what, wrong in found:
                outcome.add(what, f"{told}: {wrong}" if wrong else "")
    return outcome


def _in_process(place: Workplace, codec: str, count: int, seed: int) -> list[tuple[str, str]]:
    command = [sys.executable, __file__, codec, str(count), str(seed)]
    limit = 120 + count * LIMIT_S
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=place.environment, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        return [("hung", f"no end after {limit:g} s")]
    found = [tuple(json.loads(line)) for line in done.stdout.splitlines()]
    if done.returncode or len(found) < count:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        found.append(("died", f"exit status {done.returncode} at stream {len(found)}: {last[:200]}"))
    return found


def damaged(data: bytes, rng: random.Random) -> tuple[bytes, bool]:
    """A stream made of a good one, and whether its checksum is good."""
    body = bytearray(data[:-3])
    kind = rng.choice(["bits", "bytes", "cut", "longer", "splice", "size", "header", "slices", "payload"])
    payload = HEAD + 2
    if kind == "bits":
        for _ in range(rng.choice([1, 1, 1, 2, 8])):
            body[rng.randrange(payload, len(body))] ^= 1 << rng.randrange(8)
    elif kind == "bytes":
        start = rng.randrange(payload, len(body))
        end = min(len(body), start + rng.randrange(1, 40))
        body[start:end] = rng.randbytes(end - start)
    elif kind == "cut":
        del body[rng.randrange(payload, len(body)) :]
    elif kind == "longer":
        body += rng.choice([bytes(1), rng.randbytes(rng.randrange(1, 200)), b"\xff" * 50])
    elif kind == "splice":
        start = rng.randrange(payload, len(body))
        body[start:start] = body[payload : payload + rng.randrange(1, 60)]
    elif kind == "size":  # small ones: what a header may claim at most is tested by itself
        body[HEAD : HEAD + 2] = bytes([rng.randrange(128), rng.randrange(128)])
    elif kind == "header":  # version, mode and flags
        body[2] = rng.randrange(256)
    elif kind == "slices":  # and stages, and what completes the others
        body[payload + rng.randrange(3)] = rng.randrange(256)
    else:
        body[payload:] = rng.choice([b"", bytes(300), b"\xff" * 300, rng.randbytes(rng.randrange(1, 500))])
    good = rng.random() >= BAD_CHECKSUM
    checksum = (crc24(bytes(body)) ^ 0xFFFFFF).to_bytes(3)
    return bytes(body) + (checksum if good else bytes([checksum[0] ^ 1 + rng.randrange(255), *checksum[1:]])), good


def _tries(name: str, count: int, seed: int) -> Iterator[tuple[str, str]]:
    codec = load_codec(name)
    codec.prepare()
    rng = random.Random(f"{name} {seed}")
    pixels = np.random.default_rng(seed).normal(128, 40, (*SIZE, 3))
    images = [pixels.clip(0, 255).astype(np.uint8), np.full((*SIZE, 3), 90, np.uint8)]
    streams = [codec.encode(image, point).data for image in images for point in (codec.points[0], codec.points[-1])]
    for number in range(count):
        data, good = damaged(rng.choice(streams), rng)
        start = monotonic()
        what, wrong = _decode(codec, data)
        seconds = monotonic() - start
        if what == "decoded" and not good:
            wrong = "a wrong checksum was taken"
        if seconds > LIMIT_S:
            wrong = f"it took {seconds:.0f} s"
        yield what, f"stream {number}, {data.hex()}: {wrong}" if wrong else ""


def _decode(codec: Any, data: bytes) -> tuple[str, str]:
    try:
        image = codec.decode(data)
    except BitstreamError as error:
        line = str(error)
        return "refused", "" if "\n" not in line and codec.id in line else f"not one line that names the codec: {line}"
    except Exception as error:  # the kind of thing that is looked for
        return "crashed", f"{type(error).__name__}: {error}"
    if data[HEAD] > 127 or data[HEAD + 1] > 127:
        return "decoded", ""
    size = (data[HEAD + 1], data[HEAD], 3)
    wrong = image.shape != size or image.dtype != np.uint8
    return "decoded", f"{image.dtype} {image.shape} for a header of {size}" if wrong else ""


if __name__ == "__main__":
    for found in _tries(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])):
        print(json.dumps(found), flush=True)  # noqa: T201
