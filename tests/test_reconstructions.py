"""Pictures that others decoded become rows like any other, and are marked as what they are."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hvqbench
from hvqbench import cli
from hvqbench.analysis.bd import bd_rate
from hvqbench.bench.reconstructions import score_reconstructions
from hvqbench.bench.score import score
from hvqbench.data import load_dataset
from hvqbench.errors import HvqbenchError
from hvqbench.image import read_image, write_image
from hvqbench.protocol import FLAGS
from hvqbench.report import make_report
from hvqbench.report.summary import summarize

PLUGIN = """
import math
from hvqbench.metrics import MetricInfo, SetMetric

class Tint(SetMetric):
    descriptor = "tint"

    def patches(self, width, height):
        return 2

    def describe(self, image):
        return image.mean((0, 1), keepdims=True)[0].astype("float32")

    def distance(self, originals, decoded):
        return float(abs(originals - decoded).mean())

TINT = MetricInfo("tint", "tint", "", "a toy", False, (0.0, math.inf), "tint:Tint", minimum_patches=2)
"""
NAMES = ("a", "b")
STEPS = (4, 16, 32, 64)
SIDE = 40


@pytest.fixture
def originals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "photos").mkdir()
    for seed, name in enumerate(NAMES):
        noise = np.random.default_rng(seed).normal(0, 12, (SIDE, SIDE + 8, 3))
        waves = 127 + 90 * np.sin(np.mgrid[:SIDE, : SIDE + 8].sum(0) / 6 + seed)
        write_image(tmp_path / "photos" / f"{name}.png", np.clip(waves[:, :, None] + noise, 0, 255).astype(np.uint8))
    return tmp_path / "photos"


@pytest.fixture
def theirs(originals: Path, tmp_path: Path) -> Path:
    """Reconstructions of both images at four points, and a table of bytes."""
    lines = ["image,point,bytes"]
    for point, step in enumerate(STEPS):
        (tmp_path / "theirs" / str(point)).mkdir(parents=True)
        for name in NAMES:
            pixels = read_image(originals / f"{name}.png")
            write_image(tmp_path / "theirs" / str(point) / f"{name}.png", pixels // step * step)
            lines.append(f"{name}.png,{point},{6400 // step}")
    (tmp_path / "sizes.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "theirs"


def told(theirs: Path, originals: Path, name: str = "theirs", **options: object) -> pd.DataFrame:
    where = {"metrics": ["psnr"], "results": theirs.parent / "results", "progress": False} | options
    return score_reconstructions(theirs, theirs.parent / "sizes.csv", name, originals, **where).rows  # type: ignore[arg-type]


def test_rows_have_the_bytes_as_told_and_the_metrics_of_the_pictures(theirs: Path, originals: Path) -> None:
    rows = told(theirs, originals)
    assert len(rows) == len(STEPS) * len(NAMES)
    assert set(rows["status"]) == {"ok"}
    row = rows[(rows["image"] == "b") & (rows["point"] == 2)].iloc[0]
    before = read_image(originals / "b.png").astype(float)
    error = np.mean((before - before // 32 * 32) ** 2)
    assert row["psnr"] == pytest.approx(10 * np.log10(255**2 / error))
    assert row["bytes"] == 200
    assert row["bpp"] == pytest.approx(8 * 200 / (SIDE * (SIDE + 8)))
    assert row["protocol"] == "not-decoded"
    assert "not-decoded (theirs): " + FLAGS["not-decoded"] in summarize(rows)


def test_they_stand_beside_codecs_that_ran_here(theirs: Path, originals: Path) -> None:
    results = theirs.parent / "results"
    hvqbench.run(["jpeg"], originals, metrics=["psnr"], points=[10, 30, 60, 90], results=results, progress=False)
    told(theirs, originals)
    bd = bd_rate(hvqbench.read_results(results), "theirs", "jpeg", "psnr")
    assert bd.images == 2
    assert np.isfinite(bd.percent)


def test_a_report_and_its_page_show_them_marked(theirs: Path, originals: Path, tmp_path: Path) -> None:
    results = theirs.parent / "results"
    hvqbench.run(["jpeg"], originals, metrics=["psnr"], points=[10, 30, 60, 90], results=results, progress=False)
    told(theirs, originals)
    make_report(hvqbench.read_results(results), tmp_path / "report", "jpeg", html=True, streams=results)
    text = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert f"not-decoded (theirs): {FLAGS['not-decoded']}" in text
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "theirs" in page
    assert "not-decoded" in page


def test_to_resume_scores_nothing_and_a_new_metric_only_itself(theirs: Path, originals: Path) -> None:
    first = told(theirs, originals)
    assert told(theirs, originals)["started"].max() == first["started"].max()
    both = told(theirs, originals, metrics=["psnr", "ssimulacra2"])
    assert both["ssimulacra2"].notna().all()
    assert set(map(len, both["metrics"].map(json.loads))) == {2}
    (theirs / "0" / "a.png").unlink()
    with pytest.raises(HvqbenchError, match=r"row 2: there is no .*0/a\.png: put it there, or name it in a column"):
        told(theirs, originals)


def test_another_table_is_another_codec_whose_old_rows_no_longer_count(theirs: Path, originals: Path) -> None:
    told(theirs, originals)
    sizes = theirs.parent / "sizes.csv"
    sizes.write_text(sizes.read_text().replace("a.png,3,100", "a.png,3,99"))
    write_image(theirs / "2" / "b.png", read_image(theirs / "3" / "a.png") // 2)
    told(theirs, originals)
    rows = hvqbench.read_results(theirs.parent / "results")
    assert len(rows) == 8  # not 16
    assert rows.loc[(rows["image"] == "a") & (rows["point"] == 3), "bytes"].item() == 99
    changed = rows.loc[(rows["image"] == "b") & (rows["point"] == 2), "psnr"].item()
    assert changed < rows.loc[(rows["image"] == "b") & (rows["point"] == 3), "psnr"].item()


def test_what_fails_is_a_row_and_what_is_missing_is_said(
    theirs: Path, originals: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(theirs / "1" / "a.png", np.zeros((8, 8, 3), np.uint8))
    (theirs / "1" / "b.png").write_bytes(b"no picture")
    sizes = theirs.parent / "sizes.csv"
    sizes.write_text("\n".join(sizes.read_text().splitlines()[:-1]) + "\n")  # b at 3 is gone
    options = ["--reconstructions", str(theirs), "--sizes", str(sizes), "--name", "theirs", "--metric", "psnr"]
    options += ["--dataset", str(originals), "--results", str(theirs.parent / "results")]
    assert _run("score", *options) == 1
    said = capsys.readouterr().out
    assert "8x8 pixels for an image of 48x40: give it in the original's size" in said
    assert "convert it to PNG or remove it" in said
    assert "note: theirs at 3: the table has 1 of the 2 images of photos" in said
    rows = hvqbench.read_results(theirs.parent / "results")
    assert (rows["status"] == "failed").sum() == 2
    assert rows.loc[rows["status"] == "failed", "psnr"].isna().all()


def test_a_table_of_some_images_is_no_failure(
    theirs: Path, originals: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = theirs.parent / "sizes.csv"
    header, *rows = sizes.read_text().splitlines()
    sizes.write_text("\n".join([header, *(row for row in rows if not row.startswith("b"))]) + "\n")
    options = ["--reconstructions", str(theirs), "--sizes", str(sizes), "--name", "theirs", "--metric", "psnr"]
    options += ["--dataset", str(originals), "--results", str(theirs.parent / "results")]
    assert _run("score", *options) == 0
    said = capsys.readouterr().out
    assert "note: theirs at 3: the table has 1 of the 2 images of photos, and its means are of those alone" in said
    assert "left out" not in said


def test_metrics_of_whole_sets_are_of_the_pictures(
    theirs: Path, originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = tmp_path / "site" / "tint-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tint\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[hvqbench.metrics]\ntint = tint:TINT\n")
    (tmp_path / "site" / "tint.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("HVQBENCH_CACHE", str(tmp_path / "cache"))
    importlib.invalidate_caches()
    rows = told(theirs, originals, metrics=["psnr", "tint"])
    of_sets = rows[rows["status"] == "set"]
    assert of_sets["point"].to_list() == [0, 1, 2, 3]
    assert of_sets["images"].to_list() == [2] * 4
    pairs = [[read_image(folder / f"{name}.png").mean() for folder in (originals, theirs / "3")] for name in NAMES]
    assert of_sets["tint"].iloc[3] == pytest.approx(np.mean([before - after for before, after in pairs]), rel=1e-4)
    assert of_sets["bpp"].iloc[3] == pytest.approx(8 * 100 / (SIDE * (SIDE + 8)))
    assert set(of_sets["protocol"]) == {"not-decoded"}


def test_score_of_kept_bitstreams_leaves_them_alone(theirs: Path, originals: Path) -> None:
    results = theirs.parent / "results"
    hvqbench.run(["jpeg"], originals, metrics=["psnr"], points=[50], results=results, progress=False)
    told(theirs, originals)
    scored = score(["ssimulacra2"], results, datasets=[str(originals)], progress=False)
    assert [line for line in scored.left_out if "--reconstructions of" in line] == scored.left_out
    assert len(scored.left_out) == 1
    assert set(scored.rows["codec"]) == {"jpeg"}


def test_a_codec_of_the_catalog_gives_its_declarations(theirs: Path, originals: Path) -> None:
    rows = told(theirs, originals, name="aeic")
    assert set(rows["protocol"]) == {"estimated-rate not-decoded"}
    assert set(rows["point_name"]) == {"model"}
    assert set(told(theirs, originals, name="x", rate="payload")["protocol"]) == {"payload-only not-decoded"}
    with pytest.raises(HvqbenchError, match=r"--name jpeg: a codec of that name runs .*jpeg-authors"):
        told(theirs, originals, name="jpeg")
    with pytest.raises(HvqbenchError, match="'published:x' is not an id"):
        told(theirs, originals, name="published:x")


def test_one_point_needs_no_folders_and_files_can_be_named(theirs: Path, originals: Path) -> None:
    sizes = theirs.parent / "sizes.csv"
    for name in NAMES:
        (theirs / "1" / f"{name}.png").rename(theirs / f"{name}.png")
    sizes.write_text("image,bytes\na,300\nb,400\n")
    rows = told(theirs, originals)
    assert rows[["image", "point", "bytes"]].to_numpy().tolist() == [["a", 0.0, 300], ["b", 0.0, 400]]
    sizes.write_text("image,bytes,point,file\na,300,7,0/a.png\nb,400,7,0/b.png\n")
    assert set(told(theirs, originals)["point"]) == {7.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,bpp\na,0.1\n", "row 1: no column 'bytes': bytes are those of the whole file, bpp * width"),
        ("image,bytes,ponit\na,1,0\n", "row 1: unknown column 'ponit': did you mean 'point'"),
        ("image,bytes\nc,1\n", "row 2: photos has no image 'c'"),
        ("image,bytes\na,1.5\n", "row 2: bytes '1.5' is not a whole number above 0"),
        ("image,bytes,point\na,1,low\n", "row 2: point 'low' is not a finite number"),
        ("image,bytes,point\na,1,0\na,2,0\n", "row 3: a at 0 is in row 2 as well"),
        ("image,bytes,file\na,1,../photos/a.png\n", "row 2: ../photos/a.png is not below"),
        ("image,bytes,file\na,1,0/a.jpg\n", "row 2: "),
        ("image,bytes\n", "holds no picture"),
        ("", "row 1: no column 'image'"),
    ],
)
def test_a_wrong_table_is_one_line(theirs: Path, originals: Path, text: str, message: str) -> None:
    (theirs.parent / "sizes.csv").write_text(text)
    (theirs / "0" / "a.jpg").write_bytes(b"x")
    with pytest.raises(HvqbenchError) as caught:
        told(theirs, originals)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_lossy_picture_is_refused(theirs: Path, originals: Path) -> None:
    (theirs / "0" / "a.jpg").write_bytes(b"x")
    (theirs.parent / "sizes.csv").write_text("image,bytes,file\na,1,0/a.jpg\n")
    with pytest.raises(HvqbenchError, match="may be lossy: save what the decoder returned as PNG"):
        told(theirs, originals)


def test_names_are_those_of_the_data_set(originals: Path) -> None:
    assert {file.name for file in load_dataset(originals).images} == set(NAMES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sizes", "x.csv"], "--sizes, --name and --rate are of pictures: name their folder"),
        ([], "no metric to add: name one with --metric, or pictures to score with --reconstructions"),
        (["--reconstructions", "x", "--name", "y"], "--reconstructions x needs --sizes FILE, --name CODEC and one"),
    ],
)
def test_options_that_do_not_belong_together(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("score", *options) == 2
    assert message in capsys.readouterr().err


def _run(*arguments: str) -> int:
    try:
        cli.main(list(arguments))
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0
