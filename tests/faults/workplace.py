"""A folder in which hvqbench is run and hurt: a catalog with a small codec, images, results, and a reference."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

import hvqbench
from hvqbench.bench.store import Store
from hvqbench.image import write_image

ROOT = Path(hvqbench.__file__).parents[1]
COLUMNS = ["codec", "point", "image", "status", "bytes", "psnr", "digest", "key", "bitstream_sha256"]
"""What has to be the same however often a run was hurt."""
POINTS = (1, 2, 4, 8, 16, 32)
CODEC = '''
"""Zlib over coarser pixels: a point is the number of levels that are merged into one."""
import time, zlib
import numpy as np
from hvqbench.codec import Bitstream, Codec, Stream

class Coarse(Codec):
    def encode(self, image, point):
        time.sleep(0.01)
        header = np.array([*image.shape[:2], int(point)], "<u2").tobytes()
        payload = zlib.compress((image // int(point)).tobytes())
        return Bitstream(header + payload, {"header": Stream(6), "payload": Stream(len(payload), 8.0 * len(payload))})

    def decode(self, data):
        height, width, point = np.frombuffer(data[:6], "<u2")
        return np.frombuffer(zlib.decompress(data[6:]), np.uint8).reshape(height, width, 3) * np.uint8(point)
'''


class Workplace:
    """Everything below *root*, temporary files included."""

    def __init__(self, root: Path) -> None:
        self.root = root
        folder = root / "catalog" / "codecs" / "coarse"
        folder.mkdir(parents=True)
        (folder / "adapter.py").write_text(CODEC)
        lines = ['summary = "coarse"', f"points = {list(POINTS)}", 'point_name = "levels"']
        (folder / "codec.toml").write_text("\n".join(lines) + "\n")
        (root / "images").mkdir()
        rng = np.random.default_rng(1)
        for name in "abc":
            write_image(root / "images" / f"{name}.png", rng.integers(0, 256, (24, 31, 3), np.uint8))
        (root / "tmp").mkdir()
        own = {"HVQBENCH_CATALOG": root / "catalog", "TMPDIR": root / "tmp", "HVQBENCH_CACHE": root / "cache"}
        self.environment = os.environ | {name: str(path) for name, path in own.items()} | {"OMP_NUM_THREADS": "1"}
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment["PYTHONPATH"] = os.pathsep.join(paths)

    def sweep(self, results: str, metric: str = "psnr") -> list[str]:
        """The arguments of a run over the images."""
        where = ["--dataset", "images", "--results", results]
        return ["run", "--codec", "coarse", "--metric", metric, *where]

    def start(self, arguments: list[str], log: str = "log.txt") -> subprocess.Popen[bytes]:
        """A command in a process group of its own; what it says goes to a file."""
        with (self.root / log).open("wb") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "hvqbench", *arguments],
                cwd=self.root,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def call(self, arguments: list[str], log: str = "log.txt") -> tuple[int, str]:
        """Exit status of a command, and what it said."""
        process = self.start(arguments, log)
        try:
            status = process.wait(300)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
        return status, (self.root / log).read_text(errors="replace")

    def must(self, arguments: list[str]) -> str:
        """What a command says that nothing hurts."""
        status, said = self.call(arguments)
        if status:
            raise RuntimeError(f"{' '.join(arguments)} exits with {status}: {said[-2000:]}")
        return said

    def rows(self, results: str) -> pd.DataFrame:
        """The rows that count, of the columns that have to be the same."""
        return same(hvqbench.read_results(self.root / results))

    def whole(self) -> pd.DataFrame:
        """The rows of a run that nothing hurts: in ``whole`` in one file, in ``scattered`` in one file each."""
        if not (self.root / "whole").exists():
            self.must(self.sweep("whole"))
            self.scatter("scattered")
        return self.rows("whole")

    def scatter(self, target: str) -> None:
        """The rows as one file each in a new folder, as an interrupted run leaves them."""
        shutil.copytree(self.root / "whole" / "_streams", self.root / target / "_streams")
        store = Store(self.root / target)
        for row in Store(self.root / "whole").rows():
            store.append(row)


def same(rows: pd.DataFrame) -> pd.DataFrame:
    ordered = rows.sort_values(["codec", "point", "image"], kind="stable").reset_index(drop=True)
    return ordered.reindex(columns=COLUMNS)


def difference(rows: pd.DataFrame, reference: pd.DataFrame) -> str:
    """In what *rows* are not the reference; empty if in nothing."""
    try:
        pd.testing.assert_frame_equal(rows, reference)
    except AssertionError as error:
        return " ".join(str(error).split())[:300]
    return ""
