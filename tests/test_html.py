"""The HTML report is one file that loads nothing, says what it holds, and says what is missing."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import hvqbench
from hvqbench.errors import HvqbenchError
from hvqbench.report.html import LIMIT, pictures, write_html
from hvqbench.report.html.pictures import Blobs, error_map, picture
from hvqbench.report.html.room import Room, make_room, near_points, spread
from hvqbench.report.names import Names
from hvqbench.report.spec import ReportSpec


class Reader(HTMLParser):
    """What a page has: its elements with their attributes, and the text of each table's rows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[str] = []
        self.text: list[str] = []
        self._ignored, self._in_row = 0, False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._ignored += tag in ("script", "style")
        self._in_row |= tag == "tr"
        if tag == "tr":
            self.rows.append("")

    def handle_endtag(self, tag: str) -> None:
        self._ignored -= tag in ("script", "style")
        self._in_row &= tag != "tr"

    def handle_data(self, data: str) -> None:
        if not self._ignored and data.strip():
            self.text.append(data.strip())
            if self._in_row:
                self.rows[-1] += f" {data.strip()}"

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def says(self) -> str:
        return " ".join(" ".join(self.text).split())


def _row(codec: str, point: float, image: str, size: float, **values: Any) -> dict[str, Any]:
    row = {"dataset": "toy", "codec": codec, "point": point, "point_name": "qp", "image": image, "status": "ok"}
    row |= {"reason": "", "width": 100, "height": 80, "bytes": size, "bpp": 8 * size / 8000, "version": "1.0"}
    row |= {"command": f"hvqbench run --codec {codec}", "started": "2026-01-02T03:04:05", "host": "h", "device": "cpu"}
    row |= {"reconstruction_sha256": f"{codec}{point}{image}", "metrics": "{}", "threads": 1, "jobs": 1}
    return row | values


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """Two codecs with curves over six images, which agree but for a factor of two in rate."""
    return [
        _row(codec, point, image, share * (200 + 100 * point) + ord(image), psnr=30.0 + point + ord(image) / 50)
        for codec, share in (("huffman-vq", 1.0), ("hypervq", 0.5))
        for point, image in itertools.product(range(4), "abcdef")
    ]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    def make(rows: list[dict[str, Any]], **options: Any) -> str:
        return write_html(pd.DataFrame(rows), tmp_path, **options).read_text(encoding="utf-8")

    return make


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_it_loads_nothing(rows: list[dict[str, Any]], write: Callable[..., str]) -> None:
    text = write(rows)
    page = Reader(text)
    for tag, attributes in page.elements:
        for name in ("src", "srcset", "poster", "data", "action"):
            assert name not in attributes or (attributes[name] or "").startswith("data:"), (tag, attributes)
        if tag == "link":
            assert (attributes["href"] or "").startswith("data:")
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style
    assert not re.search(r"@import|url\(", style[1])
    (policy,) = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert len(text.encode()) < 2_000_000


def test_every_control_has_a_name_and_every_reference_a_target(
    rows: list[dict[str, Any]], write: Callable[..., str]
) -> None:
    text = write(rows)
    page = Reader(text)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert page.all("html")[0]["lang"] == "en"
    for attributes in page.all("a"):
        assert (attributes["href"] or "").removeprefix("#") in ids
    for _, attributes in page.elements:
        for name in ("aria-labelledby", "for"):
            assert attributes.get(name) in (None, *ids)
        if attributes.get("role") in ("region", "group"):
            assert attributes.get("aria-label") or attributes.get("aria-labelledby")
    for head in page.all("th"):
        assert head["scope"] == "col"
    for content in re.findall(r"<button([^>]*)>(.*?)</button>", text, re.DOTALL):
        assert "aria-label" in content[0] or re.sub(r"<.*?>", "", content[1]).strip()


def test_curves_have_intervals_settings_and_image_counts(rows: list[dict[str, Any]], write: Callable[..., str]) -> None:
    curves = {curve["codec"]: curve for curve in data_of(write(rows))["datasets"]["toy"]["psnr"]}
    assert list(curves) == ["huffman-vq", "hypervq"]
    curve = curves["hypervq"]
    assert (curve["images"], curve["unit"], curve["points"]) == (6, "qp", [0, 1, 2, 3])
    mean = np.mean([ord(image) for image in "abcdef"])
    assert curve["values"] == pytest.approx([30 + mean / 50 + point for point in range(4)], rel=1e-5)
    assert curve["bpp"] == pytest.approx([(100 + 50 * p + mean) / 1000 for p in range(4)], rel=1e-5)
    for low, value, high in zip(curve["low"], curve["values"], curve["high"], strict=True):
        assert low < value < high


def test_tables_hold_bd_rates_with_intervals_points_with_commands_and_problems(
    rows: list[dict[str, Any]], write: Callable[..., str]
) -> None:
    rows += [_row("vtm", np.nan, "", np.nan) | {"status": "unavailable", "reason": "no <b>binary</b>: install VTM"}]
    rows += [_row("hypervq", 9, "a", np.nan) | {"status": "failed", "reason": "decoder disagrees"}]
    text = write(rows)
    page = Reader(text)
    (bd,) = [row for row in page.rows if row.startswith(" hypervq −")]
    assert re.search(r"−\d+\.\d \[−\d+\.\d, −\d+\.\d\]$", bd), bd
    assert "unavailable 1" in page.says
    assert "no <b>binary</b>: install VTM" in page.says  # as text, not as markup
    assert "decoder disagrees" in page.says
    copied = [attributes["data-copy"] for attributes in page.all("button") if "data-copy" in attributes]
    assert "hvqbench run --codec hypervq --dataset toy --points 2 --metric psnr" in copied
    assert "hvqbench run --codec hypervq" in copied  # as it was given
    assert "rows without result 2" in page.says
    assert {a["aria-sort"] for a in page.all("th") if "aria-sort" in a} == set()  # until a head is clicked


def _curves(**shares: float) -> list[dict[str, Any]]:
    """Codecs that agree in LPIPS but for the rate they need, of which each has its share; PSNR follows the rate."""
    rows = []
    for codec, share in shares.items():
        for point, image in itertools.product(range(4), "abcdef"):
            size = share * (200 + 100 * point) + ord(image)
            values = {"lpips-alex": 0.5 - 0.1 * point - ord(image) / 5000, "psnr": 20 + size / 100}
            rows.append(_row(codec.replace("_", "-"), point, image, size, **values))
    return rows


def _finding(text: str) -> str:
    found = re.search(r'<p class="finding"[^>]*>(.*?)</p>', text, re.DOTALL)
    return " ".join(re.sub("<.*?>", "", found[1]).replace("\u00a0", " ").split()) if found else ""


def test_it_begins_with_who_needs_fewer_bits_than_the_classic_codec_that_is_hardest_to_beat(
    write: Callable[..., str],
) -> None:
    rows = _curves(jpeg=4, vvenc=2, hypervq=1, huffman_vq=1.5)
    assert "PSNR" not in _finding(write(rows))
    for row in rows:
        row["psnr"] -= 3 * (row["codec"] == "hypervq")
    text = write(rows)
    said = _finding(text)
    found = re.match(
        r"hypervq needs (\d+) % fewer bits than vvenc at equal LPIPS on these images; vvenc keeps more PSNR, "
        r"3\.0 dB at equal rate\. BD-rate of the mean curves over 6 images of toy: −([\d.]+) %; "
        r"95 % interval −[\d.]+ to −[\d.]+ %; the curves share 100 % of their quality range\.$",
        said,
    )
    assert found, said
    assert abs(float(found[1]) - float(found[2])) < 0.6
    assert 35 < float(found[2]) < 50
    assert data_of(text)["opens"] == {"toy": "lpips-alex"}


def test_who_needs_more_bits_is_said_as_well(write: Callable[..., str]) -> None:
    assert re.match(r"hypervq needs \d+ % more bits than vvenc", _finding(write(_curves(vvenc=1, hypervq=2))))
    same = _curves(vvenc=1, hypervq=1)
    for number, row in enumerate(same):
        row["bytes"] += 3 * (-1) ** number
        row["bpp"] = row["bytes"] / 1000
    assert _finding(write(same)).startswith("hypervq and vvenc need about the same bits at equal LPIPS")


def test_where_no_qualities_meet_the_rates_may(write: Callable[..., str]) -> None:
    rows = _curves(vvenc=1, hypervq=1.2)
    for row in rows:
        row["lpips-alex"] -= 0.6 * (row["codec"] == "hypervq")
    said = _finding(write(rows))
    assert said.startswith("hypervq has a better LPIPS than vvenc at equal rate, by 0.5")
    assert "so there is no BD-rate" in said
    assert _finding(write([row for row in rows if row["point"] == 0])) == ""


def test_a_share_too_small_to_speak_for_the_curves_is_in_the_sentence_itself(write: Callable[..., str]) -> None:
    rows = _curves(vvenc=1, hypervq=0.5, huffman_vq=0.6)
    for row in rows:
        row["lpips-alex"] -= 0.299 * (row["codec"] == "hypervq")
    # hypervq needs fewest bits where it meets vvenc, but huffman-vq is the one that meets it.
    assert _finding(write(rows)).startswith("huffman-vq needs")
    alone = _finding(write([row for row in rows if row["codec"] != "huffman-vq"]))
    said = r"hypervq needs \d+ % fewer bits than vvenc at equal LPIPS on these images, but over less than 1 % of their "
    assert re.match(said, alone), alone
    for row in rows:
        row["lpips-alex"] += 0.05 * (row["codec"] == "hypervq")
    some = _finding(write([row for row in rows if row["codec"] != "huffman-vq"]))
    assert re.match(said.replace("less than 1", r"only \d+"), some), some
    assert "but over" not in _finding(write(_curves(vvenc=1, hypervq=0.5)))


def test_where_nothing_meets_it_says_that_nobody_wins_and_what_to_measure(write: Callable[..., str]) -> None:
    rows = _curves(jpeg=50, hypervq=1)
    for row in rows:
        row["lpips-alex"] += 0.6 * (row["codec"] == "hypervq")
    wanted = "share neither quality nor rate, so neither can be said to win: measure jpeg at lower rates or "
    text = write(rows)
    assert _finding(text).startswith(f"hypervq and jpeg {wanted}hypervq at higher rates. Of the mean curves of")
    assert f"hypervq and jpeg {wanted}hypervq at higher rates." in Reader(text.split('id="bd"')[1]).says
    named = write(rows, spec=ReportSpec(names={"hypervq": "Mine"}))
    assert _finding(named).startswith(f"Mine and jpeg {wanted}Mine at higher rates.")
    some = write(_curves(jpeg=50, hypervq=1))
    assert "share neither" not in some


def test_a_codec_looks_the_same_on_the_page_and_in_the_figures(write: Callable[..., str]) -> None:
    from hvqbench.report.html.marks import SHAPES
    from hvqbench.report.style import MARKERS, classic_codecs, looks

    rows = _curves(jpeg=4, vvenc=2, hypervq=1, huffman_vq=1.5)
    order = list(dict.fromkeys(row["codec"] for row in rows))
    shown = data_of(write(rows))["codecs"]
    for codec, look in looks(order, classic_codecs(order)).items():
        assert shown[codec]["colour"] == ("ink" if look.colour == "#000000" else look.colour)
        assert shown[codec]["shape"] == SHAPES[MARKERS.index(look.marker)]
    assert [codec for codec in shown if shown[codec]["kind"]] == ["jpeg", "vvenc"]


def test_the_room_opens_on_the_median_case() -> None:
    from hvqbench.report.html.finding import Finding
    from hvqbench.report.html.opening import median_case
    from hvqbench.report.html.page_pictures import Wanted

    def item(codec: str, point: float, image: str, bpp: float, quality: float | None) -> Wanted:
        return Wanted(image, codec, point, {"bpp": bpp, "lpips-alex": quality})

    finding = Finding("", "", "new", "old", "lpips-alex")
    gains = {"best": 0.3, "fair": 0.2, "even": 0.1, "bad": 0.0, "worst": -0.4}
    wanted = [item("new", 1, image, 0.1, 0.5 - gain) for image, gain in gains.items()]
    wanted += [item("new", 2, image, 9.0, 0.0) for image in gains]
    wanted += [item("old", 7, image, 0.11, 0.5) for image in gains] + [
        item("old", 8, image, 0.9, 0.1) for image in gains
    ]
    opening = median_case(wanted, finding, Names())
    assert opening
    assert (opening.image, opening.codec, opening.point, opening.rival) == ("even", "new", 1, "old")
    assert "the median of 5 images" in opening.says
    assert median_case([item("new", 1, "a", 0.1, None)], finding, Names()) is None
    assert median_case(wanted[:5], finding, Names()) is None


def test_a_spec_says_what_things_are_called_and_the_ids_stay_to_be_found(
    rows: list[dict[str, Any]], write: Callable[..., str]
) -> None:
    """Of all that a reader sees; commands, provenance and the column of ids in the table of codecs are ids."""
    entries = {"hypervq": "HyperVQ (ours)", "huffman-vq": "Huffman", "psnr": "Fidelity", "toy": "Toys"}
    text = write(rows, spec=ReportSpec(names=entries))
    page = Reader(text)
    assert "HyperVQ (ours) needs 39 % fewer bits than Huffman at equal Fidelity" in page.says
    assert "6 images of Toys" in page.says
    assert re.search(r"BD-rate of HyperVQ \(ours\) against Huffman \S+ % Fidelity, 95 % interval", page.says)
    assert "BD-rate against Huffman" in page.says
    points = [row for row in page.rows if "Copy command" in row]
    assert len(points) == 8
    assert all(re.match(r" (HyperVQ \(ours\)|Huffman) ", row) for row in points)
    assert "hvqbench run --codec hypervq" in points[-1]
    codecs = next(n for n, row in enumerate(page.rows) if row == " codec called what it is fingerprint rows")
    assert [row.split()[0] for row in page.rows[codecs + 1 : codecs + 3]] == ["huffman-vq", "hypervq"]
    assert page.rows[codecs + 2].startswith(" hypervq HyperVQ (ours) ")
    data = data_of(text)
    assert data["names"] == entries
    assert data["metrics"]["psnr"]["title"] == "Fidelity"
    assert {curve["codec"] for curve in data["datasets"]["toy"]["psnr"]} == {"hypervq", "huffman-vq"}  # keys are ids
    plain = write(rows)
    assert data_of(plain)["names"] == {}
    assert " codec what it is fingerprint rows" in Reader(plain).rows


def test_no_result_says_how_to_get_one(write: Callable[..., str]) -> None:
    page = Reader(write([]))
    assert "No results yet" in page.says
    assert "hvqbench run" in page.says
    assert not page.all("script")


def test_failed_rows_alone_say_that_there_is_no_curve(write: Callable[..., str]) -> None:
    failed = [_row("jpeg", 10, "a", np.nan, psnr=np.nan) | {"status": "failed", "reason": "out of paper"}]
    page = Reader(write(failed))
    assert "No curve: no codec finished an image of toy" in page.says
    assert "out of paper" in page.says
    assert "chart" not in [a.get("id") for _, a in page.elements]


def test_one_point_has_no_bd_rate_and_says_so(rows: list[dict[str, Any]], write: Callable[..., str]) -> None:
    text = write([row for row in rows if row["point"] == 0])
    assert "Without a number: hypervq (too_few_points: " in Reader(text).says
    assert [len(curve["bpp"]) for curve in data_of(text)["datasets"]["toy"]["psnr"]] == [1, 1]


def test_a_codec_without_overlap_says_so(rows: list[dict[str, Any]], write: Callable[..., str]) -> None:
    for row in rows:
        row["ms-ssim"] = row["psnr"] / 50
        if row["codec"] == "hypervq":
            row["psnr"] += 20
    page = Reader(write(rows))
    (bd,) = [row for row in page.rows if row.startswith(" hypervq no overlap")]
    assert "−38.5 [" in bd  # of the other metric


def test_published_curves_are_dotted_and_an_unknown_one_is_said(
    rows: list[dict[str, Any]], write: Callable[..., str]
) -> None:
    for row in rows:
        row |= {"dataset": "kodak", "bpp": 2 * row["bpp"]}
    text = write(rows, published=["vtm*"], anchor="hypervq")
    codecs = data_of(text)["codecs"]
    published = [name for name in codecs if name.endswith("(published)")]
    assert published
    assert {codecs[name]["kind"] for name in published} == {"published"}
    assert "BD-rate against hypervq" in Reader(text).says


def test_the_same_results_give_the_same_file(rows: list[dict[str, Any]], write: Callable[..., str]) -> None:
    assert write(rows) == write([dict(row) for row in rows])


def test_a_place_that_cannot_be_written_is_one_line(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HvqbenchError, match=r"cannot write .*choose another place"):
        write_html(pd.DataFrame(rows), tmp_path / "file" / "report.html")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run: JPEG and WebP, which do not restore the same pixels, over three images."""
    folder = tmp_path_factory.mktemp("store")
    hvqbench.run(["jpeg", "webp"], "sample", metrics=["psnr"], points=[10, 50], limit=3, results=folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tests of one store share their pictures, made once."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HVQBENCH_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def whole(store: Path, cache: Path) -> tuple[Room, Blobs]:
    """The room with all pictures."""
    blobs = Blobs(8_000_000)
    return make_room(hvqbench.read_results(store), "sample", ["psnr"], store, blobs), blobs


def test_pictures_are_those_that_were_measured(store: Path, whole: tuple[Room, Blobs], tmp_path: Path) -> None:
    results = hvqbench.read_results(store)
    room, blobs = whole
    assert len(room.images) == 3
    assert len(room.decodes) == 3 * 2 * 2
    assert room.notes == []
    originals = {image["name"]: image for image in room.images}
    for decode in room.decodes:
        shown, original = (
            np.asarray(Image.open(io.BytesIO(base64.b64decode(blobs.texts[key]))).convert("RGB"), float)
            for key in (decode["src"], originals[decode["image"]]["src"])
        )
        psnr = 10 * np.log10(255**2 / np.mean((shown - original) ** 2))
        assert psnr == pytest.approx(decode["metrics"]["psnr"], abs=1.5)
    again = Blobs(8_000_000)
    assert make_room(results, "sample", ["psnr"], None, again).decodes == []
    for path in (store / "_streams").rglob("*.bin"):
        assert path.is_file()
    assert make_room(results, "sample", ["psnr"], tmp_path, again).decodes == room.decodes  # from the cache


def test_the_median_image_is_in_a_room_that_is_too_small_for_all(store: Path, whole: tuple[Room, Blobs]) -> None:
    from hvqbench.report.html.finding import Finding

    results = hvqbench.read_results(store)
    finding = Finding("", "", "webp", "jpeg", "psnr")
    full = make_room(results, "sample", ["psnr"], store, Blobs(8_000_000), finding)
    assert full.opening
    assert full.opening["image"] in {image["name"] for image in full.images}
    small = make_room(results, "sample", ["psnr"], store, Blobs(whole[1].size * 3 // 4), finding)
    assert small.opening == full.opening
    assert len(small.images) < 3
    absent = Finding("", "", "webp", "vvenc", "psnr")
    assert make_room(results, "sample", ["psnr"], store, Blobs(8_000_000), absent).opening is None


def test_what_does_not_fit_is_left_out_and_said(
    store: Path, whole: tuple[Room, Blobs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = hvqbench.read_results(store)
    blobs = Blobs(whole[1].size * 3 // 4)
    room = make_room(results, "sample", ["psnr"], store, blobs)
    assert 0 < len(room.images) < 3
    assert blobs.size <= blobs.budget
    assert room.notes == [
        f"In this file: {len(room.images)} of 3 images, spread over the data set; the others are left out for the "
        "file's size."
    ]
    with monkeypatch.context() as patch:
        patch.setattr(hvqbench.report.html.room, "POINTS", 1)
        few = make_room(results, "sample", ["psnr"], store, Blobs(8_000_000))
    assert few.notes == [  # the size had nothing to do with it
        "In this file: 2 of 4 operating points, at most 1 of a codec: those that most other codecs come near to in "
        "rate."
    ]
    monkeypatch.setattr(hvqbench.report.html, "LIMIT", 1_500_000)
    path = write_html(results, tmp_path / "small.html", streams=store)
    assert path.stat().st_size <= 1_500_000 < LIMIT


def test_bitstreams_that_are_gone_are_said(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVQBENCH_CACHE", str(tmp_path / "cache"))
    room = make_room(hvqbench.read_results(store), "sample", ["psnr"], tmp_path / "nothing", Blobs(8_000_000))
    assert room.decodes == []
    assert room.notes == ["jpeg: not all of its bitstreams were kept.", "webp: not all of its bitstreams were kept."]


def test_a_large_picture_is_cut_and_not_made_smaller() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    shown = Image.open(io.BytesIO(picture(image)))
    assert shown.size == (60, 40)

    class File:
        def read(self) -> Any:
            return np.zeros((pictures.SIDE + 100, 50, 3), np.uint8)

    original = pictures.Original(File())  # type: ignore[arg-type]
    marked = np.zeros((pictures.SIDE + 100, 50, 3), np.uint8)
    marked[50] = 255
    assert original.cut(marked).shape == (pictures.SIDE, 50, 3)
    assert original.cut(marked)[0].min() == 255


def test_error_map_is_dark_where_nothing_differs_and_bright_where_much_does() -> None:
    image = np.full((30, 50, 3), 100, np.uint8)
    other = image.copy()
    other[:, 25:] = 200
    shown = np.asarray(Image.open(io.BytesIO(error_map(image, other))).convert("RGB"), int)
    assert shown.shape == (8, 13, 3)
    assert shown[0, 0].sum() < 30
    assert shown[0, -1].sum() > 500


class _Bright:
    """Stands in for a metric's map: bright where the decode is, dark elsewhere."""

    def __init__(self) -> None:
        from hvqbench.metrics import metric_info

        self.info, self.calls = metric_info("dists"), 0

    def map(self, original: Any, decoded: Any) -> Any:
        self.calls += 1
        values = np.zeros(original.shape[:2], np.float32)
        values[:, original.shape[1] // 2 :] = 0.5
        return values


def test_maps_of_metrics_are_made_once_and_shown_beside_the_error(
    store: Path, whole: tuple[Room, Blobs], tmp_path: Path
) -> None:
    results, mapper = hvqbench.read_results(store), _Bright()
    blobs = Blobs(8_000_000)
    room = make_room(results, "sample", ["psnr"], store, blobs, maps={"dists": mapper})  # type: ignore[dict-item]
    assert [list(decode["maps"]) for decode in room.decodes] == [["error", "dists"]] * 12
    assert [list(decode["maps"]) for decode in whole[0].decodes] == [["error"]] * 12
    data = base64.b64decode(blobs.texts[room.decodes[0]["maps"]["dists"]])
    shown = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), int).sum(2)
    assert shown[:, 0].max() < 30
    assert shown[:, -1].min() > 500
    assert mapper.calls == 12
    again = make_room(results, "sample", ["psnr"], tmp_path, Blobs(8_000_000), maps={"dists": mapper})  # type: ignore[dict-item]
    assert again.decodes == room.decodes
    assert mapper.calls == 12  # the others came from the cache
    mapper.info = replace(mapper.info, version="9")
    make_room(results, "sample", ["psnr"], store, Blobs(8_000_000), maps={"dists": mapper})  # type: ignore[dict-item]
    assert mapper.calls == 24
    mapper.info = replace(mapper.info, version="10", minimum_side=10_000)
    small = make_room(results, "sample", ["psnr"], store, Blobs(8_000_000), maps={"dists": mapper})  # type: ignore[dict-item]
    assert [list(decode["maps"]) for decode in small.decodes] == [["error"]] * 12
    assert len([note for note in small.notes if "is too small for a map of DISTS" in note]) == 3


def test_points_nearest_to_the_others_are_chosen() -> None:
    rates = {"low": {1.0: 0.02, 2.0: 0.03}, "high": {float(p): 0.02 * 2**p for p in range(8)}}
    assert near_points(rates)["high"] == [0.0, 1.0, 2.0]
    assert near_points({"alone": {1.0: 0.5}}) == {"alone": [1.0]}


def test_images_are_spread() -> None:
    names = [f"{i:02}" for i in range(24)]
    assert sorted(spread(names)) == names
    first = sorted(int(name) for name in spread(names)[:4])
    assert min(np.diff(first)) >= 4
    assert spread(["only"]) == ["only"]
    assert spread([]) == []
