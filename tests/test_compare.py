"""``hvqbench compare`` shows what decoders make of kept bytes, at matched rates, with the same detail enlarged."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

import hvqbench
from hvqbench import cli
from hvqbench.errors import HvqbenchError
from hvqbench.report.compare import Shot, shots
from hvqbench.report.sheet import Crop, find_detail, save_sheet, sheet_figure


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images, and results of JPEG at three points and WebP at two over them."""
    root = tmp_path_factory.mktemp("compare")
    (root / "images").mkdir()
    y, x = np.mgrid[:64, :96]
    for name, phase in {"first": 0.0, "second": 2.0}.items():
        waves = 127 + 90 * np.sin(x / 9 + phase) * np.cos(y / 7)
        noise = np.random.default_rng(3).integers(-30, 30, (64, 96)) * (x > 60) * (y > 30)
        pixels = np.clip(np.stack([waves + noise, waves, 255 - waves], 2), 0, 255).astype(np.uint8)
        PillowImage.fromarray(pixels).save(root / "images" / f"{name}.png")
    options = {"metrics": ["psnr"], "results": root / "results", "progress": False}
    hvqbench.run(["jpeg"], root / "images", points=[10, 40, 80], **options)
    hvqbench.run(["webp"], root / "images", points=[10, 60], **options)
    return root


@pytest.fixture(scope="module")
def kept(folder: Path) -> list[list[Shot]]:
    """What both codecs made of both images, from the kept streams."""
    return shots(["jpeg", "webp"], folder / "images", ["first", "second"], results=folder / "results")


def test_kept_streams_are_decoded_at_the_nearest_rates(folder: Path, kept: list[list[Shot]]) -> None:
    rows = hvqbench.read_results(folder / "results")
    row = kept[1]
    original, jpeg, webp = row
    assert (original.codec, original.pixels.shape) == ("", (64, 96, 3))
    assert {jpeg.how, webp.how} == {"kept"}
    own = rows[rows["image"] == "second"]
    gaps = [
        (abs(np.log(a / b)), p, q)
        for p, a in own.loc[own["codec"] == "jpeg", ["point", "bpp"]].to_numpy()
        for q, b in own.loc[own["codec"] == "webp", ["point", "bpp"]].to_numpy()
    ]
    assert (jpeg.point, webp.point) == min(gaps)[1:]
    measured = own[(own["codec"] == "jpeg") & (own["point"] == jpeg.point)].iloc[0]
    assert hashlib.sha256(jpeg.pixels.tobytes()).hexdigest() != hashlib.sha256(original.pixels.tobytes()).hexdigest()
    assert jpeg.bpp == pytest.approx(measured["bpp"])
    assert jpeg.values == {"psnr": pytest.approx(measured["psnr"])}
    assert jpeg.values["psnr"] == pytest.approx(_psnr(original.pixels, jpeg.pixels), abs=1e-6)


def test_a_given_rate_or_point_is_encoded_where_it_is_not_kept(folder: Path) -> None:
    options = {"results": folder / "results"}
    (row,) = shots(["jpeg@40", "jpeg@55"], folder / "images", **options)  # type: ignore[arg-type]
    assert [(shot.point, shot.how) for shot in row[1:]] == [(40.0, "kept"), (55.0, "encoded")]
    (row,) = shots(["jpeg", "webp"], folder / "images", bpp=1.7, **options)  # type: ignore[arg-type]
    assert [shot.bpp for shot in row[1:]] == pytest.approx([1.7, 1.7], rel=0.11)


def test_what_was_made_of_other_pixels_is_not_shown(folder: Path, tmp_path: Path) -> None:
    """Another folder of the same name, whose first image has the second one's pixels."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "first.png").write_bytes((folder / "images" / "second.png").read_bytes())
    (row,) = shots(["jpeg@40"], tmp_path / "images", results=folder / "results")
    assert [shot.how for shot in row[1:]] == ["encoded"]


def test_without_results_a_rate_has_to_be_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(HvqbenchError, match=r"no kept stream to take a rate from: name one with --bpp 0\.1"):
        shots(["jpeg"], folder / "images", results=tmp_path)
    (row,) = shots(["jpeg"], folder / "images", bpp=2.0, results=tmp_path)
    assert row[1].how == "encoded"


def test_a_stream_that_another_process_decodes_to_something_else_is_refused(folder: Path, tmp_path: Path) -> None:
    codec = tmp_path / "codecs" / "unlike"
    codec.mkdir(parents=True)
    text = (Path(__file__).parents[1] / "codecs" / "webp" / "codec.toml").read_text()
    (codec / "codec.toml").write_text(text.replace('adapter = "pillow"\n', ""))
    (codec / "adapter.py").write_text(
        "import os\nfrom hvqbench.adapters.pillow import PillowCodec\n\n"
        "class Own(PillowCodec):\n    digest = lambda self, data, image: str(os.getpid())\n"
    )
    with pytest.raises(HvqbenchError, match="unlike: another process decodes the stream to something else; `hvqbench"):
        shots([f"{codec}@50"], folder / "images", results=tmp_path)
    declared = (codec / "codec.toml").read_text().replace("[protocol]\n", "[protocol]\nstochastic = true\n")
    (codec / "codec.toml").write_text(declared)
    (row,) = shots([f"{codec}@50"], folder / "images", results=tmp_path)
    assert row[1].how == "encoded"


def test_a_kept_stream_that_decodes_to_something_else_is_said_and_made_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    altered = hvqbench.read_results(folder / "results").assign(digest="0123abc")
    monkeypatch.setattr("hvqbench.report.compare.read_results", lambda path: altered)
    (row,) = shots(["jpeg@40"], folder / "images", ["second"], results=folder / "results")
    assert row[1].how == "encoded"
    assert capsys.readouterr().err == (
        "hvqbench: second: jpeg decodes its kept stream to something else: it is encoded again\n"
    )


def test_a_value_that_is_not_finite_is_infinity_or_a_dash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    PillowImage.new("RGB", (48, 48), (128, 128, 128)).save(tmp_path / "plain.png")  # too small for MS-SSIM
    place = ["--dataset", str(tmp_path / "plain.png"), "--results", str(tmp_path), "--metric", "psnr,ms-ssim"]
    assert _run("compare", "jpeg@90", *place, "--out", str(tmp_path / "sheet.png")) == 0
    assert "psnr ∞  ms-ssim –  (encoded)" in capsys.readouterr().out
    plain = np.full((48, 48, 3), 128, np.uint8)
    shot = Shot("plain", plain, "jpeg", "quality", 90.0, 1.0, {"psnr": np.inf, "ms-ssim": np.nan}, "encoded")
    captions = [text.get_text() for ax in sheet_figure([[Shot("plain", plain), shot]]).axes for text in ax.texts]
    assert "PSNR\xa0∞, MS-SSIM\xa0–" in captions


def test_the_detail_is_where_decodes_differ() -> None:
    flat = np.full((80, 120, 3), 100, np.uint8)
    other = flat.copy()
    other[48:64, 80:96] = 200
    crop = find_detail([flat, flat, other])
    assert crop.of(other).max() == 200
    assert (crop.of(other) == 200).all(2).sum() == 16 * 16
    assert crop.x + crop.side <= 120
    assert crop.y + crop.side <= 80


def test_a_sheet_shows_captions_within_their_columns(
    kept: list[list[Shot]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hvqbench.report.sheet.DPI", 75)  # 300 are many pixels to write
    figure = sheet_figure(kept, Crop(8, 8, 16))
    texts = [text for ax in figure.axes for text in ax.texts]
    assert [text.get_text() for text in texts if text.get_text() in ("original", "jpeg", "webp")] == (
        ["original", "jpeg", "webp"] * 2
    )
    assert any("PSNR" in text.get_text() for text in texts)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in texts]
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[n + 1 :])
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)
    # A row has three pictures, each with its detail in an inset.
    assert len(figure.axes) == 6
    assert all(ax.child_axes[0].images[0].get_array().shape == (16, 16, 3) for ax in figure.axes)
    first, second = save_sheet(figure, tmp_path / "a"), save_sheet(sheet_figure(kept, Crop(8, 8, 16)), tmp_path / "b")
    assert [path.name for path in first] == ["a.png", "a.pdf"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_map_is_shown_below_each_codec_and_its_scale_below_the_original(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = {"results": folder / "results", "maps": ["lpips-alex", "dists"]}
    (row,) = shots(["jpeg@10", "jpeg@80"], folder / "images", **place)  # type: ignore[arg-type]
    assert row[0].maps == {}
    assert list(row[1].maps) == ["lpips-alex", "dists"]
    assert all(shot.maps["lpips-alex"].shape == (64, 96) for shot in row[1:])
    assert row[1].maps["lpips-alex"].mean() > 2 * row[2].maps["lpips-alex"].mean()
    assert "maps" not in row[1].record()
    monkeypatch.setattr("hvqbench.report.sheet.DPI", 75)
    figure = sheet_figure([row])
    assert len(figure.axes) == 9  # three columns of a picture and two maps
    maps = [ax.images[0] for ax in figure.axes if ax.images and ax.images[0].get_array().ndim == 2]
    assert len(maps) == 4
    assert len({image.get_clim() for image in maps}) == 2  # one scale for each metric, whichever codec
    assert [t.get_text() for ax in figure.axes for t in ax.texts if "map of" in t.get_text()] == [
        "map of LPIPS (AlexNet)",
        "map of DISTS",
    ]
    figure.draw_without_rendering()
    texts = [text.get_window_extent() for ax in figure.axes for text in ax.texts]
    assert not any(one.overlaps(other) for n, one in enumerate(texts) for other in texts[n + 1 :])
    command = ["compare", "jpeg@10", "--dataset", str(folder / "images"), "--results", str(folder / "results")]
    assert _run(*command, "--map", "psnr", "--out", str(tmp_path / "a.png")) == 2
    assert "psnr has no map: choose one of lpips-alex, lpips-vgg, dists" in capsys.readouterr().err
    assert not (tmp_path / "a.png").exists()


def test_the_command_prints_what_is_shown(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--dataset", str(folder / "images"), "--results", str(folder / "results"), "--image", "first"]
    assert _run("compare", "jpeg", "webp", *place, "--out", str(tmp_path / "sheet.png")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["jpeg", "webp"]
    assert lines[2:] == [str(tmp_path / "sheet.png")]
    assert PillowImage.open(tmp_path / "sheet.png").width == 2148
    assert _run("compare", "jpeg@10", "jpeg@80", *place, "--out", str(tmp_path / "sheet.png")) == 0
    assert "times the bits of jpeg 1.1523 bpp, not like for like" in capsys.readouterr().err
    assert _run("compare", "jpeg", *place, "--out", str(tmp_path / "s.png"), "--json") == 0
    printed = capsys.readouterr()
    assert "not like for like" not in printed.err
    (record,) = json.loads(printed.out)
    assert (record["codec"], record["how"]) == ("jpeg", "kept")
    assert _run("compare", "jpeg@10,80", *place, "--out", str(tmp_path / "s.png")) == 0
    (warning,) = capsys.readouterr().err.splitlines()
    assert re.search(
        r"first: jpeg \d\.\d+ bpp is \d\.\d\d times the bits of jpeg .*; --bpp brings them nearer", warning
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["jpeg", "--image", "frist"], "has no image 'frist': did you mean 'first'"),
        (["jpeg@high"], "'high' is not a point; write points like hypervq@0,1.6"),
        (["jpge"], "unknown codec 'jpge'"),
        (["jpeg", "--crop", "1,2"], "--crop 1,2: write the detail as X,Y,SIDE"),
        (["jpeg", "--crop", "90,2,16"], "the detail 90,2,16 is not in images of 96x64"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: list[str], said: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--dataset", str(folder / "images"), "--results", str(folder / "results"), "--out", str(tmp_path / "x")]
    assert _run("compare", *arguments, *place) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def _psnr(original: np.ndarray, decoded: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((original.astype(float) - decoded) ** 2)))


def _run(*arguments: str) -> int:
    try:
        cli.main(list(arguments))
    except SystemExit as exit:
        return int(exit.code or 0)
    return 0
