"""Captions stand alone, names are the author's, and published curves beside a part of a set are marked."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hvqbench.errors import HvqbenchError
from hvqbench.manifest import size_of, title_of
from hvqbench.report import ReportFiles, make_report
from hvqbench.report.captions import place
from hvqbench.report.names import Names
from hvqbench.report.spec import FigureSpec, ReportSpec, TableSpec, override, read_spec
from hvqbench.report.template import init_spec

NAMES = {"hypervq": "HyperVQ (ours)", "huffman-vq": "Huffman", "kodak": "Kodak", "lpips-alex": "LPIPS"}
SPEC = ReportSpec(
    formats=("svg", "pdf"),
    names=NAMES,
    figure=(FigureSpec(kind="rd"), FigureSpec(kind="per-image", codecs=("hypervq",)), FigureSpec(kind="ledger")),
    table=(TableSpec(kind="points"), TableSpec(kind="bd-rate")),
)


def rows(images: int, dataset: str = "kodak") -> pd.DataFrame:
    """Two VQ codecs and JPEG at four points over so many images."""
    made: list[dict[str, Any]] = []
    for (codec, share), point, image in itertools.product(
        (("huffman-vq", 1.0), ("hypervq", 0.8), ("jpeg", 3.0)), range(4), range(images)
    ):
        size = share * (1000 - 150 * point) + image
        values = {"psnr": 24.0 - point + image / 9, "lpips-alex": 0.3 + 0.05 * point - image / 99}
        place_of = {"dataset": dataset, "codec": codec, "point": float(point), "point_name": "L", "image": f"i{image}"}
        state = {"status": "ok", "reason": "", "bytes": size, "bpp": 8 * size / 65536, "command": "hvqbench run"}
        made.append(place_of | state | values | {"bytes.header": 9.0, "bytes.indices": size - 9})
    return pd.DataFrame(made)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ReportFiles:
    return make_report(rows(6), tmp_path_factory.mktemp("report"), "huffman-vq", ["hific"], spec=SPEC)


def tex(files: ReportFiles, name: str) -> str:
    return (files.markdown.parent / f"{name}.tex").read_text()


def test_a_figures_caption_has_what_where_of_how_many_the_interval_and_units(files: ReportFiles) -> None:
    caption = tex(files, "rd-kodak")
    for part in (
        "Rate-distortion curves of Huffman, HyperVQ (ours) and jpeg on Kodak (6 images): mean PSNR (RGB) in dB (higher",
        "LPIPS (lower is better)",
        "bits per pixel of the original (bpp)",
        r"95 \% interval of the mean over images",
        "Dashed: jpeg",
        "Dotted: hific, as published by others",
        "measured: 6 of 24 images; published (dotted): all 24",
        r"\includegraphics{rd-kodak}",
        r"\label{fig:rd-kodak}",
        r"\begin{figure*}",
    ):
        assert part in caption
    per_image = tex(files, "per-image-kodak-psnr")
    assert "BD-rate of each image against Huffman at equal PSNR (RGB), in per cent, on Kodak (6 images)" in per_image
    assert "on Kodak (6 images), in bits per pixel" in tex(files, "ledger-kodak")
    assert caption.split(r"\caption{")[1].split("}\n")[0].replace("\\%", "%") in files.markdown.read_text()


def test_a_tables_caption_is_complete_too(files: ReportFiles) -> None:
    bd = tex(files, "bd-rate")
    assert r"\caption{BD-rate against Huffman. Change of rate at equal quality in per cent" in bd
    assert r"95 \% interval, of resampled images" in bd
    assert "On Kodak (6 images)}" in bd
    points = tex(files, "points")
    assert "On Kodak (6 images). Units: psnr in dB, bpp is bits per pixel" in points
    few = make_report(rows(2), files.markdown.parent / "few", spec=SPEC)
    assert "Here there is no interval: there are fewer than 5 images. On Kodak (2 images)" in tex(few, "bd-rate")
    assert "No interval: there are fewer than 5 images." in tex(few, "rd-kodak")


def test_a_caption_has_the_reason_that_holds_and_the_data_set_once(tmp_path: Path) -> None:
    results = rows(6, "My photos")
    made = make_report(results[results["point"] == 0], tmp_path, "jpeg", spec=SPEC)
    caption = tex(made, "bd-rate").split(r"\caption{")[1].split("\n")[0]
    assert "no interval" not in caption  # there is no number that could have one
    assert caption.count("My photos") == 1
    near = rows(6).assign(psnr=lambda frame: frame["psnr"] + 12)  # where the published curve is
    published = make_report(near, tmp_path, "published:vtm", spec=ReportSpec(formats=("svg",), codecs=("jpeg",)))
    caption = tex(published, "bd-rate").split(r"\caption{")[1].split("\n")[0]
    assert "fewer than 5" not in caption
    assert r"no interval: published curves are of means, with no images to resample. On kodak (6 images)" in caption


def test_latex_has_no_table_without_a_row(tmp_path: Path) -> None:
    results = rows(2)
    (tmp_path / "problems.tex").write_text("of an earlier report")
    files = make_report(results[results["point"] == 0], tmp_path, "jpeg", spec=SPEC)
    bd = tex(files, "bd-rate")
    assert re.search(r"^HyperVQ \(ours\) & --\\textsuperscript\{\w\} & --\\textsuperscript\{\w\}", bd, re.MULTILINE), bd
    assert "too few points to interpolate" in bd
    assert not (tmp_path / "problems.tex").exists()
    assert tmp_path / "problems.tex" not in files.tables
    assert tmp_path / "problems.csv" in files.tables
    assert "What did not run" not in files.markdown.read_text()


def test_names_are_in_figures_and_tables_and_ids_in_csv_and_claims(files: ReportFiles) -> None:
    folder = files.markdown.parent
    drawn = (folder / "rd-kodak.svg").read_text()
    assert "HyperVQ (ours)" in drawn
    assert ">LPIPS ↓<" in drawn
    assert ">hypervq<" not in drawn
    text = files.markdown.read_text()
    assert "## BD-rate against Huffman" in text
    assert re.search(r"^\| HyperVQ \(ours\) ", text, re.MULTILINE)
    assert set(pd.read_csv(folder / "bd-rate.csv")["codec"]) == {"hypervq", "jpeg", "hific (published)"}
    where = [claim["where"] for claim in json.loads(files.claims.read_text())["claims"]]
    assert {place["codec"] for place in where if "codec" in place} >= {"hypervq", "huffman-vq", "jpeg"}


def test_published_curves_beside_a_part_of_the_set_are_marked_in_the_figure(files: ReportFiles, tmp_path: Path) -> None:
    note = "measured: 6 of 24 images; published (dotted): all 24"
    assert note in (files.markdown.parent / "rd-kodak.svg").read_text()
    for results, published in ((rows(24), ["hific"]), (rows(6), [])):
        make_report(results, tmp_path, published=published, spec=SPEC)
        assert "measured:" not in (tmp_path / "rd-kodak.svg").read_text()


def test_points_of_the_spec_and_of_a_figure_are_the_only_ones_and_claims_say_so(tmp_path: Path) -> None:
    spec = ReportSpec(
        formats=("svg",),
        codecs=("hypervq@0,1", "huffman-vq"),
        table=(TableSpec(kind="points"), TableSpec(kind="bd-rate", codecs=("hypervq@1,2,3",), anchors=("huffman-vq",))),
    )
    files = make_report(rows(6), tmp_path, spec=spec)
    points = pd.read_csv(tmp_path / "points.csv")
    assert points.groupby("codec")["point"].apply(list).to_dict() == {"huffman-vq": [0, 1, 2, 3], "hypervq": [0, 1]}
    assert list(pd.read_csv(tmp_path / "bd-rate.csv")["codec_points"]) == [3, 3]
    claims = json.loads(files.claims.read_text())["claims"]
    bd = next(claim for claim in claims if claim["table"] == "bd-rate")
    assert [name for name in bd["from"] if "hypervq" in name] == [f"kodak/hypervq/{point}" for point in (1, 2, 3)]


def test_options_go_before_the_spec_everywhere() -> None:
    spec = override(SPEC, codecs=["jpeg"], datasets=[], metrics=("psnr",))
    assert spec.codecs == ("jpeg",)
    assert {item.codecs for item in (*spec.figure, *spec.table)} == {("jpeg",)}
    assert {item.metrics for item in (*spec.figure, *spec.table)} == {("psnr",)}
    assert spec.datasets == ()
    assert spec.names == NAMES


def test_names_are_words_of_their_own() -> None:
    names = Names({"vtm": "VTM", "jpeg": "JPEG", "jpeg-444": "J4"})
    assert names("jpeg") == "JPEG"
    assert names.text("jpeg, jpeg-444, jpeg2000, vtm (published), `jpeg`, xjpeg: jpeg.") == (
        "JPEG, J4, jpeg2000, VTM (published), `jpeg`, xjpeg: JPEG."
    )
    assert Names().text("jpeg") == "jpeg"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('names = "x"', "write it as a table"),
        ("[names]\njpeg = 1", "set it to text in quotes"),
        ('[names]\na = "X"\nb = "X"', "two are called 'X'"),
    ],
)
def test_wrong_names_are_one_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(HvqbenchError, match=f"bad.toml: names.*{said}"):
        read_spec(tmp_path / "bad.toml")


def test_a_template_holds_what_the_results_have_and_makes_a_report_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = pd.concat([rows(6), rows(2, "toy")], ignore_index=True)
    monkeypatch.setattr("hvqbench.bench.read_results", lambda path: results)
    path = init_spec(tmp_path / "new" / "paper.toml", tmp_path, anchor="hypervq")
    text = path.read_text()
    assert re.search(r"^#   jpeg +on kodak: L 0, 1, 2, 3; 6 images$", text, re.MULTILINE)
    spec = read_spec(path)
    assert (spec.codecs, spec.datasets) == (("huffman-vq", "hypervq", "jpeg"), ("kodak", "toy"))
    assert (spec.metrics, spec.anchors) == (("psnr", "lpips-alex"), ("hypervq",))
    assert spec.names["lpips-alex"] == "LPIPS (AlexNet)"
    assert (spec.names["kodak"], spec.names["toy"]) == (title_of("kodak"), "toy")
    assert title_of("kodak") != "kodak"
    shown = re.sub(r"^# (published = |\"hific\" = )", r"\1", text, flags=re.MULTILINE)
    (tmp_path / "shown.toml").write_text(shown)
    with_published = read_spec(tmp_path / "shown.toml")
    assert "hific" in with_published.published
    assert with_published.names["hific"] == "hific"
    assert [item.kind for item in spec.figure] == ["rd", "per-image", "ledger"]
    assert [item.kind for item in spec.table] == ["points", "bd-rate"]
    assert not make_report(results, tmp_path / "out", spec=spec).missing
    with pytest.raises(HvqbenchError, match="exists: choose another name"):
        init_spec(path, tmp_path)
    with pytest.raises(HvqbenchError, match=r"let it end in \.toml"):
        init_spec(tmp_path / "paper", tmp_path)
    with pytest.raises(HvqbenchError, match="codec jpge: no results; did you mean 'jpeg'"):
        init_spec(tmp_path / "other.toml", tmp_path, ["jpge"])
    some = read_spec(init_spec(tmp_path / "some.toml", tmp_path, ["classic@0,1"], ["toy"], ["lpips"]))
    assert (some.codecs, some.datasets, some.metrics) == (("classic@0,1",), ("toy",), ("lpips-alex",))


def test_a_template_asks_for_no_figure_that_the_results_cannot_draw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = rows(6)
    apart.loc[apart["codec"] == "jpeg", "psnr"] += 40  # no quality in common, but in LPIPS
    apart = apart[apart["codec"] != "huffman-vq"]
    for name, results, metrics in (
        ("some", apart, [("lpips-alex",)]),
        ("none", apart.drop(columns="lpips-alex"), []),
    ):
        monkeypatch.setattr("hvqbench.bench.read_results", lambda path, results=results: results)
        spec = read_spec(init_spec(tmp_path / f"{name}.toml", tmp_path, anchor="jpeg"))
        assert [item.metrics for item in spec.figure if item.kind == "per-image"] == metrics
        assert not make_report(results, tmp_path / name, spec=spec).missing


def test_places() -> None:
    assert [place("kodak", counts) for counts in ([], [0], [1], [24, 24])] == (
        ["kodak", "kodak", "kodak (1 image)", "kodak (24 images)"]
    )
    assert (size_of("kodak"), size_of("my pictures")) == (24, None)
