"""Tables mark the best and the second, keep flags as footnotes, and compile; every number leads to its rows."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hvqbench.analysis.savings import architectures
from hvqbench.grid import text_of
from hvqbench.report import make_report
from hvqbench.report.latex import latex
from hvqbench.report.scope import ReportData, Scope
from hvqbench.report.sections import bd_rate, saving
from hvqbench.report.spec import FigureSpec, ReportSpec, Selection, TableSpec
from hvqbench.report.table import BEST, SECOND, Cell, Column, Heading, Table, markdown, plain_table, ranked


@pytest.fixture(scope="module")
def results() -> pd.DataFrame:
    """Three curves over eight images (b is 20 % below a, c 10 %), d far away, and one codec with a single point."""
    rows = []
    shares = {"a": 1.0, "b": 0.8, "c": 0.9, "d": 1.0, "one": 1.0}
    for (codec, share), point, image in itertools.product(shares.items(), range(5), range(8)):
        if codec == "one" and point:
            continue
        bpp = share * (0.1 + 0.1 * point) * (1 + 0.05 * image)
        psnr = 25.0 + 2 * point + image / 4 + (40 if codec == "d" else 0)
        place = {"dataset": "toy", "codec": codec, "point": float(point), "point_name": "q", "image": f"i{image}"}
        values = {"bytes": 8192 * bpp, "bpp": bpp, "psnr": psnr, "status": "ok", "reason": ""}
        rows.append(place | values | {"key": f"{codec}{point}{image}"})
    return pd.DataFrame(rows)


def bd(results: pd.DataFrame, *anchors: str) -> list[Table]:
    return list(bd_rate(TableSpec(kind="bd-rate"), Scope(ReportData(results), Selection(anchors=anchors))))


def test_bd_rates_have_intervals_ranks_and_reasons(results: pd.DataFrame) -> None:
    (table,) = bd(results, "a")
    assert table.headers == ("codec", "psnr ↓")
    cells = {row[0].text: row[1] for row in table.cells}
    assert cells.keys() == {"b", "c"}
    assert cells["b"].whole.startswith("−20.0 [−")
    assert cells["b"].kind == "better"
    assert (cells["b"].text, cells["b"].value) == ("−20.0", pytest.approx(-20, abs=0.05))
    assert (cells["b"].rank, cells["c"].rank) == (BEST, SECOND)
    assert table.outro == (
        "Without a number: d (`no_overlap`: the quality ranges do not overlap).",
        "Without a number: one (`too_few_points`: a curve has too few points to interpolate).",
    )
    text = markdown(table)
    assert "**−20.0" in text
    assert "<u>−10.0" in text


def test_a_value_over_little_common_quality_is_never_the_best(results: pd.DataFrame) -> None:
    shifted = results.copy()
    shifted.loc[shifted["codec"] == "b", "psnr"] += 5
    (table,) = bd(shifted, "a")
    cells = {row[0].text: row[1] for row in table.cells}
    assert "low_overlap" in cells["b"].notes
    assert cells["b"].rank == 0
    percent = table.frame.set_index("codec")["bd_rate_percent"]
    assert percent["b"] < percent["c"]
    assert "<sup>a</sup> `low_overlap`: less than 50%" in markdown(table)
    assert "\\textsuperscript{a}" in latex(table)


def test_each_anchor_has_its_table(results: pd.DataFrame) -> None:
    assert [table.name for table in bd(results, "a", "c")] == ["bd-rate-a", "bd-rate-c"]
    source = ReportData(results)
    list(bd_rate(TableSpec(kind="bd-rate"), Scope(source, Selection(anchors=("a", "vtm")))))
    assert list(source.missing) == ["anchor vtm: no results; `hvqbench run --codec vtm --dataset toy` makes them"]


def test_ranks_are_within_groups_and_none_where_nothing_is_compared() -> None:
    frame = pd.DataFrame({"set": ["x", "x", "x", "y", "z", "z"], "v": [1.0, 3.0, 2.0, 5.0, np.nan, 1.0]})
    assert ranked(frame, "v", True, ["set"]) == [0, 1, 2, 0, 0, 0]
    assert ranked(frame, "v", False) == [1, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("value", "decimals", "text"), [(-1.25, 1, "−1.2"), (np.nan, 2, "–"), (None, None, "–"), (3, None, "3")]
)
def test_numbers_for_readers(value: object, decimals: int | None, text: str) -> None:
    assert text_of(value, decimals) == text


def test_vq_codecs_are_grouped_by_their_tokenizer() -> None:
    found = architectures(["fixed-vq", "hypervq", "huffman-vq", "fixed-vq-large", "hypervq-large", "jpeg", "mine"])
    assert found == {
        "f16-k1024": ("fixed-vq", ["hypervq", "huffman-vq"]),
        "f16-k16384": ("fixed-vq-large", ["hypervq-large"]),
        "": ("fixed-vq", ["mine"]),
    }
    assert architectures(["hypervq", "hypervq-large", "fixed-vq-f8"]) == {}


def test_savings_are_against_the_fixed_length_of_the_same_tokenizer() -> None:
    sizes = {"fixed-vq": 1000, "hypervq": 800, "fixed-vq-large": 1400, "hypervq-large": 700}
    rows = [
        {"dataset": "toy", "codec": codec, "point": 0.0, "image": "a", "status": "ok", "bytes": size,
         "bytes.indices": size, "bpp": 0.1, "psnr": 20.0, "reconstruction_sha256": codec[-5:]}
        for codec, size in sizes.items()
    ]  # fmt: skip
    (table,) = saving(TableSpec(kind="saving"), Scope(ReportData(pd.DataFrame(rows)), Selection()))
    assert dict(zip(table.frame["codec"], table.frame["saved_percent"], strict=True)) == pytest.approx(
        {"hypervq": 20.0, "hypervq-large": 50.0}
    )


def test_claims_lead_to_the_rows_of_each_number(results: pd.DataFrame, tmp_path: Path) -> None:
    files = make_report(results, tmp_path, "a")
    content = json.loads(files.claims.read_text())
    by_place = {(c["table"], c["where"].get("codec"), c["where"].get("point")): c for c in content["claims"]}
    claim = by_place["bd-rate", "b", None]
    assert claim["values"]["bd_rate_percent"] == pytest.approx(-20, abs=0.05)
    assert set(claim["from"]) == {f"toy/{codec}/{point}" for codec in "ab" for point in range(5)}
    assert content["groups"]["toy/b/3"] == [f"b3{image}" for image in range(8)]
    mean = by_place["points", "c", 2.0]
    rows = results[results["key"].isin(content["groups"][mean["from"][0]])]
    assert mean["values"]["bpp"] == pytest.approx(rows["bpp"].mean())
    # Every number that is shown is a claim.
    shown = {round(v, 9) for c in content["claims"] for v in c["values"].values() if isinstance(v, float)}
    assert {round(v, 9) for v in pd.read_csv(tmp_path / "points.csv")["psnr"]} <= shown


def test_what_a_spec_asks_for_and_is_not_there_is_said_and_the_rest_made(results: pd.DataFrame, tmp_path: Path) -> None:
    spec = ReportSpec(
        title="Mine", codecs=("a", "b", "vtm"), datasets=("toy", "kodak"), metrics=("psnr", "dists"),
        formats=("svg",), published=("no-such",),
        figure=(FigureSpec(kind="rd", name="curves"), FigureSpec(kind="speed")),
        table=(TableSpec(kind="bd-rate", anchors=("a",)), TableSpec(kind="ablation", source=str(tmp_path / "no.csv"))),
    )  # fmt: skip
    files = make_report(results, tmp_path / "out", spec=spec)
    said = "\n".join(files.missing)
    for line in ("data set kodak", "codec vtm", "metric dists", "'no-such'", "figure speed", "no.csv does not exist"):
        assert line in said
    assert len(files.missing) == len(set(files.missing))
    assert [path.name for path in files.figures] == ["curves-toy.svg"]
    assert {"bd-rate.csv", "bd-rate.tex"} <= {path.name for path in files.tables}
    text = files.markdown.read_text()
    assert text.startswith("# Mine\n")
    assert all(f"- {line}" in text for line in files.missing)
    assert "| c  " not in text


def test_an_ablation_is_read_from_its_file(results: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "ablation.csv"
    path.write_text("variant,tokenizer,saved_percent\nfull,t,20.5\nno-bias,t,18.25\n")
    spec = ReportSpec(table=(TableSpec(kind="ablation", source=str(path)),))
    text = make_report(results, tmp_path / "out", spec=spec).markdown.read_text()
    assert "**20.50**" in text
    assert "<u>18.25</u>" in text


NASTY = Table(
    "nasty", "50 % of #1 & _more_ {x}", "", pd.DataFrame(), (Column("codec", "co_dec ↑"), Column("l", "λ", True)),
    (
        (Cell("a_b", BEST), Cell("−1.5", SECOND, ("flag",), detail="[−2, 3]")),
        (Cell("~^\\"), Cell("–")), (Cell("$"), Cell("–")),
    ),
    {"flag": "less than 50% & so_on"}, ("Without a number: x_y (`z`: 1 % of it).",),
)  # fmt: skip


def test_latex_is_booktabs_with_best_bold_and_flags_below() -> None:
    text = latex(NASTY)
    assert all(rule in text for rule in ("\\toprule", "\\midrule", "\\bottomrule", "\\label{tab:nasty}"))
    assert "\\textbf{a\\_b}" in text
    assert "\\underline{$-$1.5 [$-$2, 3]\\textsuperscript{a}}" in text
    assert "\\textsuperscript{a}~less than 50\\% \\& so\\_on." in text


def test_what_all_rows_say_is_said_in_the_caption() -> None:
    frame = pd.DataFrame({"dataset": ["toy"] * 3, "codec": list("abc"), "v": [1.0, 2.0, 3.0]})
    text = latex(plain_table("t", "Title", "", frame, {}))
    assert "\\caption{Title. All: dataset toy}" in text
    assert "dataset &" not in text


def test_latex_compiles(results: pd.DataFrame, tmp_path: Path) -> None:
    if not (engine := shutil.which("tectonic") or shutil.which("pdflatex")):
        pytest.skip("neither tectonic nor pdflatex is here: install texlive-latex-recommended")
    many = pd.DataFrame({"codec": [f"c_{i}" for i in range(60)], "x": np.arange(60.0)})
    tables = [
        *bd(results, "a"),
        NASTY,
        plain_table("long", "Long", "", many, {"x": Heading(decimals=2)}, best={"x": True}),
    ]
    for table in tables:
        (tmp_path / f"{table.name}.tex").write_text(latex(table))
    inputs = "\n".join(f"\\input{{{table.name}}}" for table in tables)
    document = "\\documentclass{article}\\usepackage[utf8]{inputenc}\\usepackage{booktabs,longtable}\n"
    (tmp_path / "main.tex").write_text(f"{document}\\begin{{document}}\n{inputs}\n\\end{{document}}\n")
    options = [] if engine.endswith("tectonic") else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run([engine, *options, "main.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "main.pdf").stat().st_size > 0
