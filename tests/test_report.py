"""A report says everything that the results hold, and the same results give the same bytes."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hvqbench.errors import HvqbenchError
from hvqbench.files import file_name, image_file_name
from hvqbench.metrics import metric_info
from hvqbench.report import ReportFiles, ReportSpec, make_report

QUICK = ReportSpec(formats=("svg",))
"""For tests of text: two other formats take most of a report's time."""


@pytest.fixture(scope="module")
def results() -> pd.DataFrame:
    """Three VQ codecs at five points, JPEG far above them, a failed row and a codec that cannot run."""
    rows = []
    for (codec, share), point, image in itertools.product(
        (("fixed-vq", 1.0), ("huffman-vq", 0.95), ("hypervq", 0.8)), range(5), "ab"
    ):
        size = round(share * (1000 - (100 * point if codec != "fixed-vq" else 0)))
        values = {
            "psnr": 24.0 - point,
            "lpips-alex": 0.3 + 0.05 * point,
            "bytes.header": 12,
            "bytes.indices": size - 12,
        }
        rows.append(_row(codec, point, image, size) | values | {"reconstruction_sha256": f"{image}{point}"})
    for point, image in itertools.product((5, 10, 20, 40), "ab"):
        values = {"psnr": 28.0 + point / 5, "lpips-alex": 0.2 - point / 250, "bytes.payload": 9000 + 500 * point}
        rows.append(
            _row("jpeg", point, image, 9000 + 500 * point) | values | {"reconstruction_sha256": f"j{image}{point}"}
        )
    rows.append(_row("hypervq", 5, "a", np.nan) | {"status": "failed", "reason": "decoder disagrees | digest"})
    rows.append(_row("vtm", np.nan, "", np.nan) | {"status": "unavailable", "reason": "no EncoderApp: install VTM"})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def files(results: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> ReportFiles:
    """The report of them."""
    return make_report(results, tmp_path_factory.mktemp("report") / "new" / "folder")


def test_report_has_points_savings_bd_rates_problems_and_provenance(files: ReportFiles) -> None:
    folder, text = files.markdown.parent, files.markdown.read_text()
    assert "![Rate-distortion curves: toy](rd-toy.png)" in text
    assert "psnr ↑" in text
    assert "lpips-alex ↓" in text
    assert "decoder disagrees \\| digest" in text
    assert "no EncoderApp: install VTM" in text
    assert "hvqbench run --codec all" in text
    # 2 images x 800 bytes against 2 x 1000, at L = 0 and with the same pixels.
    (line,) = [line for line in text.splitlines() if "| hypervq" in line and "| 0 |" in " ".join(line.split())][-1:]
    assert [cell.strip() for cell in line.strip("|").split("|")] == (
        ["toy", "f16-k1024", "hypervq", "fixed-vq", "0", "2", "1600", "2000", "**20.00**", "20.00", "True"]
    )
    bd = pd.read_csv(folder / "bd-rate.csv").set_index(["metric", "codec"])["bd_rate_percent"]
    assert bd["lpips-alex", "hypervq"] == pytest.approx(100 * (0.8 / 0.95 - 1), abs=0.2)
    assert np.isnan(bd["lpips-alex", "jpeg"])
    assert "Without a number: jpeg (`no_overlap`: the quality ranges do not overlap)." in text
    assert len(pd.read_csv(folder / "points.csv")) == 3 * 5 + 4


def test_every_file_exists_and_the_figure_is_a_picture(files: ReportFiles) -> None:
    assert [path.name for path in files.figures] == ["rd-toy.png", "rd-toy.pdf", "ledger-toy.png", "ledger-toy.pdf"]
    assert all(path.stat().st_size > 0 for path in (files.markdown, *files.figures, *files.tables))
    pixels = np.asarray(Image.open(files.figures[0]).convert("RGB")).reshape(-1, 3)
    colours = {tuple(int(c) for c in colour) for colour in np.unique(pixels, axis=0)}
    # The first three colours of the palette for the VQ codecs, the last for the classic one.
    assert {(0xD5, 0x5E, 0x00), (0x00, 0x72, 0xB2), (0x00, 0x9E, 0x73), (0x00, 0x00, 0x00)} <= colours


def test_the_same_results_give_the_same_bytes(results: pd.DataFrame, files: ReportFiles, tmp_path: Path) -> None:
    first, second = files, make_report(results.copy(), tmp_path)
    for one, other in zip(
        (first.markdown, *first.figures, *first.tables), (second.markdown, *second.figures, *second.tables), strict=True
    ):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_axes_say_what_is_better_and_keep_every_codec_apart(results: pd.DataFrame) -> None:
    from hvqbench.analysis import mean_curve
    from hvqbench.report.figures import rd_figure

    codecs = ["fixed-vq", "huffman-vq", "hypervq", "jpeg"]
    metrics = ("psnr", "lpips-alex")
    curves = {m: [mean_curve(results[results["status"] == "ok"], c, m) for c in codecs] for m in metrics}
    figure = rd_figure(curves, {m: metric_info(m) for m in metrics}, frozenset({"jpeg"}))
    psnr, lpips = figure.axes
    assert psnr.get_ylabel() == "PSNR (RGB) [dB] ↑"
    assert lpips.get_ylabel().endswith("↓")
    assert psnr.get_xscale() == "log"
    assert len({(line.get_color(), line.get_marker()) for line in psnr.lines}) == len(codecs)
    assert [line.is_dashed() for line in psnr.lines] == [False, False, False, True]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == codecs
    sizes = {t.get_fontsize() for t in (*psnr.get_xticklabels(), psnr.xaxis.label, *figure.legends[0].get_texts())}
    assert all(7 <= size <= 9 for size in sizes)


def test_a_report_can_be_made_of_one_point(results: pd.DataFrame, tmp_path: Path) -> None:
    one = results[(results["codec"] == "jpeg") & (results["point"] == 10)]
    files = make_report(one, tmp_path, spec=QUICK)
    assert len(files.figures) == 1
    assert "BD-rate against" not in files.markdown.read_text()


def test_a_report_of_failures_alone_says_why(results: pd.DataFrame, tmp_path: Path) -> None:
    files = make_report(results[results["status"] != "ok"], tmp_path)
    assert files.figures == ()
    assert "No figure" in files.markdown.read_text()
    assert "decoder disagrees" in files.markdown.read_text()


def test_each_data_set_has_its_own_figure(results: pd.DataFrame, tmp_path: Path) -> None:
    one = results[results["codec"] == "jpeg"].drop(columns="lpips-alex")
    both = pd.concat([one, one.assign(dataset="my photos/2024")], ignore_index=True)
    files = make_report(both, tmp_path)
    names = {path.name for path in files.figures}
    assert names == {"rd-my-photos-2024.pdf", "rd-my-photos-2024.png", "rd-toy.pdf", "rd-toy.png"}


def test_images_that_a_curve_leaves_out_are_said(results: pd.DataFrame, tmp_path: Path) -> None:
    lost = (results["codec"] == "jpeg") & (results["image"] == "b") & (results["point"] == 20)
    some = results.assign(**{"lpips-alex": results["lpips-alex"].mask(lost)})
    text = make_report(some[some["codec"] == "jpeg"], tmp_path, spec=QUICK).markdown.read_text()
    assert "- jpeg on toy: 1 of 2 images left out, not usable at every point: b" in text


def test_no_results_and_unknown_anchors_are_one_line(results: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(HvqbenchError, match="no results to report: run `hvqbench run` first"):
        make_report(results.iloc[:0], tmp_path)
    with pytest.raises(HvqbenchError, match=r"no codec 'nope'.*fixed-vq"):
        make_report(results, tmp_path, anchor="nope")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(HvqbenchError, match="choose another folder"):
        make_report(results, blocked / "out")


@pytest.mark.parametrize(("text", "name"), [("kodak", "kodak"), ("../my photos", "my-photos"), ("/", "data")])
def test_file_names_are_safe(text: str, name: str) -> None:
    assert file_name(text) == name


def test_images_of_like_names_have_files_of_their_own() -> None:
    names = ["a-b", "a b", "a,b", "写真"]
    files = [image_file_name(name) for name in names]
    assert len({*files}) == len(names)
    assert (files[0], files[3]) == ("a-b", "写真")
    assert [file_name(file) for file in files] == files


def _row(codec: str, point: float, image: str, size: float) -> dict[str, object]:
    return {
        "codec": codec,
        "dataset": "toy",
        "point": point,
        "point_name": "quality" if codec == "jpeg" else "L",
        "image": image,
        "bytes": size,
        "bpp": 8 * size / 65536,
        "status": "ok",
        "reason": "",
        "command": "hvqbench run --codec all",
        "libraries": '{"torch": "2.0"}',
    }
