"""New metrics for old results: per image and of whole sets, from the kept bitstreams, each version for itself."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hvqbench
from hvqbench import cli
from hvqbench.analysis import bd_rate, mean_curve
from hvqbench.bench.score import score
from hvqbench.bench.store import Store
from hvqbench.errors import HvqbenchError
from hvqbench.image import write_image
from hvqbench.report import make_report
from hvqbench.report.summary import exit_code, summarize

ADAPTER = '''
"""Zlib over coarser pixels."""
import zlib
from pathlib import Path
import numpy as np
from hvqbench.codec import Bitstream, Codec, Stream

class Coarse(Codec):
    def encode(self, image, point):
        with open(Path(__file__).parent / "encoded.log", "a") as log:
            log.write("x")
        header = np.array([*image.shape[:2], int(point)], "<u2").tobytes()
        payload = zlib.compress((image // int(point)).tobytes())
        ledger = {"header": Stream(6), "payload": Stream(len(payload))}
        if int(point) == 16 and image.max() > 100:  # a stream that not every image needs
            ledger["extra"] = Stream(3)
            payload += b"abc"
        return Bitstream(header + payload, ledger)

    def decode(self, data):
        height, width, point = np.frombuffer(data[:6], "<u2")
        payload = zlib.decompressobj().decompress(data[6:])
        return np.frombuffer(payload, np.uint8).reshape(height, width, 3) * np.uint8(point)
'''
TOML = 'summary = "coarse"\npoint_name = "levels"\npoints = [1, 4, 16, 64]\n'
PLUGIN = """
import math
from hvqbench.metrics import Metric, MetricInfo, SetMetric

class Error(Metric):
    def _features(self, image):
        if image.max() < 100 and self.info.options.get("fails"):
            raise ValueError("too dark")
        return image.astype(float)

    def _score(self, features, image):
        return abs(features - image).mean()

class Tint(SetMetric):
    descriptor = "toy"

    def patches(self, width, height):
        return 3

    def describe(self, image):
        with open(__file__ + ".log", "a") as log:
            log.write("x")
        return image.mean((0, 1), keepdims=True)[0].repeat(3, 0).astype("float32")

    def distance(self, originals, decoded):
        return float(abs(originals - decoded).mean())

def info(name, target, **more):
    return MetricInfo(name, name, "", "a toy", False, (0.0, math.inf), f"toy:{target}", **more)

ERROR = info("toy-error", "Error", version="1")
FRAIL = info("toy-frail", "Error", options={"fails": True})
TINT = info("toy-tint", "Tint", minimum_patches=7)
"""
ENTRIES = "[hvqbench.metrics]\ntoy-error = toy:ERROR\ntoy-frail = toy:FRAIL\ntoy-tint = toy:TINT\n"


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with three metrics, one of them of whole sets; the module's path."""
    site = tmp_path / "site"
    about = site / "toy-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRIES)
    (site / "toy.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "toy", raising=False)
    importlib.invalidate_caches()
    return site / "toy.py"


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HVQBENCH_CATALOG", str(tmp_path / "catalog"))
    monkeypatch.setenv("HVQBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("coarse", "again"):
        folder = tmp_path / "catalog" / "codecs" / name
        folder.mkdir(parents=True)
        (folder / "adapter.py").write_text(ADAPTER)
        (folder / "codec.toml").write_text(TOML)
    return tmp_path / "catalog"


@pytest.fixture
def results(catalog: Path, images: Path, toy: Path, tmp_path: Path) -> Path:
    """Two codecs, four points, two images, PSNR."""
    hvqbench.run(["coarse", "again"], images, metrics=["psnr"], results=tmp_path / "results", progress=False)
    return tmp_path / "results"


def encodings(catalog: Path) -> int:
    return sum(len((catalog / "codecs" / name / "encoded.log").read_text()) for name in ("coarse", "again"))


def test_a_new_metric_needs_no_encoding(results: Path, catalog: Path, images: Path) -> None:
    before, rows = encodings(catalog), hvqbench.read_results(results)
    scored = score(["toy-error"], results, datasets=[str(images)], progress=False)
    assert not scored.left_out
    assert encodings(catalog) == before
    assert len(scored.rows) == 16
    now = hvqbench.read_results(results)
    assert now["toy-error"].notna().all()
    same = ["codec", "point", "image", "bytes", "psnr", "bitstream_sha256", "encode_s"]
    pd.testing.assert_frame_equal(now[same], rows[same])
    light = now[(now["codec"] == "coarse") & (now["point"] == 64) & (now["image"] == "b-light")].iloc[0]
    original = np.asarray(hvqbench.load_dataset(images).images[1].read())
    assert light["toy-error"] == pytest.approx((original % 64).mean())
    again = score(["toy-error"], results, datasets=[str(images)], progress=False)
    assert list(again.rows["started"]) == list(now["started"])  # nothing was measured twice


def test_the_command(results: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["score", "--metric", "toy-error", "--results", str(results)]
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 1
    assert "--dataset FOLDER" in capsys.readouterr().out  # a folder's name does not say where it is
    with pytest.raises(SystemExit) as ended:
        cli.main([*arguments, "--dataset", str(images), "--codec", "again"])
    assert ended.value.code == 0
    table = capsys.readouterr().out
    assert "toy-error" in table
    assert "coarse" not in table


def test_a_whole_set_has_its_own_row(results: Path, images: Path, toy: Path, catalog: Path, tmp_path: Path) -> None:
    with pytest.raises(HvqbenchError, match=r"toy-tint over 6 patches says little.* 7 or more, or add --small-sets"):
        score(["toy-tint"], results, datasets=[str(images)], progress=False)
    before = encodings(catalog)
    scored = score(["toy-tint"], results, datasets=[str(images)], small_sets=True, progress=False)
    sets = scored.rows[scored.rows["status"] == "set"]
    assert len(sets) == 8
    assert encodings(catalog) == before
    assert set(sets["patches"]) == {6}
    assert set(sets["images"]) == {2}
    assert not (scored.rows[scored.rows["status"] == "ok"]["toy-tint"].notna()).any()
    # Originals once, and each reconstruction once for both codecs, which restore the same pixels.
    assert len((toy.parent / "toy.py.log").read_text()) == 2 + 4 * 2

    rows = hvqbench.read_results(results)
    curve = mean_curve(rows, "coarse", "toy-tint")
    ok = rows[(rows["status"] == "ok") & (rows["codec"] == "coarse")]
    assert curve.points == (1, 4, 16, 64)
    assert curve.images == ("a-dark", "b-light")
    np.testing.assert_allclose(curve.bpp, ok.groupby("point")["bpp"].mean())
    originals = [image.read() for image in hvqbench.load_dataset(images).images]
    off = [np.abs((image % 64).mean((0, 1))).mean() for image in originals]
    assert curve.values[3] == pytest.approx(np.mean(off), rel=1e-6)
    assert curve.values[0] == 0
    assert not mean_curve(rows, "coarse", "toy-tint", images=["a-dark"]).points  # no part of a set has a value
    assert bd_rate(rows, "again", "coarse", "toy-tint").percent == pytest.approx(0, abs=1e-9)
    assert "patches" in summarize(rows)
    files = make_report(rows, tmp_path / "report", "coarse")
    table = pd.read_csv(tmp_path / "report" / "sets.csv")
    assert list(table["patches"]) == [6] * 8
    text = files.markdown.read_text()
    assert "## Metrics of whole sets" in text
    assert "## What did not run" not in text

    write_image(images / "c-new.png", originals[1])
    hvqbench.run("coarse", images, metrics=["psnr"], results=results, progress=False)
    rows = hvqbench.read_results(results)
    assert set(rows.loc[rows["status"] == "set", "codec"]) == {"again"}  # coarse's means are of three images now
    rows = hvqbench.run(["coarse"], images, metrics=["toy-tint"], results=results, small_sets=True, progress=False)
    assert set(rows.loc[rows["status"] == "set", "images"]) == {3}


def test_a_set_that_is_not_whole_has_no_value(
    results: Path, images: Path, toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(images / "c-bad.png", np.zeros((3, 3, 3), np.uint8))
    (images / "c-bad.png").write_bytes(b"no image")
    rows = hvqbench.run("coarse", images, metrics=["toy-tint"], results=results, small_sets=True, progress=False)
    assert "set" not in set(rows["status"])
    assert "1 of 3 images" in capsys.readouterr().err


def test_what_cannot_be_scored_is_said_and_stays(results: Path, images: Path, catalog: Path) -> None:
    rows = hvqbench.read_results(results)
    lost = rows[(rows["codec"] == "coarse") & (rows["point"] == 4) & (rows["image"] == "a-dark")].iloc[0]
    sha256 = lost["bitstream_sha256"]
    (results / "_streams" / sha256[:2] / f"{sha256}.bin").unlink()  # both codecs' stream
    toml = catalog / "codecs" / "again" / "codec.toml"
    toml.write_text(toml.read_text() + "[options]\nnew = 1\n")
    before = encodings(catalog)
    scored = score(["toy-error"], results, datasets=[str(images)], progress=False)
    assert encodings(catalog) == before
    assert len(scored.left_out) == 2
    assert "codec again: it, its weights or its libraries have changed" in scored.left_out[0]
    assert "coarse at 4, pictures a-dark: its bitstream is not kept" in scored.left_out[1]
    now = hvqbench.read_results(results)
    assert (now["status"] == "ok").all()
    assert now["toy-error"].notna().sum() == 7
    shutil.move(images / "a-dark.png", images / "z.png")
    scored = score(["toy-frail"], results, codecs=["coarse"], datasets=[str(images)], progress=False)
    assert "pictures a-dark: the original is gone" in scored.left_out[0]


def test_a_metric_that_fails_takes_nothing_away(results: Path, images: Path) -> None:
    scored = score(["toy-frail"], results, codecs=["coarse"], datasets=[str(images)], progress=False)
    assert (scored.rows["status"] == "ok").all()
    dark = scored.rows["image"] == "a-dark"
    assert scored.rows.loc[dark, "reason"].str.contains("too dark").all()
    assert scored.rows["psnr"].notna().all()
    assert scored.rows.loc[~dark, "toy-frail"].notna().all()
    assert exit_code(scored.rows) == 1
    assert "4 rows lack a metric that failed:\n  coarse a-dark and 3 more: judge: ValueError" in summarize(scored.rows)


def test_no_curve_joins_two_versions(
    results: Path, images: Path, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score(["toy-error"], results, datasets=[str(images)], progress=False)
    one = hvqbench.read_results(results)
    toy.write_text(PLUGIN.replace('version="1"', 'version="2"').replace("(features - image)", "(7 * features - image)"))
    monkeypatch.delitem(sys.modules, "toy", raising=False)
    importlib.invalidate_caches()
    # As of a run that was stopped: the new version at the last point of one codec only.
    hvqbench.run("coarse", images, metrics=["toy-error"], points=[64], results=results, progress=False)
    both = [json.loads(row["metrics"])["toy-error"] for row in Store(results).rows() if row["codec"] == "coarse"]
    assert sorted(set(both)) == ["toy-error/1", "toy-error/2"]  # the store has both, and says which is which

    rows = hvqbench.read_results(results)
    coarse = rows[rows["codec"] == "coarse"]
    assert coarse["toy-error"].notna().sum() == 2
    assert mean_curve(rows, "coarse", "toy-error").points == (64,)
    assert mean_curve(rows, "coarse", "psnr").points == (4, 16, 64)  # at 1 it is lossless
    assert len(mean_curve(rows, "again", "toy-error").points) == 4
    assert mean_curve(rows, "again", "toy-error").version == "toy-error/1"
    files = make_report(rows, tmp_path / "report", "again")
    points = pd.read_csv(tmp_path / "report" / "points.csv")
    assert points.loc[points["codec"] == "coarse", "toy-error"].notna().sum() == 1
    assert "| toy-error | toy-error/1, toy-error/2" in " ".join(files.markdown.read_text().split())

    # A table that was put together from two: the curve takes the newer, and says so.
    mixed = pd.concat([one[one["point"] != 64], rows[rows["point"] == 64]], ignore_index=True)
    curve = mean_curve(mixed, "coarse", "toy-error")
    assert curve.version == "toy-error/2"
    assert any("6 rows have an older toy-error than toy-error/2" in note for note in curve.notes)

    score(["toy-error"], results, codecs=["coarse"], datasets=[str(images)], progress=False)
    rows = hvqbench.read_results(results)
    compared = bd_rate(rows, "coarse", "again", "toy-error")
    assert np.isnan(compared.percent)
    assert "versions_differ" in compared.flags
    score(["toy-error"], results, datasets=[str(images)], progress=False)
    assert "versions_differ" not in bd_rate(hvqbench.read_results(results), "coarse", "again", "toy-error").flags


def test_the_rates_of_the_streams_add_up(results: Path) -> None:
    from hvqbench.report.tables import points_table

    table = points_table(hvqbench.read_results(results), ["psnr"])
    streams = [name for name in table.columns if name.startswith("bpp.")]
    assert streams == ["bpp.extra", "bpp.header", "bpp.payload"]
    np.testing.assert_allclose(table[streams].sum(axis=1), table["bpp"], rtol=1e-12)
    np.testing.assert_allclose(table[[f"bytes.{n[4:]}" for n in streams]].sum(axis=1), table["bytes"], rtol=1e-12)
    extra = table.set_index(["codec", "point"])["bytes.extra"]
    assert extra["coarse", 16] == 1.5  # 3 bytes in one of two images
    assert np.isnan(extra["coarse", 4])  # none has it there
