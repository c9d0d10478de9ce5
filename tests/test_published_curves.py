"""Published curves: each number is its source's, no slip in a file goes unseen, none is taken for a measured one."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hvqbench.analysis.bd import bd_rate, bd_rate_from_curves, bd_table
from hvqbench.bench.reading import read_results, to_frame
from hvqbench.bench.store import Store
from hvqbench.catalog import CATALOG_VARIABLE
from hvqbench.curves import (
    COLUMNS,
    PublishedPoint,
    curve_metric,
    find_published,
    format_points,
    published_curve,
    published_points,
    read_points,
)
from hvqbench.curves.exchange import export_curves, import_curves
from hvqbench.curves.format import parse_points
from hvqbench.errors import HvqbenchError
from hvqbench.report import make_report

ROOT = Path(__file__).parents[1]
GOOD = ["mine", "toy", "psnr", "0.25", "30.5", "a paper, table 2", "", "file"]
TOY = [("old", 0.1, 24.0), ("old", 0.2, 27.0), ("old", 0.4, 30.0), ("old", 0.8, 33.0), ("far", 50.0, 60.0)]


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's catalog with two published curves on ``toy``: ``old``, and ``far`` beyond all measured rates."""
    folder = tmp_path / "catalog"
    (folder / "reports" / "curves").mkdir(parents=True)
    points = [PublishedPoint(c, "toy", "psnr", bpp, value, "a paper", "0123abc", "file") for c, bpp, value in TOY]
    (folder / "reports" / "curves" / "mine.csv").write_text(format_points(points))
    monkeypatch.setenv(CATALOG_VARIABLE, str(folder))
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Results of ``new`` on ``toy``: two images at four points, at half the rate of ``old``."""
    store = Store(tmp_path / "results")
    store.open()
    for (point, (_, bpp, psnr)), image in itertools.product(enumerate(TOY[:4]), "ab"):
        size = round(bpp / 2 * 400 * 300 / 8)
        row = {"dataset": "toy", "codec": "new", "point": float(point), "point_name": "q", "image": image}
        row |= {"status": "ok", "reason": "", "width": 400, "height": 300, "bytes": size, "bpp": 8 * size / 120000}
        row |= {"psnr": psnr + (image == "a") - 0.5, "encode_s": 0.1, "decode_s": 0.1, "key": f"{point}{image}"}
        row |= {"codec_fingerprint": "f", "started": "2026-01-01T00:00:00", "command": "hvqbench run"}
        store.append(row | {"metrics": "{}", "reconstruction_sha256": f"{point}{image}"})
    return tmp_path / "results"


# What is shipped


@pytest.mark.parametrize(
    ("codec", "dataset", "metric", "bpp", "value"),
    [
        # Read by eye in the sources.
        ("vtm", "kodak", "psnr", 0.04824490017361111, 26.14484539430146),
        ("vtm", "kodak", "ms-ssim", 0.11249542236328125, 0.9176909327507019),
        ("jpeg", "kodak", "psnr", 0.22115325927734372, 23.779894921045457),
        ("webp", "kodak", "ms-ssim", 0.23441908094618058, 0.9257391567031542),
        ("av1", "clic2020-professional-test", "psnr", 0.029827522844212518, 28.69265363481501),
        ("elic", "kodak", "psnr", 0.1235, 29.113),
        ("bpg@tensorflow", "kodak", "psnr", 0.023857, 23.787652),
        ("mlic++", "kodak", "psnr", 0.1075, 29.161),
        ("hific", "kodak", "lpips-alex", 0.1825587, 0.06864742),
        ("hific", "clic2020-test", "fid-256-tf", 0.37383949, 1.66647744),
        ("msillm", "kodak", "dists", 0.0443454347550869, 0.13461525738239288),
        ("msillm", "div2k-valid", "kid-256", 0.6570170521736145, -4.3718089727917686e-05),
        ("msillm-nogan", "clic2020-test", "psnr", 0.010784221813082697, 25.920005798339844),
        ("stablecodec", "kodak", "ms-ssim-y", 0.00579, 0.64343),
        ("stablecodec", "div2k-valid", "lpips-alex", 0.03591, 0.16284),
        ("rdvq-official", "kodak", "dists", 0.0102, 0.1250),
        ("crdr", "div2k-valid", "dists", 0.9829740091488085, 0.011814282536506652),
        ("crdr-beta0", "clic2020-test", "fid-256-pytorch-fid", 0.07974858079749401, 41.53672184549464),
        ("dc-vic-oasis", "kodak", "lpips-alex", 0.053731282552083336, 0.12901702399055162),
        ("diffeic", "kodak", "psnr", 0.0200839572482638, 19.57),
        ("vtm@diffeic", "clic2020-diffeic", "ms-ssim", 0.0194961056654822, 0.8383),
        ("aeic-me", "clic2020-test", "psnr", 0.00463279, 22.3012),
        ("aeic-me", "kodak", "lpips-alex", 0.0376006, 0.1427),
        ("aeic-se", "kodak", "dists", 0.037018, 0.08149),
        ("afp-gic", "clic2020-test", "fid-unknown", 0.0390948773159537, 8.189605410618015),
        ("afp-gic", "div2k-valid", "dists", 0.1760304927873865, 0.0524983233213424),
        ("ef-lic", "kodak", "lpips-vgg", 0.0713, 0.2138),
        ("control-gic@eflic", "clic2020-eflic", "dists", 0.0464, 0.1614),
    ],
)
def test_values_are_those_of_the_source(codec: str, dataset: str, metric: str, bpp: float, value: float) -> None:
    curve = published_curve(codec, metric, dataset)
    nearest = int(np.abs(curve.bpp - bpp).argmin())
    # Files hold six significant digits.
    assert curve.bpp[nearest] == pytest.approx(bpp, rel=1e-5)
    assert curve.values[nearest] == pytest.approx(value, rel=1e-5)


def test_cool_chic_is_the_mean_of_its_images(data_root: Path) -> None:
    rows = list(csv.DictReader((data_root / "curves/coolchic/image-kodak-v5.0.tsv").open(), delimiter="\t"))
    of_one = [row for row in rows if row["lmbda"] == "0.02"]
    assert len(of_one) == 24
    curve = published_curve("cool-chic", "psnr", "kodak")
    assert curve.bpp[0] == pytest.approx(np.mean([float(row["rate_bpp"]) for row in of_one]), rel=1e-5)
    assert curve.values[0] == pytest.approx(np.mean([float(row["psnr_db"]) for row in of_one]), rel=1e-5)


@pytest.mark.parametrize(
    ("folder", "dataset"), [("kodak", "kodak"), ("clic2020-professional", "clic2020-professional-test")]
)
def test_compressai_files_are_shipped_whole(data_root: Path, folder: str, dataset: str) -> None:
    files = sorted((data_root / "curves" / f"compressai-{folder}").glob("*.json"))
    assert files
    for path in files:
        imported = parse_points(import_curves([path], "x", dataset=dataset), "x")
        shipped = [p for p in published_points() if p.dataset == dataset and p.source.endswith(f"{folder}/{path.name}")]
        assert len(imported) == len(shipped), path.name
        for ours, theirs in zip(shipped, imported, strict=True):
            assert (ours.metric, ours.dataset) == (theirs.metric, theirs.dataset)
            assert (ours.bpp, ours.value) == pytest.approx((theirs.bpp, theirs.value), rel=1e-5)


def test_every_file_has_its_source_and_is_small() -> None:
    files = sorted((ROOT / "reports" / "curves").glob("*.csv"))
    documented = (ROOT / "docs" / "curves.md").read_text(encoding="utf-8")
    assert len(files) >= 14
    for path in files:
        points = read_points(path)
        assert path.stat().st_size < 128_000, path.name
        assert all(point.commit for point in points), path.name
        assert f"| `{path.name}` |" in documented


def test_what_is_not_comparable_has_its_own_id() -> None:
    points = published_points()
    # DiffEIC's CLIC and Tecnick are resized and cropped; pyiqa's MS-SSIM is of luma.
    assert not {p.dataset for p in points if "results.xlsx" in p.source} & {"clic2020-test", "tecnick"}
    assert "ms-ssim" not in {p.metric for p in points if p.codec == "stablecodec"}
    assert {p.metric for p in points if p.metric.startswith("fid")} >= {"fid-256", "fid-256-tf", "fid-unknown"}
    assert {p.codec for p in points if p.metric == "fid-256"} == {
        "aeic-me",
        "aeic-se",
        "msillm",
        "msillm-nogan",
        "stablecodec",
    }


def test_counts_of_the_files_of_november_2026() -> None:
    files = {name: read_points(ROOT / "reports" / "curves" / f"{name}.csv") for name in ("aeic", "afp-gic", "ef-lic")}
    assert {name: len(points) for name, points in files.items()} == {"aeic": 160, "afp-gic": 70, "ef-lic": 787}
    blocks = {(point.codec, point.dataset) for points in files.values() for point in points}
    assert len(blocks) == 49
    assert {point.dataset for point in files["ef-lic"]} == {"kodak", "div2k-valid", "clic2020-eflic", "tecnick-eflic"}
    assert {point.metric for point in files["ef-lic"]} == {"lpips-vgg", "dists"}
    assert {point.protocol.partition(":")[0] for point in files["aeic"]} == {"estimated"}


def test_a_figure_agrees_with_what_the_authors_of_a_curve_published() -> None:
    own, read_off = (published_curve(codec, "dists", "kodak") for codec in ("msillm", "msillm@eflic"))
    shared = [value for value in own.values if read_off.values.min() <= value <= read_off.values.max()]
    assert len(shared) >= 3
    assert all(np.abs(read_off.values - value).min() < 2e-4 for value in shared)


# The format


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("codec", "my codec", "codec 'my codec' is not an id"),
        ("dataset", "", "dataset '' is not an id"),
        ("metric", "lpips-alx", "unknown metric 'lpips-alx': did you mean 'lpips-alex'"),
        ("bpp", "O.25", "bpp 'O.25' is not a finite number"),
        ("bpp", "0", "bpp 0 is not above 0"),
        ("value", "nan", "value 'nan' is not a finite number"),
        ("source", " ", "no source"),
        ("commit", "main", "commit 'main' is no 7 to 40 hexadecimal digits"),
        ("protocol", "real", "protocol 'real' must begin with one of file, payload, estimated, nominal, unknown"),
    ],
)
def test_a_wrong_cell_is_one_line_with_file_and_row(tmp_path: Path, column: str, cell: str, message: str) -> None:
    wrong = list(GOOD)
    wrong[COLUMNS.index(column)] = cell
    with pytest.raises(HvqbenchError) as caught:
        read_points(write(tmp_path / "a.csv", GOOD, wrong))
    assert str(caught.value).startswith(f"{tmp_path / 'a.csv'}: row 3: {message}")
    assert "\n" not in str(caught.value)


def test_ms_ssim_in_decibels_is_seen(tmp_path: Path) -> None:
    row = ["mine", "toy", "ms-ssim", "0.25", "11.2", *GOOD[5:]]
    with pytest.raises(HvqbenchError, match=r"row 2: ms-ssim goes from 0 to 1, 11.2 does not: name it ms-ssim-db"):
        read_points(write(tmp_path / "a.csv", row))
    row[2] = "ms-ssim-db"
    (point,) = read_points(write(tmp_path / "a.csv", row))
    assert (point.metric, point.value, curve_metric(point.metric).unit) == ("ms-ssim-db", 11.2, "dB")


def test_wrong_files_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with pytest.raises(HvqbenchError, match="cannot read"):
        read_points(path)
    path.write_text("codec,bpp\n")
    with pytest.raises(HvqbenchError, match="row 1: the header must be codec,dataset,metric"):
        read_points(path)
    with pytest.raises(HvqbenchError, match="holds no point"):
        read_points(write(path))
    with pytest.raises(HvqbenchError, match="row 2: 7 cells instead of 8"):
        read_points(write(path, GOOD[:-1]))
    with pytest.raises(HvqbenchError, match=r"row 3: mine on toy has psnr at 0.25 bpp in row 2 as well"):
        read_points(write(path, GOOD, [*GOOD[:4], "31", *GOOD[5:]]))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(HvqbenchError, match="is not UTF-8"):
        read_points(path)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    points = read_points(write(tmp_path / "a.csv", GOOD, ["b@c", *GOOD[1:4], "30.123456789012345", *GOOD[5:]]))
    (tmp_path / "b.csv").write_text(format_points(points))
    assert read_points(tmp_path / "b.csv") == points


# Names


def test_a_users_curves_stand_beside_the_shipped(catalog: Path) -> None:
    assert find_published(["published:old", "vtm"]) == ["old", "vtm"]
    assert set(find_published(["rdeic-*"])) == {"rdeic-2", "rdeic-5"}
    assert "old" in find_published(["*"])
    assert published_curve("old", "psnr", "toy").label == "old (published)"


def test_unknown_names_say_what_there_is(catalog: Path) -> None:
    with pytest.raises(HvqbenchError, match=r"unknown published curve 'hifc': did you mean 'hific'.*curves ls"):
        find_published(["published:hifc"])
    with pytest.raises(HvqbenchError, match="no published curve of old in dists on toy: there is psnr on toy"):
        published_curve("old", "dists", "toy")


def test_two_files_must_not_share_a_codec(catalog: Path) -> None:
    write(catalog / "reports" / "curves" / "other.csv", ["vtm", *GOOD[1:]])
    with pytest.raises(HvqbenchError, match=r"two files have published curves of 'vtm'.*vtm@authors"):
        published_points()


# BD-rates


def test_bd_rate_against_a_published_anchor_is_that_of_the_means_and_says_so(catalog: Path, store: Path) -> None:
    bd = bd_rate(read_results(store), "new", "published:old", "psnr")
    assert bd.percent == pytest.approx(-50, abs=0.05)
    assert bd.flags == ("published",)
    assert bd.text.startswith("new needs 50.00 % fewer bits than old (published) at equal psnr on toy (2 images)")
    assert "a published curve is of means: no images to pair" in bd.text


def test_a_part_of_the_data_set_is_said(catalog: Path, store: Path) -> None:
    results = read_results(store).assign(dataset="kodak")  # which has 24 images
    assert bd_rate(results, "new", "published:vtm", "psnr").flags[-2:] == ("published", "part_of_set")


def test_two_published_curves_need_no_results() -> None:
    table = bd_table(to_frame([]), "published:vtm", "psnr", published=["bpg", "hm", "elic"])
    kodak = table[table["dataset"] == "kodak"].set_index("codec")
    # The values of tests/test_bd.py, from the same sources at full precision.
    for codec, percent in (("bpg", 21.985), ("hm", 23.303), ("elic", -7.060)):
        assert kodak.loc[f"{codec} (published)", "bd_rate_percent"] == pytest.approx(percent, abs=2e-3)
    assert (kodak["images"] == 0).all()
    assert (kodak["anchor"] == "vtm (published)").all()


def test_a_published_lower_is_better_metric_that_hvqbench_does_not_compute() -> None:
    crdr, other = (published_curve(c, "fid-256-pytorch-fid", "clic2020-test") for c in ("dc-vic-patchgan", "crdr"))
    percent = bd_rate_from_curves(crdr.bpp, crdr.values, other.bpp, other.values, higher_is_better=False).percent
    bd = bd_rate(to_frame([]), "published:crdr", "published:dc-vic-patchgan", "fid-256-pytorch-fid", "clic2020-test")
    assert bd.percent == pytest.approx(percent)


def test_an_anchor_without_the_metric_or_the_data_set_is_one_line(catalog: Path, store: Path) -> None:
    results = read_results(store)
    with pytest.raises(HvqbenchError, match=r"no published curve of vtm in psnr on toy: there is psnr, ms-ssim on"):
        bd_table(results, "published:vtm", "psnr")
    with pytest.raises(HvqbenchError, match=r"published:rdeic-\* is 2 published curves, an anchor is one"):
        bd_table(results, "published:rdeic-*", "psnr")


# Reports


def test_a_report_marks_published_curves(catalog: Path, store: Path, tmp_path: Path) -> None:
    files = make_report(read_results(store), tmp_path / "report", "published:old", ["old"])
    text = files.markdown.read_text(encoding="utf-8")
    assert "## BD-rate against old (published)" in text
    assert "`published`: a published curve is of means" in text
    (row,) = [line for line in text.splitlines() if "| a paper" in line]
    assert [cell.strip() for cell in row.strip("|").split("|")] == (
        ["toy", "old (published)", "psnr", "4", "0.1000 to 0.8000", "a paper", "0123abc", "file"]
    )
    # Never among the measured means.
    points = pd.read_csv(tmp_path / "report" / "points.csv")
    assert set(points["codec"]) == {"new"}
    bd = pd.read_csv(tmp_path / "report" / "bd-rate.csv")
    assert list(bd["codec"]) == ["new"]
    assert bd["bd_rate_percent"][0] == pytest.approx(-50, abs=0.05)


def test_published_curves_are_dotted_and_near_the_measured(catalog: Path, store: Path, tmp_path: Path) -> None:
    from hvqbench.analysis import mean_curve
    from hvqbench.metrics import metric_info
    from hvqbench.report.figures import rd_figure
    from hvqbench.report.scope import near

    measured = mean_curve(read_results(store), "new", "psnr")
    drawn = [measured, *near([measured], ["old", "far"])]
    figure = rd_figure({"psnr": drawn}, {"psnr": metric_info("psnr")}, frozenset({"old"}), labels="legend")
    solid, dotted = figure.axes[0].lines  # far, at 50 bpp, would squeeze all others
    assert solid.get_linestyle() == "-"
    assert dotted.get_linestyle() not in ("-", solid.get_linestyle())
    assert dotted._unscaled_dash_pattern[1][0] <= 1.5  # type: ignore[attr-defined]  # dots, and not dashes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["new", "old (published)"]


def test_a_published_curve_of_other_data_is_refused(catalog: Path, store: Path, tmp_path: Path) -> None:
    with pytest.raises(HvqbenchError, match=r"published curve of hific is of psnr.*; the results are of psnr on toy"):
        make_report(read_results(store), tmp_path / "report", published=["hific"])


# Other tools' files


def test_compressai_there_and_back(catalog: Path, store: Path, tmp_path: Path) -> None:
    results = read_results(store)
    (path,) = export_curves(["new"], "compressai", tmp_path / "out", results)
    content = json.loads(path.read_text())
    assert content["results"].keys() == {"bpp", "psnr-rgb"}
    back = parse_points(import_curves([path], "there"), "x")
    assert [(p.codec, p.dataset, p.metric) for p in back] == [("new", "toy", "psnr")] * 4
    assert [p.value for p in back] == [24.0, 27.0, 30.0, 33.0]
    assert [p.bpp for p in back] == pytest.approx([0.05, 0.1, 0.2, 0.4], rel=1e-3)


def test_a_published_curve_through_compressai_is_what_it_was(tmp_path: Path) -> None:
    (path,) = export_curves(["published:vtm"], "compressai", tmp_path, dataset="kodak")
    back = parse_points(import_curves([path], "there"), "x")
    shipped = [p for p in published_points() if (p.codec, p.dataset) == ("vtm", "kodak")]
    assert [(p.metric, p.bpp, p.value) for p in back] == [(p.metric, p.bpp, p.value) for p in shipped]


def test_names_that_compressai_gave_earlier(tmp_path: Path) -> None:
    path = tmp_path / "mlic.json"
    path.write_text('{"psnr": [30.0, 29.0], "bpp": [0.2, 0.1]}')
    points = parse_points(import_curves([path], "there", dataset="kodak"), "x")
    assert [(p.codec, p.metric, p.bpp, p.value) for p in points] == [
        ("mlic", "psnr", 0.1, 29.0),
        ("mlic", "psnr", 0.2, 30.0),
    ]


def test_a_network_is_asked_for_and_never_guessed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"name": "My Codec", "results": {"bpp": [0.1], "lpips": [0.2], "encoding_time": [1]}}')
    with pytest.raises(
        HvqbenchError, match=r"'lpips' is not a metric.*--map lpips=lpips-alex \(lpips-unknown if nobody"
    ):
        import_curves([path], "there", dataset="kodak")
    (point,) = parse_points(import_curves([path], "x", dataset="kodak", names={"lpips": "lpips-unknown"}), "x")
    assert (point.codec, point.metric) == ("My-Codec", "lpips-unknown")
    with pytest.raises(HvqbenchError, match="does not say which data set it is of: name it with --dataset"):
        import_curves([path], "there", names={"lpips": "lpips-unknown"})
    path.write_text('{"results": {"bpp": [0.1, 0.2], "psnr": [30]}}')
    with pytest.raises(HvqbenchError, match="psnr must be a list of 2 numbers"):
        import_curves([path], "there", dataset="kodak")


TENSORFLOW = """# Aggregate rate-distortion data for "WebP" on kodak.
# The first column contains bits per pixel (bpp) values.
# The second column contains PSNR/sRGB/Y' values.
#
# Notes:
#  1. Aggregate values were calculated by averaging over a constant QP value.

0.094243, 26.097750
0.148017, 27.350453
"""


def test_tensorflow_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "webp.txt"
    path.write_text(TENSORFLOW)
    points = parse_points(import_curves([path], "there", codec="webp@tf"), "x")
    assert [(p.codec, p.dataset, p.metric, p.bpp, p.value) for p in points] == [
        ("webp@tf", "kodak", "psnr-y", 0.094243, 26.09775),
        ("webp@tf", "kodak", "psnr-y", 0.148017, 27.350453),
    ]
    written = export_curves(["published:vtm"], "tensorflow", tmp_path / "out", dataset="kodak", metrics=["ms-ssim"])
    assert [str(p.relative_to(tmp_path / "out")) for p in written] == ["kodak/MS-SSIM_sRGB_RGB/vtm.txt"]
    curve = published_curve("vtm", "ms-ssim", "kodak")
    back = parse_points(import_curves(written, "there"), "x")
    assert [(p.codec, p.metric, p.bpp, p.value) for p in back] == [
        ("vtm", "ms-ssim", bpp, value) for bpp, value in zip(curve.bpp, curve.values, strict=True)
    ]
    path.write_text(TENSORFLOW + "0.2; 28\n")
    with pytest.raises(HvqbenchError, match=r"row 10: '0.2; 28' is not a pair"):
        import_curves([path], "there")


def test_codec_compare_there_and_back(catalog: Path, store: Path, tmp_path: Path) -> None:
    results = read_results(store)
    batch, index = export_curves(["new"], "codec-compare", tmp_path / "out", results)
    assert json.loads(index.read_text()) == [["toy/new.json"]]
    content = json.loads(batch.read_text())
    assert len(content["constant_values"]) == len(content["constant_descriptions"])
    assert {len(row) for row in content["field_values"]} == {len(content["field_descriptions"])}
    assert content["field_values"][0][:5] == ["a", 400, 300, 0, 750]
    back = parse_points(import_curves([batch], "there", dataset="toy"), "x")
    curve = results[results["status"] == "ok"].groupby("point")[["bpp", "psnr"]].mean()
    assert [(p.codec, p.metric) for p in back] == [("new", "psnr")] * 4
    assert [p.bpp for p in back] == pytest.approx(curve["bpp"].tolist())
    assert [p.value for p in back] == pytest.approx(curve["psnr"].tolist())
    with pytest.raises(HvqbenchError, match="published curve means only"):
        export_curves(["published:vtm"], "codec-compare", tmp_path / "out", dataset="kodak")


def test_codec_compare_gen_keeps_its_own_metrics_and_efforts_apart(tmp_path: Path) -> None:
    # Rows of codec-compare's demonstration, in the words of codec-compare-gen.
    fields = {
        "original_name": "Original image file name",
        "width": "Pixel columns",
        "height": "Pixel rows",
        "effort": "Compression effort parameter",
        "quality": "Compression quality parameter",
        "encoded_size": "Size of the encoded image file in bytes",
        "psnr": "Distortion metric Peak Signal-to-Noise Ratio (libwebp2 implementation).",
    }
    rows = [
        ["logo.png", 400, 265, 0, 0, 15246, 40.3415],
        ["source1.png", 640, 480, 0, 0, 21958, 28.4209],
        ["logo.png", 400, 265, 1, 0, 3608, 40.2984],
        ["source1.png", 640, 480, 1, 0, 18753, 28.4398],
    ]
    content = {
        "constant_descriptions": [{"name": "batch"}, {"codec": "codec"}],
        "constant_values": ["WebP", "libwebp"],
        "field_descriptions": [{name: text} for name, text in fields.items()],
        "field_values": rows,
    }
    path = tmp_path / "batch.json"
    path.write_text(json.dumps(content))
    first, second = parse_points(import_curves([path], "there", dataset="demo"), "x")
    assert (first.codec, first.metric, first.value) == ("libwebp-effort0", "psnr-libwebp2", (40.3415 + 28.4209) / 2)
    assert first.bpp == pytest.approx((8 * 15246 / (400 * 265) + 8 * 21958 / (640 * 480)) / 2)
    assert second.codec == "libwebp-effort1"
    content["field_values"] = [*rows, ["logo.png", 400, 265, 1, 10, 3758, 44.3144]]
    path.write_text(json.dumps(content))
    with pytest.raises(HvqbenchError, match=r"source1.png has no row at quality 10: add it"):
        import_curves([path], "there", dataset="demo")
    content["field_descriptions"][-1] = {"psnr": "Distortion metric Peak Signal-to-Noise Ratio."}
    path.write_text(json.dumps(content))
    with pytest.raises(HvqbenchError, match=r"'psnr' does not say which program computed it.*--map psnr=psnr-unknown"):
        import_curves([path], "there", dataset="demo")


def test_measured_curves_can_become_published_ones(catalog: Path, store: Path, tmp_path: Path) -> None:
    (path,) = export_curves(["new"], "csv", tmp_path / "out", read_results(store))
    points = read_points(path)
    assert [(p.codec, p.dataset, p.metric, p.value) for p in points] == [
        ("new", "toy", "psnr", value) for value in (24.0, 27.0, 30.0, 33.0)
    ]
    assert points[0].source.startswith("hvqbench ")


def test_unknown_formats_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("0.1 30")
    with pytest.raises(HvqbenchError, match="in none of the formats"):
        import_curves([path], "there")
    with pytest.raises(HvqbenchError, match="unknown format 'xls': choose one of csv, compressai"):
        export_curves(["published:vtm"], "xls", tmp_path)


# The command line


def test_commands(
    catalog: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*arguments: str | Path) -> tuple[int, str]:
        from hvqbench.cli import main

        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        written = capsys.readouterr()
        return int(caught.value.code or 0), written.out + written.err

    code, text = run("curves", "ls", "old", "h*fic")
    assert code == 0
    assert "old    toy: psnr; 4 points, 0.1 to 0.8 bpp\n       a paper 0123abc (file)\n" in text
    assert "tensorflow/compression models/hific/data.csv dda8cb4" in text
    assert len(json.loads(run("curves", "ls", "old", "--json")[1])) == 1
    assert run("bd", "--anchor", "published:old", "--metric", "psnr", "--results", store)[1].startswith(
        "new needs 50.0"
    )
    both = ("bd", "--anchor", "published:vtm", "--codec", "published:bpg", "--metric", "psnr", "--results", "nowhere")
    assert "bpg (published) needs 21.9" in run(*both, "--dataset", "kodak")[1]
    code, text = run("bd", "--anchor", "published:olt", "--metric", "psnr", "--results", store)
    assert (code, text.count("\n")) == (2, 1)
    assert "did you mean 'old'?" in text
    report = ("report", "--results", store, "--out", tmp_path / "r", "--published", "old")
    assert run(*report)[0] == 0
    assert "old (published)" in (tmp_path / "r" / "report.md").read_text()
    (tmp_path / "webp.txt").write_text(TENSORFLOW)
    monkeypatch.chdir(tmp_path)
    command = ("curves", "import", "webp.txt", "--source", "there", "--codec", "w", "--protocol", "file")
    assert run(*command)[1].startswith(",".join(COLUMNS))
    assert run(*command, "--out", "w.csv") == (0, "w.csv\n")
    assert "w.csv exists" in run(*command, "--out", "w.csv")[1]
    assert "is no NAME=METRIC" in run(*command, "--map", "psnr")[1]
    (tmp_path / "deep.json").write_text("[" * 100_000)
    assert "deep.json is in none of the formats" in run("curves", "import", "deep.json", "--source", "there")[1]
    export = ("curves", "export", "--codec", "new", "--format", "compressai", "--results", store, "--out", "out")
    assert run(*export) == (0, "out/toy/new.json\n")


def write(path: Path, *rows: list[str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return path
