"""Figures fit a column, cut nothing, cover nothing, and are the same bytes every time."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hvqbench.analysis import Curve
from hvqbench.errors import UnavailableError
from hvqbench.metrics import metric_info
from hvqbench.report.figures import rd_figure
from hvqbench.report.per_image import per_image_figure
from hvqbench.report.speed import speed_figure
from hvqbench.report.style import look, save_figure

PSNR = {"psnr": metric_info("psnr")}
NONE: frozenset[str] = frozenset()


def curve(codec: str, bpp: list[float], values: list[float], published: bool = False) -> Curve:
    points = tuple(range(len(bpp)))
    return Curve(codec, "toy", "psnr", points, np.array(bpp), np.array(values), ("a",), published=published)


@pytest.fixture
def apart() -> list[Curve]:
    rates = [0.1, 0.2, 0.4, 0.8]
    return [curve(f"codec-{k}", rates, [20 + 3 * k + i for i in range(4)], published=k == 3) for k in range(4)]


def spills(figure: Any) -> bool:
    """Whether something drawn lies beyond the page."""
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return bool(min(box.x0, box.y0) < -0.01 or box.x1 > width + 0.01 or box.y1 > height + 0.01)


def test_names_stand_at_their_curves_and_cover_nothing(apart: list[Curve]) -> None:
    figure = rd_figure({"psnr": apart}, PSNR, NONE)
    assert not figure.legends
    (ax,) = figure.axes
    assert {text.get_text(): text.get_color() for text in ax.texts} == {
        line.get_label(): line.get_color() for line in ax.lines
    }
    figure.draw_without_rendering()
    inside = ax.get_window_extent()
    labels = [text.get_window_extent() for text in ax.texts]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(labels, 2))
    for box in labels:
        assert inside.x0 <= box.x0 <= box.x1 <= inside.x1
        for line in ax.lines:
            assert not box.count_contains(ax.transData.transform(line.get_xydata()))


def test_where_names_have_no_room_there_is_a_legend() -> None:
    same = [curve(f"codec-{k}", [0.1, 0.2, 0.4], [20.0, 25.0, 30.0]) for k in range(4)]
    figure = rd_figure({"psnr": same}, PSNR, NONE)
    assert not figure.axes[0].texts
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [c.codec for c in same]


@pytest.mark.parametrize(("width", "inches"), [("single", 3.5), ("double", 7.16)])
def test_a_figure_is_as_wide_as_the_page_asks_and_nothing_is_cut(width: str, inches: float) -> None:
    rates = list(np.geomspace(0.01, 2, 6))
    metrics = ("psnr", "lpips-alex", "dists")
    many = {
        m: [curve(f"a-codec-of-long-name-{k}", rates, list(np.linspace(20 + k, 40 + k, 6))) for k in range(12)]
        for m in metrics
    }
    figure = rd_figure(many, {m: metric_info(m) for m in metrics}, NONE, width=width)
    assert figure.get_figwidth() == inches
    assert not spills(figure)
    assert len(figure.legends) == 1
    legend = [text.get_window_extent() for text in figure.legends[0].get_texts()]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(legend, 2))


def test_rates_are_logarithmic_only_where_their_range_asks_for_it() -> None:
    narrow, wide = curve("a", [0.1, 0.2, 0.3], [20, 21, 22]), curve("a", [0.02, 0.2, 2.0], [20, 21, 22])
    scales = [rd_figure({"psnr": [c]}, PSNR, NONE).axes[0].get_xscale() for c in (narrow, wide)]
    assert scales == ["linear", "log"]
    (ax,) = rd_figure({"psnr": [wide]}, PSNR, NONE, bpp=(0.1, 0.5)).axes
    assert ax.get_xlim() == (0.1, 0.5)
    assert ax.get_xscale() == "linear"
    assert ax.get_ylim()[0] < 21 < ax.get_ylim()[1]


def test_bands_are_shaded_and_single_points_have_bars() -> None:
    from hvqbench.analysis.bootstrap import Band

    line, point = curve("a", [0.1, 0.2], [20, 22]), curve("b", [0.3], [21])
    bands = {("psnr", c.codec): Band(c.bpp, c.values, c.values - 0.5, c.values + 0.5) for c in (line, point)}
    (ax,) = rd_figure({"psnr": [line, point]}, PSNR, NONE, bands=bands, labels="legend").axes
    shade, bar = ax.collections
    assert shade.get_paths()[0].get_extents().bounds == pytest.approx((0.1, 19.5, 0.1, 3.0))
    assert bar.get_segments()[0].tolist() == [[0.3, 20.5], [0.3, 21.5]]  # type: ignore[attr-defined]


def test_a_codec_looks_the_same_in_every_figure(apart: list[Curve]) -> None:
    order = ["x", "codec-2", "codec-0"]
    (ax,) = rd_figure({"psnr": apart[:3]}, PSNR, NONE, order=order).axes
    colours = {str(line.get_label()): line.get_color() for line in ax.lines}
    assert colours["codec-2"] == look(1).colour
    assert colours["codec-0"] == look(2).colour
    assert len({(look(n).colour, look(n).marker) for n in range(77)}) == 77


def test_dots_of_images_are_all_there_or_counted() -> None:
    values = np.concatenate([np.linspace(-20, 20, 40), [5000.0]])
    figure = per_image_figure({"a": values}, {"a": look(0)}, "jpeg", "PSNR", "single")
    (ax,) = figure.axes
    dots, median = ax.lines[:2]
    assert len(dots.get_xdata()) == 40  # type: ignore[arg-type]
    assert [text.get_text() for text in ax.texts] == ["1 beyond"]
    assert list(median.get_xdata()) == [np.median(values)] * 2  # type: ignore[arg-type]
    assert not spills(figure)


def test_speed_has_a_panel_each_for_encoding_and_decoding() -> None:
    rows = pd.DataFrame(
        [("a", -10.0, -12.0, -8.0, 2.0, 5.0), ("b", 0.0, np.nan, np.nan, 20.0, 50.0)],
        columns=["codec", "bd_rate_percent", "ci_low", "ci_high", "encode", "decode"],
    )
    figure = speed_figure(rows, {"a": look(0), "b": look(1)}, "b", "PSNR", "double")
    encode, decode = figure.axes
    assert [ax.get_xlabel() for ax in (encode, decode)] == ["encoding speed [MP/s] →", "decoding speed [MP/s] →"]
    points = {line.get_xydata()[0].tolist()[0] for line in decode.lines if line.get_marker() in "os"}
    assert points == {5.0, 50.0}
    assert not spills(figure)


SAVE = """
import sys
from pathlib import Path
import numpy as np
from hvqbench.analysis import Curve
from hvqbench.metrics import metric_info
from hvqbench.report.figures import rd_figure, save_figure

def save(stem):
    curves = [
        Curve(name, "toy", "psnr", (0, 1), np.array([0.1, 0.9]), np.array([20.0 + k, 30 + k]), ("a",))
        for k, name in enumerate("xyz")
    ]
    save_figure(rd_figure({"psnr": curves}, {"psnr": metric_info("psnr")}, frozenset("z")), stem, ["png", "pdf", "svg"])
"""


def test_the_same_curves_give_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    own: dict[str, Any] = {}
    exec(SAVE, own)  # here, and in a process of another order of sets
    own["save"](tmp_path / "here")
    # A user's own settings do not shine through.
    (tmp_path / "settings").write_text("font.size: 6\naxes.grid: True\n")
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    environment = os.environ | {"PYTHONHASHSEED": seed, "MATPLOTLIBRC": str(tmp_path / "settings")}
    script = f"{SAVE}\nsave(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", script, tmp_path / "there"], env=environment, check=True)
    for kind in ("png", "pdf", "svg"):
        assert (tmp_path / f"here.{kind}").read_bytes() == (tmp_path / f"there.{kind}").read_bytes(), kind
    pdf = (tmp_path / "here.pdf").read_bytes()
    assert b"/FontType 42" in pdf or b"/CIDFontType2" in pdf


def test_pgf_is_made_where_there_is_a_latex_and_refused_elsewhere(
    apart: list[Curve], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = rd_figure({"psnr": apart[:1]}, PSNR, NONE)
    if shutil.which("pdflatex"):
        (path,) = save_figure(figure, tmp_path / "f", ["pgf"])
        assert "\\begin{pgfpicture}" in path.read_text()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UnavailableError, match="pgf figures need pdflatex to measure text: install texlive"):
        save_figure(figure, tmp_path / "g", ["pgf"])
