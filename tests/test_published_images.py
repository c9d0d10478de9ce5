"""Published images: a curve that can be paired with a measured one, and whose two files cannot disagree."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hvqbench.analysis.bd import bd_rate
from hvqbench.analysis.estimands import per_image
from hvqbench.bench.reading import read_results, to_frame
from hvqbench.bench.store import Store
from hvqbench.catalog import CATALOG_VARIABLE
from hvqbench.cli import app
from hvqbench.curves import PublishedPoint, format_points, published_curve, published_points
from hvqbench.curves.images import parse_images, read_images
from hvqbench.curves.library import published_sets
from hvqbench.errors import HvqbenchError

ROOT = Path(__file__).parents[1]
HEADER = "codec,dataset,image,point,width,height,bpp,psnr,source,commit,protocol\n"
PSNR = [24.0, 27.0, 30.0, 33.0]
IMAGES = [f"photo{number}" for number in range(6)]


def line(image: str, point: int, bpp: float, psnr: float) -> str:
    return f"theirs,toy,{image},{point},400,300,{bpp!r},{psnr!r},their table,0123abc,file\n"


def table() -> str:
    """Six images at four points; the n-th image needs n + 1 times the bits of the first."""
    rows = itertools.product(enumerate(IMAGES), enumerate(PSNR))
    return HEADER + "".join(line(image, point, 0.1 * (n + 1) * 2**point, psnr) for (n, image), (point, psnr) in rows)


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "catalog"
    (folder / "reports" / "curves" / "images").mkdir(parents=True)
    (folder / "reports" / "curves" / "images" / "theirs.csv").write_text(table())
    monkeypatch.setenv(CATALOG_VARIABLE, str(folder))
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Results of ``new`` on the last five of the images and one more, at half the bits of ``theirs``."""
    store = Store(tmp_path / "results")
    store.open()
    images = enumerate([*IMAGES[1:], "extra"], 1)
    for (n, image), (point, psnr) in itertools.product(images, enumerate(PSNR)):
        row = {"dataset": "toy", "codec": "new", "point": float(point), "point_name": "q", "image": image}
        row |= {"status": "ok", "reason": "", "width": 400, "height": 300, "bytes": 1, "psnr": psnr}
        row |= {"bpp": 0.05 * (n + 1) * 2**point, "key": f"{point}{image}", "codec_fingerprint": "f"}
        row |= {"started": "2026-01-01T00:00:00", "metrics": "{}", "reconstruction_sha256": f"{point}{image}"}
        store.append(row)
    return tmp_path / "results"


def test_images_are_paired_by_name_and_give_an_interval(catalog: Path, store: Path) -> None:
    bd = bd_rate(read_results(store), "new", "published:theirs", "psnr")
    assert bd.images == 5
    assert bd.flags == ("images_differ", "published_images")
    assert bd.percent == pytest.approx(-50)
    # Every image needs half the bits, so no resample can differ; unpaired, image sizes would spread it.
    assert (bd.ci_low, bd.ci_high) == pytest.approx((-50, -50))
    of_images = per_image(read_results(store), "new", "published:theirs", "psnr")
    assert (of_images.images, of_images.fewer) == (5, 5)
    assert of_images.table["bd_rate_percent"].to_list() == pytest.approx([-50] * 5)


def test_without_a_common_image_the_means_are_compared(catalog: Path, store: Path) -> None:
    results = read_results(store)
    bd = bd_rate(results.assign(image="other " + results["image"]), "new", "published:theirs", "psnr")
    assert bd.flags == ("published",)
    assert np.isnan(bd.ci_low)


def test_one_image_by_image_and_one_of_means_are_compared_as_means(catalog: Path) -> None:
    points = [PublishedPoint("means", "toy", "psnr", 0.1 * 2**n, v, "x", "", "file") for n, v in enumerate(PSNR)]
    (catalog / "reports" / "curves" / "means.csv").write_text(format_points(points))
    bd = bd_rate(to_frame([]), "published:means", "published:theirs", "psnr", "toy")
    assert (bd.flags, bd.images) == (("published",), 0)
    assert bd.percent == pytest.approx(100 * (1 / 3.5 - 1))


def test_the_means_are_published_points(catalog: Path) -> None:
    own = [point for point in published_points() if point.codec == "theirs"]
    assert [(p.metric, p.value, p.source, p.commit, p.protocol) for p in own] == [
        ("psnr", value, "their table", "0123abc", "file") for value in PSNR
    ]
    assert [point.bpp for point in own] == pytest.approx([0.35, 0.7, 1.4, 2.8])
    result = CliRunner().invoke(app, ["curves", "ls", "theirs"])
    assert "4 points, 0.35 to 2.8 bpp, 6 images" in result.stdout


def test_a_mean_that_is_not_that_of_the_images_is_refused(catalog: Path) -> None:
    rates = [0.35, 0.7, 1.4, 2.8]
    place = catalog / "reports" / "curves" / "means.csv"
    points = [PublishedPoint("theirs", "toy", "psnr", r, v, "x", "", "file") for r, v in zip(rates, PSNR, strict=True)]
    place.write_text(format_points(points))
    assert len(published_curve("theirs", "psnr", "toy").images) == 6
    assert len([point for point in published_points() if point.codec == "theirs"]) == 4  # not twice
    place.write_text(format_points([*points[:3], PublishedPoint("theirs", "toy", "psnr", 2.8, 33.1, "x", "", "file")]))
    with pytest.raises(HvqbenchError, match="on toy: the mean psnr of its published images is not the published"):
        published_curve("theirs", "psnr", "toy")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("codec,dataset\n", "row 1: the header must be codec,dataset,image,point,width,height,bpp, then metrics"),
        (HEADER.replace("psnr", "lpips"), "row 1: unknown metric 'lpips'"),
        (HEADER, "holds no image"),
        (HEADER + line("", 0, 0.1, 30), "row 2: no image"),
        (HEADER + line("a", 0, 0.1, 30)[:-5] + "\n", "row 2: protocol ''"),
        (HEADER + "theirs,toy\n", "row 2: 2 cells instead of 11"),
        (HEADER + line("a", 0, -0.1, 30), "row 2: bpp -0.1 is not above 0"),
        (HEADER + line("a", 0, 0.1, -3), "row 2: psnr goes from 0 to inf, -3 does not"),
        (HEADER + line("a", 0, 0.1, 30).replace("400", "4.5"), "row 2: width '4.5' is not a number of pixels"),
        (HEADER + 2 * line("a", 0, 0.1, 30), "theirs on toy has a at 0 twice"),
        (HEADER + line("a", 0, 0.1, 30) + line("b", 1, 0.1, 30), "theirs on toy has no a at 1"),
        (HEADER + line("a", 0, 0.1, 30) + line("a", 1, 0.2, 31).replace("400", "401"), "has a in two sizes"),
        (HEADER + line("a", 0, 0.1, 30) + line("a", 1, 0.2, 31).replace("file", "payload"), "has two sources"),
    ],
)
def test_a_slip_is_one_line(text: str, message: str) -> None:
    with pytest.raises(HvqbenchError) as caught:
        parse_images(text, "a.csv")
    assert str(caught.value).startswith("a.csv")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_shipped_agrees_with_the_published_means() -> None:
    (afp_gic,) = [one for one in published_sets() if one.codec == "afp-gic"]
    assert (afp_gic.dataset, len(afp_gic.images), len(afp_gic.points)) == ("kodak", 24, 5)
    assert (afp_gic.pixels == 768 * 512).all()
    # Whole bytes, as its protocol says.
    assert afp_gic.bpp * 768 * 512 / 8 == pytest.approx((afp_gic.bpp * 768 * 512 / 8).round(), abs=0.05)
    for metric in afp_gic.values:
        curve = published_curve("afp-gic", metric, "kodak")
        assert len(curve.images) == 24
    assert published_curve("afp-gic", "lpips-alex", "div2k-valid").images == ()
    # Read by eye in the source.
    place = afp_gic.images.index("kodim13"), afp_gic.points.index(4.0)
    assert afp_gic.values["lpips-alex"][place] == pytest.approx(0.11099109798669815, rel=1e-5)
    assert afp_gic.bpp[place] == pytest.approx(0.3683675130208333, rel=1e-5)


def test_every_shipped_file_is_documented() -> None:
    documented = (ROOT / "docs" / "curves.md").read_text(encoding="utf-8")
    for path in sorted((ROOT / "reports" / "curves" / "images").glob("*.csv")):
        assert all(one.commit for one in read_images(path))
        assert f"| `images/{path.name}` |" in documented
